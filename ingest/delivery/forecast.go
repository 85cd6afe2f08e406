package delivery

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// Prospect is what Deliver would make of a row now.
type Prospect struct {
	// Status is Created, Existing, Conflict, Invalid or Rejected, or Unknown if the API gave no
	// usable answer.
	Status ledger.Status
	// Customers and Accounts would be created with the bill; each party counts once in a forecast.
	Customers, Accounts int
	// Fields are those in which a bill in Conflict differs: theirs, then yours. Amounts are in
	// minor units; null means none, and "unknown" a party of yours that the API does not know.
	Fields map[string][2]any
	// Detail says what is wrong and what to do, with Conflict, Invalid and Rejected. Column and
	// Code come with the latter two.
	Column, Code, Detail string
}

// Forecast foretells what Deliver would make of rows. It reads the ledger and asks the API, for
// each bill and party at most once unless a request fails. It changes neither. It is for one
// goroutine. Its memory grows with the number of customers and accounts that the API has to be
// asked for.
type Forecast struct {
	*Inquiry
	ledger  ledger.Ledger // nil: there is none yet
	foreign atomic.Bool   // some answer was not in the documented form

	// parties are those of the current chunk, and those of earlier chunks that the API was asked
	// for. The map changes between chunks only.
	parties map[partyName]*forecastParty
}

// partyName is how a row names a customer or an account: by reference, or by the API's id.
type partyName struct {
	ledger.PartyRef
	byID bool // Reference is the API's id
}

// forecastRow is one row. One goroutine judges it; its prospect is read after that.
type forecastRow struct {
	bill              *billfile.Bill
	rec               *ledger.Bill   // nil: the ledger does not have the reference
	account, customer *forecastParty // nil: the row names none

	status   ledger.Status
	observed ledger.Observed  // the bill that exists
	diffs    []difference     // of a conflict
	creates  []*forecastParty // with the bill
	lacks    *forecastParty   // of a rejected row: what the API does not have
	facts    partyFacts       // of a row whose account belongs to another customer
}

// forecastParty is one customer or account. It is asked for once, however many rows name it.
type forecastParty struct {
	partyName
	ledger  ledger.Party // zero = the ledger does not know it
	counted bool         // as new

	once sync.Once
	api  ledger.Party // once it was asked for; ID "" = the API has none
	done bool         // it was asked for
	ok   bool         // and there was an answer
	err  error
}

// Forecast begins a forecast. The ledger is only read, and nil if there is none yet. Requests
// pass the lane's gate, as a run's would. Every forecast must be closed.
func (l *Lane) Forecast(led ledger.Ledger) *Forecast {
	return &Forecast{Inquiry: l.Inquire(nil), ledger: led, parties: make(map[partyName]*forecastParty)}
}

// Foreign reports whether the API's answers for what it does not have are not in the documented
// form. Then it may be another server.
func (f *Forecast) Foreign() bool { return f.foreign.Load() }

// Rows foretells what would become of valid rows, in their order. done, if not nil, is called
// concurrently as each row is judged. Errors are the ledger's, ctx's cause, and the *Stop of a
// run that has to stop.
func (f *Forecast) Rows(ctx context.Context, bills []*billfile.Bill, done func()) ([]Prospect, error) {
	chunk := make([]*forecastRow, len(bills))
	for i, b := range bills {
		chunk[i] = &forecastRow{bill: b, status: ledger.Unknown}
	}
	if err := f.prepare(ctx, chunk); err != nil {
		return nil, err
	}
	rows, rctx := errgroup.WithContext(ctx)
	for _, r := range chunk {
		rows.Go(func() error {
			err := f.judge(rctx, r)
			if done != nil {
				done()
			}
			return err
		})
	}
	if err := rows.Wait(); err != nil {
		if stopped := f.gate.err(); stopped != nil {
			return nil, stopped // says it best
		}
		return nil, err
	}
	prospects := make([]Prospect, len(chunk))
	for i, r := range chunk {
		prospects[i] = r.prospect()
	}
	return prospects, nil
}

// prospect returns what was found. It is called in row order, by one goroutine.
func (r *forecastRow) prospect() Prospect {
	p := Prospect{Status: r.status}
	switch {
	case r.status == ledger.Created:
		for _, e := range r.creates {
			switch {
			case e.counted:
			case e.Kind == ledger.Account:
				p.Accounts++
			default:
				p.Customers++
			}
			e.counted = true
		}
	case r.status == ledger.Conflict:
		p.Fields, p.Detail = make(map[string][2]any), describe(r.diffs)
		for _, d := range r.diffs {
			p.Fields[d.field] = d.values(r.bill, &r.observed)
		}
	case r.lacks != nil:
		p.Column, p.Code, p.Detail = r.lacks.missing()
	case r.status == ledger.Invalid || r.status == ledger.Rejected:
		p.Column, p.Code = "customer_reference", ledger.CodePartyMismatch
		if r.customer.byID {
			p.Column = "customer_id"
		}
		p.Detail = partyMismatch(r.bill, r.facts.Owner, r.facts.CustomerID)
	}
	return p
}

// missing returns what is wrong with a row because the API does not have this party.
func (n partyName) missing() (column, code, detail string) {
	switch {
	case !n.byID:
		return "account_reference", ledger.CodeUnknownAccount, unknownAccount
	case n.Kind == ledger.Account:
		return "account_id", ledger.CodeUnknownAccount, "this merchant has no account with this id: correct the id"
	}
	return "customer_id", ledger.CodeUnknownCustomer, "this merchant has no customer with this id: correct the id"
}

// prepare reads from the ledger what it holds of a chunk's bills and parties.
func (f *Forecast) prepare(ctx context.Context, chunk []*forecastRow) error {
	for name, e := range f.parties {
		if e.ledger.ID != "" && !e.done {
			delete(f.parties, name) // the ledger can be read again
		}
	}
	refs := make([]string, len(chunk))
	var fresh []ledger.PartyRef
	refer := func(kind ledger.PartyKind, reference, id string) *forecastParty {
		name := partyName{ledger.PartyRef{Kind: kind, Reference: cmp.Or(id, reference)}, id != ""}
		if name.Reference == "" {
			return nil
		}
		e := f.parties[name]
		if e == nil {
			e = &forecastParty{partyName: name}
			f.parties[name] = e
			fresh = append(fresh, name.PartyRef)
		}
		return e
	}
	for i, r := range chunk {
		refs[i] = r.bill.Reference
		r.account = refer(ledger.Account, r.bill.AccountReference, r.bill.AccountID)
		r.customer = refer(ledger.Customer, r.bill.CustomerReference, r.bill.CustomerID)
	}
	if f.ledger == nil {
		return nil
	}
	bills, err := f.ledger.Bills(ctx, f.lane.scope, refs)
	if err != nil {
		return err
	}
	known, err := f.ledger.Parties(ctx, f.lane.scope, fresh)
	if err != nil {
		return err
	}
	for _, r := range chunk {
		r.rec = bills[r.bill.Reference]
		for _, e := range []*forecastParty{r.account, r.customer} {
			if e == nil {
				continue
			}
			if k, ok := known[e.PartyRef]; ok { // no reference begins as an id does
				e.ledger = k
			}
		}
	}
	return nil
}

// judge finds out what a run would make of a row.
func (f *Forecast) judge(ctx context.Context, r *forecastRow) error {
	if r.rec != nil && r.rec.State == ledger.Exists {
		r.observed = r.rec.Observed
		return f.compare(ctx, r)
	}
	a, err := f.ask(ctx, f.lane.api.GetBill, r.bill.Reference)
	switch {
	case err != nil:
		return err
	case a.Kind == client.Found:
		r.observed = observed(a.Bill)
		return f.compare(ctx, r)
	case a.Kind == client.Absent:
		return f.create(ctx, r)
	}
	return nil // it stays unknown
}

// compare distinguishes a bill that is the same from one in conflict.
func (f *Forecast) compare(ctx context.Context, r *forecastRow) error {
	facts := partyFacts{NamesAccount: r.account != nil, NamesCustomer: r.customer != nil}
	ok := true
	var err error
	if e := r.account; e != nil && e.byID {
		facts.AccountID = e.Reference
	} else if e != nil {
		var p ledger.Party
		p, ok, err = f.find(ctx, e, false)
		facts.AccountID = p.ID
	}
	another := facts.NamesAccount && facts.AccountID != r.observed.AccountID
	if r.customer != nil && ok && err == nil && !another {
		facts.CustomerID, ok, err = f.customerID(ctx, r.customer, true)
	}
	if err != nil || !ok {
		return err
	}
	r.status = ledger.Existing
	if r.diffs = differences(r.bill, r.observed, facts); len(r.diffs) > 0 {
		r.status = ledger.Conflict
	}
	return nil
}

// create finds out which parties the bill would create: what a run would nest in its body.
func (f *Forecast) create(ctx context.Context, r *forecastRow) error {
	facts := partyFacts{NamesAccount: r.account != nil, NamesCustomer: r.customer != nil, AccountAsked: true, CustomerAsked: true}
	if e := r.account; e != nil {
		p, ok, err := f.find(ctx, e, facts.NamesCustomer)
		if err != nil || !ok {
			return err
		}
		if facts.AccountID, facts.Owner = p.ID, p.CustomerID; e.byID && p.ID == "" {
			r.status, r.lacks = ledger.Rejected, e
			return nil
		}
	}
	if e := r.customer; e != nil && (facts.AccountID == "" || facts.Owner != "") {
		id, ok, err := f.customerID(ctx, e, facts.AccountID != "")
		if err != nil || !ok {
			return err
		}
		if facts.CustomerID = id; e.byID && id == "" {
			r.status, r.lacks = ledger.Rejected, e
			return nil
		}
	}
	switch to := chooseRoute(facts); to.Do {
	case routeSend:
		r.status = ledger.Created
		if to.Form.NestsAccount() {
			r.creates = append(r.creates, r.account)
		}
		if to.Form.NestsCustomer() {
			r.creates = append(r.creates, r.customer)
		}
	case routeUnknownAccount:
		r.status, r.lacks = ledger.Rejected, r.account
	default: // a run finds out before it sends, unless it knows neither party
		r.status, r.facts = ledger.Rejected, facts
		if r.account.sure() || r.customer.sure() {
			r.status = ledger.Invalid
		}
	}
	return nil
}

// sure reports whether a run knows the party before it sends.
func (e *forecastParty) sure() bool { return e.byID || e.ledger.ID != "" }

// customerID returns the id of a customer; "" if the API has none such. If it is only compared, an
// id is not asked for.
func (f *Forecast) customerID(ctx context.Context, e *forecastParty, compared bool) (id string, ok bool, err error) {
	if e.byID && compared {
		return e.Reference, true, nil
	}
	p, ok, err := f.find(ctx, e, false)
	return p.ID, ok, err
}

// find returns a party with its id, "" if the API has none, and with an account's owner if that is
// needed. What the ledger knows is not asked for. ok is false if the API gave no usable answer.
func (f *Forecast) find(ctx context.Context, e *forecastParty, needOwner bool) (p ledger.Party, ok bool, err error) {
	if e.ledger.ID != "" && (!needOwner || e.ledger.CustomerID != "") {
		return e.ledger, true, nil
	}
	e.once.Do(func() {
		var a client.Answer
		a, e.err = f.ask(ctx, f.lane.partyGetter(e.Kind), e.Reference)
		e.done, e.ok = true, a.Kind == client.Found || a.Kind == client.Absent
		e.api = partyOf(a)
	})
	return e.api, e.ok, e.err
}

// ask sends one GET through the gate.
func (f *Forecast) ask(ctx context.Context, get getter, reference string) (client.Answer, error) {
	a, err := f.get(ctx, get, reference)
	if a.Kind == client.Absent && !Documented(a) {
		f.foreign.Store(true)
	}
	return a, err
}
