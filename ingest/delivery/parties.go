package delivery

import (
	"cmp"
	"slices"
	"sync"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// maxAbsent bounds the customers that are remembered as absent from the API.
const maxAbsent = 1 << 14

// parties is the table of the customers and accounts that rows in flight name. For a party that
// is not known yet, one row goes alone, its leader: it nests what is new, or asks the API. The
// other rows of that party wait for what it brings back; rows of other parties never wait. An
// entry lives while rows name it, so the table is as small as the look-ahead; what was learnt is
// in the ledger. It may be used concurrently.
//
// A row that goes ahead holds all the leads that it needs, or none. So no two rows wait for each
// other.
type parties struct {
	mu      sync.Mutex
	entries map[ledger.PartyRef]*party
	// absent are customers that the API did not have when it was asked in this run. They outlive
	// their entries, so that the API is asked once.
	absent map[ledger.PartyRef]struct{}
}

// party is one customer or account while rows name it. Guarded by parties.mu.
type party struct {
	ref     ledger.PartyRef
	id      string   // "" = not known
	owner   string   // of an account: the id of its customer; "" = not known
	old     bool     // it was known before the file that brought the entry
	asked   bool     // the API was asked for it, and no body that nests it was sent since
	loaded  bool     // the ledger was asked
	leader  *lease   // nil = none
	waiting []*lease // in the order in which they came
	rows    int      // leases on it
}

// lease is one row's hold on its parties. A lease of ledger.Shared is another thing: a worker's.
type lease struct {
	bill     *billfile.Bill
	account  *party // of the reference or id; nil = the row names none
	customer *party // of the reference; nil = the row names none, or names it by id
	// need returns the parties that the row has to lead, as things stand.
	need  func() []*party
	ready chan struct{} // closed when the row leads them
	route route         // chosen by acquire, once ready is closed
}

func newParties() *parties {
	return &parties{entries: make(map[ledger.PartyRef]*party), absent: make(map[ledger.PartyRef]struct{})}
}

// newRun drops what was found absent: the API may have it by now.
func (p *parties) newRun() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.absent)
}

// lease enters a row's parties into the table. Every lease must be given back with release.
func (p *parties) lease(b *billfile.Bill) *lease {
	l := &lease{bill: b}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case b.AccountID != "": // no reference begins as an id does
		l.account = p.entry(ledger.PartyRef{Kind: ledger.Account, Reference: b.AccountID})
		l.account.id = b.AccountID
	case b.AccountReference != "":
		l.account = p.entry(ledger.PartyRef{Kind: ledger.Account, Reference: b.AccountReference})
	}
	if b.CustomerReference != "" && b.CustomerID == "" {
		l.customer = p.entry(ledger.PartyRef{Kind: ledger.Customer, Reference: b.CustomerReference})
	}
	return l
}

func (p *parties) entry(ref ledger.PartyRef) *party {
	e := p.entries[ref]
	if e == nil {
		e = &party{ref: ref}
		_, e.asked = p.absent[ref]
		p.entries[ref] = e
	}
	e.rows++
	return e
}

// noLease is the lease of a row whose parties need not be known.
func noLease(b *billfile.Bill) *lease { return &lease{bill: b} }

// named returns the entries of the lease.
func (l *lease) named() []*party {
	named := make([]*party, 0, 2)
	for _, e := range []*party{l.account, l.customer} {
		if e != nil {
			named = append(named, e)
		}
	}
	return named
}

// notLoaded lists the parties of these leases that were not read from the ledger yet.
func (p *parties) notLoaded(leases []*lease) []ledger.PartyRef {
	p.mu.Lock()
	defer p.mu.Unlock()
	var refs []ledger.PartyRef
	for _, l := range leases {
		for _, e := range l.named() {
			if !e.loaded {
				refs = append(refs, e.ref)
			}
		}
	}
	return refs
}

// load enters what the ledger holds of refs, which all count as read. old reports whether a
// party was known before the file.
func (p *parties) load(refs []ledger.PartyRef, known map[ledger.PartyRef]ledger.Party, old func(ledger.Party) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ref := range refs {
		e := p.entries[ref]
		if e == nil {
			continue
		}
		e.loaded = true
		k, ok := known[ref]
		if !ok {
			continue
		}
		if e.id == "" {
			e.id, e.old = k.ID, old(k)
		}
		e.owner = cmp.Or(e.owner, k.CustomerID)
	}
}

// acquire asks for the parties that a new body of this row needs. Once the returned channel is
// closed, the lease's route is set.
func (p *parties) acquire(l *lease) <-chan struct{} {
	return p.lead(l, func() []*party {
		l.route = chooseRoute(l.facts())
		return l.leads(l.route)
	})
}

// reacquire asks for the leads that it takes to send a recorded nested body again, whose form is
// fixed. A party that is known by now needs no leader.
func (p *parties) reacquire(l *lease, form ledger.Form) <-chan struct{} {
	return p.lead(l, func() []*party { return l.leads(route{Do: routeSend, Form: form}) })
}

// acquireOne asks for the lead of one party, unless it is known or was asked for.
func (p *parties) acquireOne(l *lease, e *party) <-chan struct{} {
	return p.lead(l, func() []*party {
		if e.id != "" || e.asked {
			return nil
		}
		return []*party{e}
	})
}

func (p *parties) lead(l *lease, need func() []*party) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.need, l.ready = need, make(chan struct{})
	p.choose(l)
	return l.ready
}

// choose lets the row go ahead, or has it wait for the first party that is in its way. p.mu is
// held.
func (p *parties) choose(l *lease) {
	leads := l.need()
	for _, e := range leads {
		if e.leader != nil && e.leader != l {
			e.waiting = append(e.waiting, l)
			return
		}
	}
	for _, e := range leads {
		e.leader = l
	}
	close(l.ready)
}

// leads returns the parties that a row must lead to take a route.
func (l *lease) leads(r route) []*party {
	var leads []*party
	if e := l.account; e != nil && (r.Do == routeAskAccount || r.Form.NestsAccount() && e.id == "") {
		leads = append(leads, e)
	}
	if e := l.customer; e != nil && (r.Do == routeAskCustomer || r.Form.NestsCustomer() && e.id == "") {
		leads = append(leads, e)
	}
	return leads
}

// facts returns what is known of the row's parties. parties.mu is held.
func (l *lease) facts() partyFacts {
	f := partyFacts{NamesAccount: l.account != nil, NamesCustomer: l.customer != nil || l.bill.CustomerID != ""}
	if e := l.account; e != nil {
		f.AccountID, f.Owner, f.AccountAsked = e.id, e.owner, e.asked
	}
	switch e := l.customer; {
	case e != nil:
		f.CustomerID, f.CustomerAsked, f.CustomerOld = e.id, e.asked, e.old
	case l.bill.CustomerID != "":
		f.CustomerID, f.CustomerOld = l.bill.CustomerID, true
	}
	return f
}

// known returns what is known of the row's parties.
func (p *parties) known(l *lease) partyFacts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.facts()
}

// learn enters what the API says of a party that some row names. An empty id or owner is ignored.
func (p *parties) learn(found ledger.Party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[found.PartyRef]
	e.id, e.owner = cmp.Or(found.ID, e.id), cmp.Or(found.CustomerID, e.owner)
	delete(p.absent, e.ref)
}

// nesting records that a body is sent that may create the row's parties: what the API did not have
// may be there from now on.
func (p *parties) nesting(l *lease, form ledger.Form) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := l.account; e != nil && form.NestsAccount() {
		e.asked = false
	}
	if e := l.customer; e != nil && form.NestsCustomer() {
		e.asked = false
		delete(p.absent, e.ref)
	}
}

// settled reports whether a party is known, and whether the API was asked for it.
func (p *parties) settled(e *party) (known, asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return e.id != "", e.asked
}

// setAsked records that the API was asked for a party. If the party is still not known, the API
// does not have it.
func (p *parties) setAsked(e *party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.asked = true
	if e.ref.Kind != ledger.Customer || e.id != "" {
		return
	}
	if len(p.absent) >= maxAbsent {
		clear(p.absent)
	}
	p.absent[e.ref] = struct{}{}
}

// handOver gives up the row's leads, so that the next row of the party can lead.
func (p *parties) handOver(l *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handOverLocked(l)
}

func (p *parties) handOverLocked(l *lease) {
	var waiting []*lease
	for _, e := range l.named() {
		if e.leader == l {
			e.leader = nil
		}
		if e.leader == nil {
			waiting = append(waiting, e.waiting...)
			e.waiting = nil
		}
	}
	for _, w := range waiting {
		if w != l { // else it has given up waiting
			p.choose(w)
		}
	}
}

// release gives back the row's parties for good.
func (p *parties) release(l *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range l.named() {
		e.waiting = slices.DeleteFunc(e.waiting, func(w *lease) bool { return w == l })
	}
	p.handOverLocked(l)
	for _, e := range l.named() {
		if e.rows--; e.rows == 0 {
			delete(p.entries, e.ref)
		}
	}
}
