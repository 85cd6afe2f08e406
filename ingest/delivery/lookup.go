package delivery

import (
	"context"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// lookUp asks the API for the row's bill and decides by what it finds.
func (d *delivery) lookUp(ctx context.Context, c cause) (decision, error) {
	if c == causeLate {
		d.lateLooks++
		d.park()
		if err := d.gate.sleep(ctx, d.lane.policy.LookupSettle); err != nil {
			return decision{}, err
		}
	}
	found, err := d.find(ctx)
	if err != nil {
		return decision{}, err
	}
	ours := d.rec.Send.File == d.file.ID && d.rec.Send.Unanswered
	rounds := d.generations
	if c == causeInFlight {
		d.rounds++
		rounds = d.rounds
	}
	todo := afterLookUp(found, c, ours, rounds)
	if found == foundAbsent && c != causeInFlight {
		d.rec.State, d.rec.Doubt = ledger.Gone, false
		if err := d.note(); err != nil {
			return decision{}, err
		}
	}
	return todo, nil
}

// lastLook looks a bill up once more while the run stops, past the closed gate. If the bill is
// there and the same, the row is settled; otherwise the next run continues with it.
func (d *delivery) lastLook(ctx context.Context) (decision, error) {
	if !d.certain() {
		return decision{Do: stepStop}, nil
	}
	a := d.lane.api.GetBill(d.recordCtx, d.bill.Reference)
	if err := d.record(ledger.Entry{File: d.file.ID, Gets: 1}); err != nil {
		return decision{}, err
	}
	if a.Kind == client.Found && !d.lane.bills.isOther(a.Bill.ID, d.bill.Reference) {
		d.setObserved(a.Bill)
		if found, err := d.sameOrNot(ctx); err == nil && found == foundSame {
			return decision{Do: stepFinish, Status: ledger.Created}, nil
		}
		d.rec.State, d.rec.Doubt = ledger.Pending, true
	}
	return decision{Do: stepStop}, nil
}

// find looks the bill up. While an earlier send may still be at work in the server, one 404
// proves nothing: it takes two, LookupSettle apart, and the second one LookupSettle after d.open, if
// that comes later.
func (d *delivery) find(ctx context.Context) (finding, error) {
	for settled := !d.rec.Doubt; ; settled = true {
		a, err := d.ask(ctx, d.lane.api.GetBill, d.bill.Reference)
		if err != nil {
			return foundNothing, err
		}
		switch a.Kind {
		case client.Found:
			if d.lane.bills.isOther(a.Bill.ID, d.bill.Reference) {
				_, err := d.sameID()
				return foundNothing, err
			}
			d.setObserved(a.Bill)
			return d.sameOrNot(ctx)
		case client.Absent:
			if settled {
				return foundAbsent, nil
			}
		case client.Blocked, client.KeyRefused:
			if d.rec.Doubt { // a send that no gateway refused may have made the bill
				return foundNothing, nil
			}
			return foundForbidden, nil
		default:
			return foundNothing, nil
		}
		d.park()
		rest := max(0, d.open.Sub(d.lane.Now()))
		if err := d.gate.sleep(ctx, rest+d.lane.policy.LookupSettle); err != nil {
			return foundNothing, err
		}
	}
}

// compare settles a row whose bill the ledger knows.
func (d *delivery) compare(ctx context.Context) (decision, error) {
	found, err := d.sameOrNot(ctx)
	if err != nil {
		return decision{}, err
	}
	s := &d.rec.Send
	ours := s.File == d.file.ID && (s.Unanswered || (s.Count > 0 && s.Answer == ""))
	return afterLookUp(found, causeNone, ours, 0), nil
}

// sameOrNot compares the row with the bill that exists. It asks the API for the row's parties if
// their ids are not known yet and the bill says something to compare them with.
func (d *delivery) sameOrNot(ctx context.Context) (finding, error) {
	if d.proven {
		return d.finding(provenFacts(&d.bill, &d.rec.Observed)), nil
	}
	answered, err := true, error(nil)
	if e := d.lease.account; e != nil {
		answered, err = d.resolve(ctx, e)
	}
	known := d.lane.parties.known(d.lease)
	another := known.NamesAccount && known.AccountID != d.rec.Observed.AccountID // whose it is does not matter any more
	if e := d.lease.customer; e != nil && answered && err == nil && !another {
		answered, err = d.resolve(ctx, e)
	}
	if err != nil || !answered {
		return foundNothing, err
	}
	return d.finding(d.lane.parties.known(d.lease)), nil
}

// finding compares the row with the bill that exists, given what is known of its parties.
func (d *delivery) finding(p partyFacts) finding {
	if d.diff = describe(differences(&d.bill, d.rec.Observed, p)); d.diff != "" {
		return foundDifferent
	}
	return foundSame
}

// resolve asks the API for a party, unless it is known or another row has asked.
func (d *delivery) resolve(ctx context.Context, e *party) (answered bool, err error) {
	if err := d.wait(ctx, d.lane.parties.acquireOne(d.lease, e)); err != nil {
		return false, err
	}
	if known, asked := d.lane.parties.settled(e); known || asked && !d.late {
		return true, nil
	}
	return d.askParty(ctx, e)
}

// askParties asks for the parties that the refused body nested as new.
func (d *delivery) askParties(ctx context.Context) (decision, error) {
	d.late = true
	form := d.rec.Send.Form
	var nested []*party
	if form.NestsAccount() {
		nested = append(nested, d.lease.account)
	}
	if form.NestsCustomer() {
		nested = append(nested, d.lease.customer)
	}
	for _, e := range nested {
		answered, err := d.askParty(ctx, e)
		if err != nil {
			return decision{}, err
		}
		if !answered {
			return decision{Do: stepFinish, Status: ledger.Unknown}, nil
		}
	}
	known := d.lane.parties.known(d.lease)
	learnt := form.NestsAccount() && known.AccountID != "" || form.NestsCustomer() && known.CustomerID != ""
	r := refused{Taken: d.last.Kind == client.Taken, Final: d.last.Replayed || d.last.Kind == client.Refused}
	h := history{Charged: d.charged, MaxAttempts: d.lane.policy.MaxAttempts}
	todo := afterParties(learnt, r, h, d.generations, d.lateLooks)
	if todo.Do == stepFinish && todo.Status == ledger.Unknown {
		d.rec.State, d.rec.Doubt = ledger.Pending, true // a bill may yet show
	}
	return todo, nil
}

// askParty asks for one of the row's parties, by id or reference, and learns its id and an
// account's owner. answered is false if the API gave no usable answer.
func (d *delivery) askParty(ctx context.Context, e *party) (answered bool, err error) {
	a, err := d.ask(ctx, d.lane.partyGetter(e.ref.Kind), e.ref.Reference)
	switch {
	case err != nil:
		return false, err
	case a.Kind == client.Found:
		err = d.meet(e, partyOf(a))
	case a.Kind != client.Absent:
		return false, nil
	}
	d.lane.parties.setAsked(e)
	return true, err
}

// meet records a party that the API holds, and only then shows it to other rows.
func (d *delivery) meet(e *party, found ledger.Party) error {
	found.PartyRef, found.Since = e.ref, d.lane.Now()
	if err := d.record(ledger.Entry{Scope: d.lane.scope, Parties: []ledger.Party{found}}); err != nil {
		return err
	}
	if known, _ := d.lane.parties.settled(e); !known && d.madeByLostSend() {
		if e.ref.Kind == ledger.Account {
			d.accounts++
		} else {
			d.customers++
		}
	}
	d.lane.parties.learn(found)
	return nil
}

// madeByLostSend reports whether a party that is found now counts as created by this row: a send
// of the row that nested the party got no conclusive answer.
func (d *delivery) madeByLostSend() bool {
	return d.rec != nil && d.rec.Send.File == d.file.ID && d.rec.Send.Unanswered && d.rec.Send.Form.Nested()
}

// getter asks the API for one object by its reference.
type getter func(ctx context.Context, name string) client.Answer

// partyGetter returns what asks the API for parties of a kind.
func (l *Lane) partyGetter(kind ledger.PartyKind) getter {
	if kind == ledger.Account {
		return l.api.GetAccount
	}
	return l.api.GetCustomer
}

// partyOf returns the customer or account in an answer: its id, and an account's owner.
func partyOf(a client.Answer) (p ledger.Party) {
	switch {
	case a.Account != nil:
		p.ID, p.CustomerID = a.Account.ID, a.Account.CustomerID
	case a.Customer != nil:
		p.ID = a.Customer.ID
	}
	return p
}

// ask sends one GET, as gate.ask does, and counts it for the file. A foreign 404 proves nothing
// about a bill or a party, so it counts as a fault of the server.
func (d *delivery) ask(ctx context.Context, get getter, reference string) (client.Answer, error) {
	d.park()
	redacted := func(ctx context.Context, reference string) client.Answer {
		a := get(ctx, reference)
		if a.Foreign {
			a.Kind = client.ServerFault
		}
		d.redactPage(&a)
		d.lane.clock.observe(a)
		return a
	}
	return d.gate.ask(ctx, d.acquire, redacted, reference, func(a client.Answer) error {
		e := ledger.Entry{File: d.file.ID, Gets: 1}
		if a.Kind == client.Throttled {
			e.Throttled = 1
		}
		if a.Kind == client.NotSent {
			e.Gets = 0
		}
		return d.record(e)
	})
}

// ask sends one GET, and repeats it while an answer may still come. acquire is the gate's, or
// a worker's. onAnswer is called with each answer. Found, Absent and Refused are answers; any
// other kind means that the API gave none. An error means that the run stops.
func (g *gate) ask(ctx context.Context, acquire func(context.Context) (ticket, error), get getter, reference string, onAnswer func(client.Answer) error) (client.Answer, error) {
	var spare sparing
	for tries := 0; ; {
		tk, err := acquire(ctx)
		if err != nil {
			return client.Answer{}, err
		}
		a := get(context.WithoutCancel(ctx), reference)
		g.done(tk, reference, a)
		if err := onAnswer(a); err != nil {
			return client.Answer{}, err
		}
		if stopsAll(a) && (!forbidden(a) || !g.keyProven()) {
			g.close(stopReason(a))
			return a, g.err()
		}
		switch a.Kind {
		case client.Found, client.Absent, client.Refused:
			return a, nil
		case client.Throttled:
			continue
		case client.NotSent:
		default:
			spared := spare.spares(g, tk, a)
			if outage, _ := g.state(); outage {
				tries = 0
			} else if !spared {
				tries++
			}
			if tries < g.policy.MaxAttempts || g.suspect() {
				break
			}
			if forbidden(a) && !g.passedSince(reference) { // nothing passes: the key was withdrawn
				g.close(stopReason(a))
				return a, g.err()
			}
			return a, nil
		}
		if err := g.sleep(ctx, g.policy.backoff(reference, max(1, tries, spare.count))); err != nil {
			return client.Answer{}, err
		}
	}
}
