package delivery

import (
	"context"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// lookUp asks the API for the row's bill and decides by what it finds.
func (d *delivery) lookUp(ctx context.Context, c cause) (decision, error) {
	found, err := d.find(ctx)
	if err != nil {
		return decision{}, err
	}
	ours := d.rec.Send.File == d.file.ID && d.rec.Send.Unanswered
	rounds := d.generations
	if c == causeInFlight {
		d.waits++
		rounds = d.waits
	}
	todo := afterLookUp(found, c, ours, rounds)
	if found == foundAbsent && c != causeInFlight {
		d.rec.State, d.rec.Doubt = ledger.Gone, false
		if err := d.note(ctx); err != nil {
			return decision{}, err
		}
	}
	return todo, nil
}

// lastLook looks a bill up once more while the run stops, past the closed gate. If the bill is
// there and the same, the row is settled; otherwise the next run continues with it.
func (d *delivery) lastLook(ctx context.Context) (decision, error) {
	a := d.lane.api.GetBill(d.recordCtx, d.bill.Reference)
	if err := d.record(ctx, ledger.Entry{File: d.file.ID, Gets: 1}); err != nil {
		return decision{}, err
	}
	if a.Kind == client.Found {
		d.rec.State, d.rec.Doubt, d.rec.Seen = ledger.Exists, false, seen(a.Bill)
		if found, err := d.sameOrNot(ctx); err == nil && found == foundSame {
			return decision{Do: stepFinish, Status: ledger.Created}, nil
		}
		d.rec.State, d.rec.Doubt = ledger.Pending, true
	}
	return decision{Do: stepStop}, nil
}

// find looks the bill up. While an earlier send may still be at work in the server, one 404
// proves nothing: it takes two, LookupSettle apart.
func (d *delivery) find(ctx context.Context) (finding, error) {
	for settled := !d.rec.Doubt; ; settled = true {
		a, err := d.ask(ctx, d.lane.api.GetBill, d.bill.Reference)
		if err != nil {
			return foundNothing, err
		}
		switch a.Kind {
		case client.Found:
			d.rec.State, d.rec.Doubt, d.rec.Seen = ledger.Exists, false, seen(a.Bill)
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
		if err := d.gate.sleep(ctx, d.lane.policy.LookupSettle); err != nil {
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

// sameOrNot compares the row with the bill that exists. It asks the API for the row's party if
// its id is not known yet.
func (d *delivery) sameOrNot(ctx context.Context) (finding, error) {
	p := d.lane.parties.known(d.lease)
	var err error
	var ok bool
	switch {
	case p.AccountID == "" && d.bill.AccountReference != "":
		p.AccountID, ok, err = d.askAccount(ctx)
	case d.bill.AccountReference == "" && d.bill.AccountID == "" && p.CustomerID == "":
		p.CustomerID, ok, err = d.askCustomer(ctx)
	default:
		ok = true
	}
	switch {
	case err != nil:
		return foundNothing, err
	case !ok:
		return foundNothing, nil
	}
	if d.diff = describe(differences(&d.bill, d.rec.Seen, p)); d.diff != "" {
		return foundDifferent, nil
	}
	return foundSame, nil
}

// askParties asks for the parties that the refused body nested as new.
func (d *delivery) askParties(ctx context.Context) (decision, error) {
	var learnt bool
	form := d.rec.Send.Form
	for _, p := range []struct {
		nested bool
		ask    func(context.Context) (string, bool, error)
	}{
		{form.NestsAccount(), d.askAccount},
		{form.NestsCustomer(), d.askCustomer},
	} {
		if !p.nested {
			continue
		}
		id, ok, err := p.ask(ctx)
		if err != nil {
			return decision{}, err
		}
		if !ok {
			return decision{Do: stepFinish, Status: ledger.Unknown}, nil
		}
		learnt = learnt || id != ""
	}
	h := history{Charged: d.charged, MaxAttempts: d.lane.policy.MaxAttempts}
	todo := afterParties(learnt, d.last.Replayed || d.last.Kind == client.Refused, h, d.generations)
	return todo, nil
}

// resolveAccount finds the account of a row that names it without its customer. If the id is
// empty, the decision ends the row.
func (d *delivery) resolveAccount(ctx context.Context) (string, decision, error) {
	id, ok, err := d.askAccount(ctx)
	switch {
	case err != nil:
		return "", decision{}, err
	case !ok:
		return "", decision{Do: stepFinish, Status: ledger.Failed}, nil
	case id == "":
		return "", decision{Do: stepFinish, Status: ledger.Rejected}, nil
	}
	d.lane.parties.handOver(d.lease)
	return id, decision{}, nil
}

// askAccount asks for the row's account by reference. An empty id means that there is none, and
// ok false that the API gave no usable answer.
func (d *delivery) askAccount(ctx context.Context) (id string, ok bool, err error) {
	a, err := d.ask(ctx, d.lane.api.GetAccount, d.bill.AccountReference)
	if err != nil || a.Kind != client.Found {
		return "", a.Kind == client.Absent, err
	}
	p := ledger.Party{PartyRef: d.lease.account.ref, ID: a.Account.ID}
	return p.ID, true, d.recordParty(ctx, p)
}

// askCustomer asks for the row's customer by reference, as askAccount does.
func (d *delivery) askCustomer(ctx context.Context) (id string, ok bool, err error) {
	a, err := d.ask(ctx, d.lane.api.GetCustomer, d.bill.CustomerReference)
	if err != nil || a.Kind != client.Found {
		return "", a.Kind == client.Absent, err
	}
	p := ledger.Party{PartyRef: d.lease.customer.ref, ID: a.Customer.ID}
	return p.ID, true, d.recordParty(ctx, p)
}

// recordParty records a party that the API holds, and only then gives its id to other rows.
func (d *delivery) recordParty(ctx context.Context, p ledger.Party) error {
	if err := d.record(ctx, ledger.Entry{Scope: d.lane.scope, Parties: []ledger.Party{p}}); err != nil {
		return err
	}
	known := d.lane.parties.known(d.lease)
	made := 0
	if d.madeByLostSend() {
		made = 1
	}
	if p.Kind == ledger.Account {
		if known.AccountID == "" {
			d.accounts += made
		}
		d.lane.parties.learn(d.lease, p.ID, "")
		return nil
	}
	if known.CustomerID == "" {
		d.customers += made
	}
	d.lane.parties.learn(d.lease, "", p.ID)
	return nil
}

// madeByLostSend reports whether a party that is found now counts as created by this row: a send
// of the row that nested the party got no conclusive answer.
func (d *delivery) madeByLostSend() bool {
	return d.rec != nil && d.rec.Send.File == d.file.ID && d.rec.Send.Unanswered && d.rec.Send.Form.Nested()
}

// getter asks the API for one object by its reference.
type getter func(ctx context.Context, reference string) client.Answer

// ask sends one GET, as gate.ask does, and counts it for the file.
func (d *delivery) ask(ctx context.Context, get getter, reference string) (client.Answer, error) {
	d.park()
	redacted := func(ctx context.Context, reference string) client.Answer {
		a := get(ctx, reference)
		a.Page = redact(a.Page, &d.bill)
		return a
	}
	return d.gate.ask(ctx, redacted, reference, func(a client.Answer) error {
		e := ledger.Entry{File: d.file.ID, Gets: 1}
		if a.Kind == client.Throttled {
			e.Throttled = 1
		}
		if a.Kind == client.NotSent {
			e.Gets = 0
		}
		return d.record(ctx, e)
	})
}

// ask sends one GET, and repeats it while an answer may still come. onAnswer is called with each
// answer. Found, Absent and Refused are answers; any other kind means that the API gave none.
// An error means that the run stops.
func (g *gate) ask(ctx context.Context, get getter, reference string, onAnswer func(client.Answer) error) (client.Answer, error) {
	var spare sparing
	for tries := 0; ; {
		tk, err := g.acquire(ctx)
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
