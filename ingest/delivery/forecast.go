package delivery

import (
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
	// Status is Created, Existing, Conflict, Rejected, or Unknown where the API gave no answer.
	Status ledger.Status
	// Customers and Accounts would be created with the bill, and with no row before it in this forecast.
	Customers, Accounts int
	// Fields are what a bill in Conflict says otherwise than the row: theirs, then yours. Amounts are in minor units, null is
	// none, "unknown" a party of the row's that the API does not know.
	Fields map[string][2]any
	// Detail tells a person what is wrong with a row in Conflict, or one to be Rejected; that has a Column and a Code, too.
	Column, Code, Detail string
}

// Forecast foretells what Deliver would make of rows. It reads the ledger and asks the API, for
// each bill and party at most once unless a request fails. It changes neither. It is for one
// goroutine. Its memory grows with the number of customers and accounts that the API has to be
// asked for.
type Forecast struct {
	lane    *Lane
	ledger  ledger.Ledger // nil: there is none yet
	gate    *gate
	gets    atomic.Int64
	foreign atomic.Bool // an answer of the API's was not in the form that it documents

	// parties are those of the chunk at hand, and of earlier ones those that the API was asked for. Changed between
	// chunks alone.
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
	rec               *ledger.Bill   // nil: the ledger never onAnswer of the reference
	account, customer *forecastParty // nil: the row names none, or names an account by its id

	status   ledger.Status
	observed ledger.Observed  // the bill that exists
	diffs    []difference     // of a conflict
	brings   []*forecastParty // that would be created with it
	lacks    *forecastParty   // of a rejected row: what is not there
}

// forecastParty is one customer or account. It is asked for once, however many rows name it.
type forecastParty struct {
	partyName
	id      string // "" = the API has none; from the ledger, or set by asking
	known   bool   // from the ledger: nothing is asked
	counted bool   // as new

	once sync.Once
	ok   bool // asking gave an answer
	err  error
}

// Forecast begins a forecast. The ledger is only read, and nil if there is none yet. Requests
// pass the lane's gate, as a run's would. Every forecast must be closed.
func (l *Lane) Forecast(led ledger.Ledger) *Forecast {
	f := &Forecast{lane: l, ledger: led, gate: l.join(), parties: make(map[partyName]*forecastParty)}
	l.setup.feeding(-1) // nothing is sent that could be refused
	return f
}

// Close ends the forecast.
func (f *Forecast) Close() { f.lane.leave() }

// Gets returns how many look-ups were sent so far.
func (f *Forecast) Gets() int { return int(f.gets.Load()) }

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
	switch r.status {
	case ledger.Created:
		for _, e := range r.brings {
			switch {
			case e.counted:
			case e.Kind == ledger.Account:
				p.Accounts++
			default:
				p.Customers++
			}
			e.counted = true
		}
	case ledger.Conflict:
		p.Fields, p.Detail = make(map[string][2]any), describe(r.diffs)
		for _, d := range r.diffs {
			p.Fields[d.field] = d.values(r.bill, &r.observed)
		}
	case ledger.Rejected:
		p.Column, p.Code, p.Detail = r.lacks.wrong()
	}
	return p
}

// wrong returns what is wrong with a row for lack of this party.
func (n partyName) wrong() (column, code, detail string) {
	switch {
	case !n.byID:
		return "account_reference", ledger.CodeUnknownAccount, unknownAccount
	case n.Kind == ledger.Account:
		return "account_id", ledger.CodeUnknownAccount, "the API has no account of this id, or not of this merchant; correct it"
	}
	return "customer_id", ledger.CodeUnknownCustomer, "the API has no customer of this id, or not of this merchant; correct it"
}

// prepare reads from the ledger what it holds of a chunk's bills and parties.
func (f *Forecast) prepare(ctx context.Context, chunk []*forecastRow) error {
	for name, e := range f.parties {
		if e.known {
			delete(f.parties, name) // read again where it is needed: memory is for what was asked for
		}
	}
	refs := make([]string, len(chunk))
	var fresh []ledger.PartyRef
	refer := func(kind ledger.PartyKind, reference, id string) *forecastParty {
		name := partyName{ledger.PartyRef{Kind: kind, Reference: reference}, id != ""}
		switch {
		case id != "":
			name.Reference = id
		case reference == "":
			return nil
		}
		e := f.parties[name]
		if e == nil {
			e = &forecastParty{partyName: name}
			f.parties[name] = e
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
	}
	for ref, k := range known {
		e := f.parties[partyName{PartyRef: ref}]
		e.id, e.known = k.ID, true
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
	who := payer{AccountID: r.bill.AccountID, CustomerID: r.bill.CustomerID}
	ok := true
	var err error
	switch { // what is named by its id is compared by it
	case r.account != nil && !r.account.byID:
		who.AccountID, ok, err = f.find(ctx, r.account)
	case r.account == nil && r.customer != nil && !r.customer.byID:
		who.CustomerID, ok, err = f.find(ctx, r.customer)
	}
	if err != nil || !ok {
		return err
	}
	r.status = ledger.Existing
	if r.diffs = differences(r.bill, r.observed, who); len(r.diffs) > 0 {
		r.status = ledger.Conflict
	}
	return nil
}

// create finds out which parties the bill would create: what a run would nest in its body.
func (f *Forecast) create(ctx context.Context, r *forecastRow) error {
	for _, e := range []*forecastParty{r.account, r.customer} {
		if e == nil {
			continue
		}
		id, ok, err := f.find(ctx, e)
		switch {
		case err != nil || !ok:
			return err
		case id == "" && e.byID:
			r.status, r.lacks = ledger.Rejected, e
			return nil
		case id == "":
			r.brings = append(r.brings, e)
		case e == r.account:
			r.status = ledger.Created
			return nil // an account that is there has its customer
		}
	}
	r.status = ledger.Created
	if r.account != nil && r.customer == nil { // and the account is not there, or the row would be done with above
		r.status, r.lacks = ledger.Rejected, r.account
	}
	return nil
}

// find returns the id of a party; "" if the API has none. ok is false if the API gave no usable
// answer.
func (f *Forecast) find(ctx context.Context, e *forecastParty) (id string, ok bool, err error) {
	if e.known {
		return e.id, true, nil
	}
	e.once.Do(func() {
		get := f.lane.api.GetCustomer
		if e.Kind == ledger.Account {
			get = f.lane.api.GetAccount
		}
		var a client.Answer
		a, e.err = f.ask(ctx, get, e.Reference)
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
func (f *Forecast) ask(ctx context.Context, get getter, reference string) (client.Answer, error) {
	return f.gate.ask(ctx, get, reference, func(a client.Answer) error {
		if a.Kind != client.NotSent {
			f.gets.Add(1)
		}
		if a.Kind == client.Absent && !documented(a) {
			f.foreign.Store(true)
		}
		return nil
	})
}
