package delivery

import (
	"context"
	"fmt"
	"time"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// delivery is one row on its way to becoming a bill. One goroutine works on it.
type delivery struct {
	*fanout
	row, line    int
	bill         billfile.Bill
	content      [32]byte
	turn         <-chan struct{} // nil: the reference is ours already
	lease        *lease
	partiesReady <-chan struct{} // set where the feeder has asked for the parties already

	rec         *ledger.Bill // the ledger's record of the reference; nil: never onAnswer of
	body        []byte       // of rec.Send's generation; nil until built
	last        client.Answer
	silence     <-chan struct{} // set while last is a 403 of which it is not known whose it is
	charged     int             // sends of this run that count against the row
	sparing     sparing
	outages     int // outages of the gate when charged was last resumed anew
	generations int // keys used up in this run
	customers   int // created by sends of this row, runs before a retry included
	accounts    int
	waits       int    // look-ups in this run for a request that stayed in flight
	diff        string // what the bill that exists says otherwise
	waiting     bool   // it has no slot any more
}

// run takes the row to its outcome and records it. It returns an error if the run stops before
// that: then the row has no outcome, and the next run continues from what the ledger holds.
func (d *delivery) run(ctx context.Context) error {
	defer d.lane.parties.release(d.lease)
	if d.turn != nil {
		d.park()
		d.setup.working(-1) // it waits for another row, so it cannot tell anything
		err := d.lane.refs.await(ctx, d.bill.Reference, d.turn)
		d.setup.working(1)
		if err != nil {
			return err
		}
		defer d.lane.refs.give(d.bill.Reference)
		if err := d.reload(ctx); err != nil {
			return err
		}
	} else {
		defer d.lane.refs.give(d.bill.Reference)
	}
	todo := d.start()
	for {
		var err error
		switch todo.Do {
		case stepCompare:
			todo, err = d.compare(ctx)
		case stepSend:
			todo, err = d.sendNew(ctx)
		case stepResend:
			todo, err = d.sendAgain(ctx)
		case stepLookUp:
			todo, err = d.lookUp(ctx, todo.Cause)
		case stepParties:
			todo, err = d.askParties(ctx)
		case stepRefuse:
			return d.refuse(ctx)
		case stepFinish:
			return d.finish(ctx, todo.Status)
		default:
			return d.stop()
		}
		if err != nil {
			return err
		}
	}
}

// reload reads the reference's record again, after another row worked on it.
func (d *delivery) reload(ctx context.Context) error {
	known, err := d.ledger.Bills(ctx, d.lane.scope, []string{d.bill.Reference})
	if err != nil {
		return d.broken(err)
	}
	d.rec = known[d.bill.Reference]
	return nil
}

// start decides how to begin, from the record of the reference.
func (d *delivery) start() decision {
	var digest ledger.Digest
	if d.rec != nil && d.rec.Send.Key != "" {
		if d.rec.InDoubt() { // a crash, or a run that was stopped hard: the answer is lost
			d.rec.Doubt = true
			if d.rec.Send.Answer == "" {
				d.rec.Send.Unanswered = true
			}
		}
		d.body = body(&d.bill, d.rec.Send.Form, d.rec.Send.CustomerID, d.rec.Send.AccountID)
		digest = ledger.DigestOf(d.body)
	}
	return firstStep(d.rec, ledger.Digest(d.content[:16]), digest, time.Now())
}

// sendNew begins a generation: it chooses the form that today's knowledge of the parties allows,
// and sends it.
func (d *delivery) sendNew(ctx context.Context) (decision, error) {
	partiesReady := d.partiesReady
	d.partiesReady = nil
	if partiesReady == nil {
		partiesReady = d.lane.parties.acquire(d.lease)
	}
	if err := d.wait(ctx, partiesReady); err != nil {
		return decision{}, err
	}
	form, accountID, customerID := d.lease.form, d.lease.accountID, d.lease.customerID
	if form == ledger.FormNone {
		id, todo, err := d.resolveAccount(ctx)
		if id == "" {
			return todo, err
		}
		form, accountID = ledger.FormAccount, id
	}
	if d.rec == nil {
		d.rec = &ledger.Bill{Reference: d.bill.Reference}
	}
	d.generations++
	s := d.ownSend()
	s.Generation++
	s.Form, s.AccountID, s.CustomerID = form, accountID, customerID
	s.Content = ledger.Digest(d.content[:16])
	s.Key = idempotencyKey(d.lane.scope, d.bill.Reference, d.content, s.Generation)
	s.KeyFirstUsed = time.Now()
	d.body = body(&d.bill, form, customerID, accountID)
	s.Body = ledger.DigestOf(d.body)
	return d.send(ctx)
}

// ownSend returns the record's latest send, made this file's: another file's counts do not apply.
func (d *delivery) ownSend() *ledger.Send {
	s := &d.rec.Send
	if s.File != d.file.ID {
		s.File, s.Count, s.Unanswered = d.file.ID, 0, false
	}
	s.Row = d.row
	return s
}

// sendAgain sends the recorded generation once more: same key, same bytes.
func (d *delivery) sendAgain(ctx context.Context) (decision, error) {
	switch d.last.Kind {
	case client.Unknown: // nothing was sent in this run yet
		if err := d.wait(ctx, d.lane.parties.reacquire(d.lease, d.rec.Send.Form)); err != nil {
			return decision{}, err
		}
	case client.Throttled: // the gate keeps everybody waiting
	default:
		d.park()
		if err := d.gate.sleep(ctx, d.lane.policy.backoff(d.bill.Reference, max(1, d.charged, d.sparing.count))); err != nil {
			return decision{}, err
		}
	}
	d.ownSend()
	return d.send(ctx)
}

// send records the send, waits for a ticket, checks the key's age, sends, and judges the answer.
// The order matters: no request without its record, and no key that grew too old while waiting.
func (d *delivery) send(ctx context.Context) (decision, error) {
	if err := d.recorded.Acquire(ctx, 1); err != nil {
		return decision{}, context.Cause(ctx)
	}
	defer d.recorded.Release(1)
	s := &d.rec.Send
	before := s.Answer
	s.At, s.Answer = time.Now(), ""
	s.Count++
	d.rec.State = ledger.Pending
	if err := d.ledger.Begin(d.recordCtx, d.lane.scope, d.rec); err != nil {
		return decision{}, d.broken(err)
	}
	takeBack := func() error {
		s.Count--
		if s.Answer = before; s.Answer == "" {
			s.Answer = "not sent"
		}
		return d.note(ctx)
	}
	tk, err := d.gate.acquire(ctx)
	if err != nil {
		if e := takeBack(); e != nil {
			return decision{}, e
		}
		return decision{}, err
	}
	if !keyUsable(s.KeyFirstUsed, time.Now()) {
		d.gate.cancel(tk)
		return decision{Do: stepLookUp, Cause: causeExpired}, takeBack()
	}
	d.last = d.lane.api.CreateBill(d.recordCtx, s.Key, d.bill.Reference, d.body)
	d.last.Page = redact(d.last.Page, &d.bill)
	d.setup.observe(d.last)
	d.silence = nil
	switch { // before the gate lets the next one through
	case forbidden(d.last):
		if !d.gate.keyProven() {
			d.silence = d.gate.quiesce()
		}
	case stopsAll(d.last):
		d.gate.close(stopReason(d.last))
	}
	d.gate.done(tk, d.bill.Reference, d.last)
	return d.judge(ctx, d.sparing.spares(d.gate, tk, d.last))
}

// judge decides by the last answer, and records it. spared: the answer uses up no attempt.
func (d *delivery) judge(ctx context.Context, spared bool) (decision, error) {
	a, s := d.last, &d.rec.Send
	keyGood, ended := d.gate.awaitProof(ctx, d.silence)
	outage, outages := d.gate.state()
	if outage || outages != d.outages { // an outage does not use rows up
		d.charged, d.sparing, d.outages = 0, sparing{}, outages
	}
	todo := afterAnswer(a, history{Charged: d.charged, MaxAttempts: d.lane.policy.MaxAttempts, Spared: spared, KeyGood: keyGood})
	if todo.Charged && !outage {
		d.charged++
	}
	s.Answer = a.Label()
	s.Unanswered = s.Unanswered || todo.Inconclusive
	d.rec.Doubt = d.rec.Doubt || todo.Inconclusive || todo.Doubtful
	if a.Kind == client.NotSent || a.Kind == client.Untrusted || a.Kind == client.ProxyRefused {
		s.Count--
	}
	if todo.Do == stepRefuse && d.rec.Doubt {
		todo = decision{Do: stepLookUp, Cause: causeRefused} // an earlier send may still have made the bill
	}
	if todo.Do == stepFinish { // created: the one place where success comes from an answer
		d.rec.State, d.rec.Doubt, d.rec.Seen = ledger.Exists, false, seen(a.Bill)
		fillFromSent(&d.rec.Seen, &d.bill)
		if d.diff = describe(contradictions(&d.bill, d.rec.Seen)); d.diff != "" {
			todo.Status = ledger.Conflict
		}
		return todo, nil
	}
	if err := d.note(ctx); err != nil {
		return decision{}, err
	}
	if ended != nil {
		return decision{}, ended
	}
	if a.Kind == client.Mismatched {
		return d.lastLook(ctx)
	}
	if !suspicious(a) {
		return todo, nil
	}
	d.lane.parties.handOver(d.lease)
	byID := s.AccountID != "" || s.CustomerID != ""
	atFault, err := d.setup.hold(ctx, d.gate, a, byID)
	if atFault {
		todo = decision{Do: stepStop}
	}
	return todo, err
}

// note records the latest send of a row that has no outcome yet.
func (d *delivery) note(ctx context.Context) error {
	e := ledger.Entry{Scope: d.lane.scope, Bill: d.rec, File: d.file.ID}
	if d.last.Kind == client.Throttled && d.rec.Send.Answer == d.last.Label() {
		e.Throttled = 1
	}
	return d.record(ctx, e)
}

func (d *delivery) record(ctx context.Context, e ledger.Entry) error {
	if err := d.ledger.Record(d.recordCtx, e); err != nil {
		return d.broken(err)
	}
	return nil
}

// broken stops everything: without a ledger nothing may be sent.
func (d *delivery) broken(err error) error {
	err = fmt.Errorf("line %d of %s: %w", d.line, d.file.Name, err)
	d.gate.close(err)
	return err
}

// stop ends the run because of an answer that is not the row's fault.
func (d *delivery) stop() error {
	d.gate.close(stopReason(d.last))
	return d.gate.err()
}

// wait waits for a party, or until the run stops.
func (d *delivery) wait(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready: // mostly; and looking costs less than waiting
		return nil
	default:
	}
	d.park()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.gate.closed:
		return d.gate.err()
	}
}
