package ingest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// fate is what a run would make of a valid row. Its zero value claims nothing.
type fate uint8

const (
	fateUnknown  fate = iota
	fateCreate        // there is no such bill
	fateExisting      // it is there and says the same
	fateConflict      // it is there with other content, or voided
	fateRejected      // it names an account or a customer that the API does not have and that would not be created
)

// planner finds out what a run would make of the rows of one file. It reads the ledger and asks the API, and
// changes neither.
type planner struct {
	*PlanOptions
	planned *Planned
	lane    *Lane
	gate    *gate
	gets    atomic.Int64
	foreign atomic.Bool // an answer of the API's was not in the form that it documents

	// parties are those of the chunk at hand, and of earlier ones those that the API was asked for. Changed between
	// chunks alone.
	parties map[partyName]*plannedParty
}

// partyName is how a row names a customer or an account. An id may look like a reference, but is none.
type partyName struct {
	ledger.PartyRef
	byID bool // Reference is the API's id
}

// plannedRow is one valid row. It is judged by one goroutine, and told about when that has ended.
type plannedRow struct {
	row, line         int
	bill              billfile.Bill
	rec               *ledger.Bill  // nil: the ledger never heard of the reference
	account, customer *plannedParty // nil: the row names none, or names an account by its id

	fate   fate
	seen   ledger.Seen     // the bill that exists
	diffs  []difference    // of fateConflict
	brings []*plannedParty // that would be created with it
	lacks  *plannedParty   // of fateRejected: what is not there
}

// plannedParty is one customer or account, asked for once however many rows name it.
type plannedParty struct {
	partyName
	id      string // "" = the API has none; from the ledger, or set by asking
	known   bool   // from the ledger: nothing is asked
	counted bool   // as new

	once sync.Once
	ok   bool // asking gave an answer
	err  error
}

func newPlanner(o *PlanOptions, planned *Planned) *planner {
	p := &planner{PlanOptions: o, planned: planned, lane: o.Feed.Lane, parties: make(map[partyName]*plannedParty)}
	p.gate = p.lane.join()
	p.lane.opening.feeding(-1) // nothing is sent that could be refused
	return p
}

func (p *planner) close() { p.lane.part() }

// prepare reads from the ledger what it knows of a chunk's bills and parties.
func (p *planner) prepare(ctx context.Context, chunk []*plannedRow) error {
	for name, e := range p.parties {
		if e.known {
			delete(p.parties, name) // read again where it is needed: memory is for what was asked for
		}
	}
	refs := make([]string, len(chunk))
	var fresh []ledger.PartyRef
	refer := func(kind ledger.PartyKind, reference, id string) *plannedParty {
		name := partyName{ledger.PartyRef{Kind: kind, Reference: reference}, id != ""}
		switch {
		case id != "":
			name.Reference = id
		case reference == "":
			return nil
		}
		e := p.parties[name]
		if e == nil {
			e = &plannedParty{partyName: name}
			p.parties[name] = e
			if !name.byID {
				fresh = append(fresh, name.PartyRef)
			}
		}
		return e
	}
	for i, r := range chunk {
		refs[i] = r.bill.Reference
		r.account = refer(ledger.Account, r.bill.AccountReference, r.bill.AccountID)
		if r.bill.AccountID == "" { // else whose account it is matters to nobody
			r.customer = refer(ledger.Customer, r.bill.CustomerReference, r.bill.CustomerID)
		}
	}
	if p.Ledger == nil {
		return nil
	}
	bills, err := p.Ledger.Bills(ctx, p.lane.scope, refs)
	if err != nil {
		return err
	}
	known, err := p.Ledger.Parties(ctx, p.lane.scope, fresh)
	if err != nil {
		return err
	}
	for _, r := range chunk {
		r.rec = bills[r.bill.Reference]
	}
	for ref, k := range known {
		e := p.parties[partyName{PartyRef: ref}]
		e.id, e.known = k.ID, true
	}
	return nil
}

// judge finds out what a run would make of a row.
func (p *planner) judge(ctx context.Context, r *plannedRow) error {
	if r.rec != nil && r.rec.State == ledger.Exists {
		r.seen = r.rec.Seen
		return p.compare(ctx, r)
	}
	a, err := p.ask(ctx, p.lane.api.GetBill, r.bill.Reference)
	switch {
	case err != nil:
		return err
	case a.Kind == client.Found:
		r.seen = seen(a.Bill)
		return p.compare(ctx, r)
	case a.Kind == client.Absent:
		return p.create(ctx, r)
	}
	return nil // unknown
}

// compare tells a bill that exists from one in conflict.
func (p *planner) compare(ctx context.Context, r *plannedRow) error {
	who := payer{AccountID: r.bill.AccountID, CustomerID: r.bill.CustomerID}
	ok := true
	var err error
	switch { // what is named by its id is compared by it
	case r.account != nil && !r.account.byID:
		who.AccountID, ok, err = p.find(ctx, r.account)
	case r.account == nil && r.customer != nil && !r.customer.byID:
		who.CustomerID, ok, err = p.find(ctx, r.customer)
	}
	if err != nil || !ok {
		return err
	}
	r.fate = fateExisting
	if r.diffs = differences(&r.bill, r.seen, who); len(r.diffs) > 0 {
		r.fate = fateConflict
	}
	return nil
}

// create finds out which parties the bill would bring with it: what a run would nest in its body.
func (p *planner) create(ctx context.Context, r *plannedRow) error {
	for _, e := range []*plannedParty{r.account, r.customer} {
		if e == nil {
			continue
		}
		id, ok, err := p.find(ctx, e)
		switch {
		case err != nil || !ok:
			return err
		case id == "" && e.byID:
			r.fate, r.lacks = fateRejected, e
			return nil
		case id == "":
			r.brings = append(r.brings, e)
		case e == r.account:
			r.fate = fateCreate
			return nil // an account that is there has its customer
		}
	}
	r.fate = fateCreate
	if r.account != nil && r.customer == nil { // and the account is not there, or the row would be done with above
		r.fate, r.lacks = fateRejected, r.account
	}
	return nil
}

// find is the id of a party, "" when the API has none such. ok false = no answer could be had.
func (p *planner) find(ctx context.Context, e *plannedParty) (id string, ok bool, err error) {
	if e.known {
		return e.id, true, nil
	}
	e.once.Do(func() {
		get := p.lane.api.GetCustomer
		if e.Kind == ledger.Account {
			get = p.lane.api.GetAccount
		}
		var a client.Answer
		a, e.err = p.ask(ctx, get, e.Reference)
		e.ok = a.Kind == client.Found || a.Kind == client.Absent
		switch {
		case a.Account != nil:
			e.id = a.Account.ID
		case a.Customer != nil:
			e.id = a.Customer.ID
		}
	})
	return e.id, e.ok, e.err
}

// ask sends one GET through the gate.
func (p *planner) ask(ctx context.Context, get lookup, reference string) (client.Answer, error) {
	return p.gate.ask(ctx, get, reference, func(a client.Answer) error {
		if a.Kind != client.NotSent {
			p.gets.Add(1)
		}
		if a.Kind == client.Absent && !documented(a) {
			p.foreign.Store(true)
		}
		return nil
	})
}

// documented reports whether a refusal came as the problem document in which the API, by its documentation, tells
// every error. What another server says at a wrong address does not.
func documented(a client.Answer) bool { return a.Problem.Type != "" || a.Problem.Detail != "" }

// Probe asks the API once, past the gate, for a bill of this reference, which nobody must have. It returns nil when the
// API denies it in its own words: then the address is right and the key is known. Errors wrap ErrStopped, or ErrSetup
// where waiting does not help, and say what to do.
func (l *Lane) Probe(ctx context.Context, reference string) error {
	a := l.api.GetBill(ctx, reference)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch a.Kind {
	case client.Absent:
		if documented(a) {
			return nil
		}
		return fmt.Errorf("%w: what answers there is not the Billing API: its 404 is no problem document; correct api.base_url", ErrSetup)
	case client.KeyRefused, client.Redirected, client.Untrusted, client.Mismatched:
		return stopReason(a)
	case client.Throttled:
		return fmt.Errorf("%w: the API answers 429, too many requests: wait a while, and lower api.rate_limit if it stays", ErrStopped)
	case client.NotSent, client.Lost, client.Unreadable:
		return fmt.Errorf("%w: no answer that could be used (%v): check api.base_url, the network and whether the API is up", ErrStopped, a.Err)
	case client.ServerFault:
		if a.Status < 500 {
			return fmt.Errorf("%w: what answers there is not the Billing API: it answered %d with a page for people; correct api.base_url", ErrSetup, a.Status)
		}
		return fmt.Errorf("%w: the API is not well (%d %s): wait, or ask Moment", ErrStopped, a.Status, client.StatusText(a.Status))
	}
	return fmt.Errorf("%w: the API answered %s to a look-up of a bill that nobody has: check api.base_url", ErrSetup, a.Label())
}
