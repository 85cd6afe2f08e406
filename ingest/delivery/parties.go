package delivery

import (
	"sync"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// parties is the table of the customers and accounts that rows in flight name. For a party that
// is not known yet, one row goes alone, its leader, and nests what is new. The other rows of that
// party wait for the ids that it brings back; rows of other parties never wait. An entry lives
// while rows name it, so the table is as small as the look-ahead; what was learnt is in the
// ledger. It may be used concurrently.
//
// A row that goes ahead holds all the leads that it needs, or none. So no two rows wait for each
// other.
type parties struct {
	mu      sync.Mutex
	entries map[ledger.PartyRef]*party
}

// party is one customer or account while rows name it. Guarded by parties.mu.
type party struct {
	ref     ledger.PartyRef
	id      string // "" = not known
	loaded  bool   // the ledger was asked
	leader  *lease
	waiting []*lease // in the order in which they came
	rows    int      // leases that refer to it
}

// lease is one row's hold on its parties.
type lease struct {
	bill     *billfile.Bill
	account  *party // of AccountReference; nil = none
	customer *party // of CustomerReference; nil = none
	form     ledger.Form
	again    bool          // form is a recorded one, not to be chosen anew
	ready    chan struct{} // closed when the row may go on; then form, accountID and customerID are set
	// The ids that the body names, by form.
	accountID, customerID string
}

func newParties() *parties { return &parties{entries: make(map[ledger.PartyRef]*party)} }

// lease enters a row's parties into the table. Every lease must be given back with release.
func (p *parties) lease(b *billfile.Bill) *lease {
	c := &lease{bill: b}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.AccountID != "" {
		return c // an account that exists: nobody needs to know whose it is
	}
	if b.AccountReference != "" {
		c.account = p.entry(ledger.PartyRef{Kind: ledger.Account, Reference: b.AccountReference})
	}
	if b.CustomerReference != "" && b.CustomerID == "" {
		c.customer = p.entry(ledger.PartyRef{Kind: ledger.Customer, Reference: b.CustomerReference})
	}
	return c
}

func (p *parties) entry(ref ledger.PartyRef) *party {
	e := p.entries[ref]
	if e == nil {
		e = &party{ref: ref}
		p.entries[ref] = e
	}
	e.rows++
	return e
}

// notLoaded lists the parties of these leases that were not read from the ledger yet.
func (p *parties) notLoaded(leases []*lease) []ledger.PartyRef {
	p.mu.Lock()
	defer p.mu.Unlock()
	var refs []ledger.PartyRef
	for _, c := range leases {
		for _, e := range []*party{c.account, c.customer} {
			if e != nil && !e.loaded {
				refs = append(refs, e.ref)
			}
		}
	}
	return refs
}

// load enters what the ledger knows of refs, which all count as read.
func (p *parties) load(refs []ledger.PartyRef, known map[ledger.PartyRef]ledger.Party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ref := range refs {
		if e := p.entries[ref]; e != nil {
			e.loaded = true
			if k, ok := known[ref]; ok && e.id == "" {
				e.id = k.ID
			}
		}
	}
}

// acquire asks for the parties that a new body of this row needs. Once the returned channel is
// closed, the lease's form and ids are set.
func (p *parties) acquire(c *lease) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.ready, c.again = make(chan struct{}), false
	p.choose(c)
	return c.ready
}

// choose lets the row go ahead, or has it wait for the one party that is in its way. p.mu is held.
func (p *parties) choose(c *lease) {
	b := c.bill
	pass := func(form ledger.Form, accountID, customerID string, leads ...*party) {
		c.form, c.accountID, c.customerID = form, accountID, customerID
		for _, e := range leads {
			e.leader = c
		}
		close(c.ready)
	}
	switch {
	case b.AccountID != "":
		pass(ledger.FormAccount, b.AccountID, "")
	case c.account != nil && c.account.id != "":
		pass(ledger.FormAccount, c.account.id, "")
	case c.account != nil && c.account.ledBy(c):
		c.account.waiting = append(c.account.waiting, c)
	case c.account == nil && b.CustomerID != "":
		pass(ledger.FormCustomer, "", b.CustomerID)
	case c.account != nil && b.CustomerID != "":
		pass(ledger.FormNewAccount, "", b.CustomerID, c.account)
	case c.customer == nil: // an account that has to be known already
		pass(ledger.FormNone, "", "", c.account)
	case c.customer.id != "" && c.account != nil:
		pass(ledger.FormNewAccount, "", c.customer.id, c.account)
	case c.customer.id != "":
		pass(ledger.FormCustomer, "", c.customer.id)
	case c.customer.ledBy(c):
		c.customer.waiting = append(c.customer.waiting, c)
	case c.account != nil:
		pass(ledger.FormNewAccountCustomer, "", "", c.account, c.customer)
	default:
		pass(ledger.FormNewCustomer, "", "", c.customer)
	}
}

// ledBy reports whether another row leads the party.
func (e *party) ledBy(c *lease) bool { return e.leader != nil && e.leader != c }

// reacquire asks for the leads that it takes to send a recorded nested body again, whose form is
// fixed. A party that is known by now needs no leader.
func (p *parties) reacquire(c *lease, form ledger.Form) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.ready, c.again, c.form = make(chan struct{}), true, form
	p.tryAcquire(c)
	return c.ready
}

func (p *parties) tryAcquire(c *lease) {
	var leads []*party
	for _, e := range []*party{c.account, c.customer} {
		if e == nil || e.id != "" || (e == c.account && !c.form.NestsAccount()) || (e == c.customer && !c.form.NestsCustomer()) {
			continue
		}
		if e.ledBy(c) {
			e.waiting = append(e.waiting, c)
			return
		}
		leads = append(leads, e)
	}
	for _, e := range leads {
		e.leader = c
	}
	close(c.ready)
}

// learn enters ids that the API gave for this row's parties; "" is ignored.
func (p *parties) learn(c *lease, accountID, customerID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.account != nil && accountID != "" {
		c.account.id = accountID
	}
	if c.customer != nil && customerID != "" {
		c.customer.id = customerID
	}
}

// known returns the ids of the row's parties where they are known.
func (p *parties) known(c *lease) payer {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := payer{AccountID: c.bill.AccountID, CustomerID: c.bill.CustomerID}
	if c.account != nil {
		k.AccountID = c.account.id
	}
	if c.customer != nil {
		k.CustomerID = c.customer.id
	}
	return k
}

// handOver gives up the row's leads, so that the next row of the party can lead.
func (p *parties) handOver(c *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handOverLocked(c)
}

func (p *parties) handOverLocked(c *lease) {
	var waiting []*lease
	for _, e := range []*party{c.account, c.customer} {
		if e == nil {
			continue
		}
		if e.leader == c {
			e.leader = nil
		}
		if e.leader == nil {
			waiting = append(waiting, e.waiting...)
			e.waiting = nil
		}
	}
	for _, w := range waiting {
		if w == c {
			continue // it gave up waiting
		}
		if w.again {
			p.tryAcquire(w)
		} else {
			p.choose(w)
		}
	}
}

// release gives back the row's parties for good.
func (p *parties) release(c *lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range []*party{c.account, c.customer} {
		if e == nil {
			continue
		}
		for i, w := range e.waiting {
			if w == c {
				e.waiting = append(e.waiting[:i], e.waiting[i+1:]...)
				break
			}
		}
	}
	p.handOverLocked(c)
	for _, e := range []*party{c.account, c.customer} {
		if e == nil {
			continue
		}
		if e.rows--; e.rows == 0 {
			delete(p.entries, e.ref)
		}
	}
}
