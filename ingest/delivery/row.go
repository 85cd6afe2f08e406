package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// delivery is one row on its way to becoming a bill. One goroutine works on it.
type delivery struct {
	*fanout
	row, line int
	bill      billfile.Bill
	content   [32]byte
	turn      <-chan struct{} // nil: the row holds its reference
	lease     *lease
	proven    bool // the record of the bill proves its parties, so the lease is on none
	// partiesReady is set if the parties were acquired already, in file order.
	partiesReady <-chan struct{}

	rec         *ledger.Bill // the ledger's record of the reference; nil = none
	stored      ledger.Bill  // rec as it was read
	body        []byte       // of rec.Send's generation; nil until built
	last        client.Answer
	silence     <-chan struct{} // set while last is a 403 of which it is not known whose it is
	charged     int             // sends of this run that count against the row
	sparing     sparing
	outages     int       // of the gate, when charged was last set to 0
	generations int       // keys used up in this run
	keyFirst    time.Time // when this run first committed the key; zero: an earlier one did
	open        time.Time // until then a send of a process that was lost counts as on its way
	customers   int       // created by sends of this row, runs before a retry included
	accounts    int       // likewise
	rounds      int       // look-ups in this run for a request that stayed in flight
	lateLooks   int       // look-ups in this run for what the API calls taken and does not show
	late        bool      // the API calls something taken, so what it does not show may only be late
	diff        string    // in what the bill that exists differs
	fresh       bool      // the API has told of the bill in this run
	waiting     bool      // it has given up its active place
	taken       taken     // how it waits for a colleague
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
	todo, err := d.begin(ctx)
	for err == nil {
		switch todo.Do {
		case stepUnsent:
			return d.leaveUnsent()
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
			return d.refuse()
		case stepMismatch:
			return d.mismatch()
		case stepUnknownAccount:
			return d.unknownAccount()
		case stepFinish:
			return d.finish(todo.Status)
		default:
			return d.stop()
		}
		if errors.Is(err, ledger.ErrTaken) {
			todo, err = d.beginAnew(ctx)
		}
	}
	return err
}

// begin decides how the row begins, once no colleague has its bill in hand.
func (d *delivery) begin(ctx context.Context) (decision, error) {
	if err := d.awaitColleague(ctx); err != nil {
		return decision{}, err
	}
	todo := d.start()
	if d.settling {
		sent, err := d.sentBefore(ctx)
		if err != nil {
			return decision{}, d.broken(err)
		}
		if !sent {
			return decision{Do: stepUnsent}, nil
		}
		todo = settleStep(d.rec)
	}
	return d.checkClock(ctx, todo)
}

// reload reads the reference's record again, after another row worked on it.
func (d *delivery) reload(ctx context.Context) error {
	known, err := d.ledger.Bills(ctx, d.lane.scope, []string{d.bill.Reference})
	if err != nil {
		return d.broken(err)
	}
	d.read(known[d.bill.Reference])
	return nil
}

// read takes over what the ledger holds of the reference; nil = nothing.
func (d *delivery) read(b *ledger.Bill) {
	d.keyFirst = time.Time{} // another worker may have used the key meanwhile
	if d.rec = b; b != nil {
		d.stored = *b
	}
}

// start decides how to begin, from the record of the reference.
func (d *delivery) start() decision {
	var digest ledger.Digest
	if d.rec != nil && d.rec.Send.Key != "" && d.rec.State == ledger.Pending { // else nothing is sent again
		if d.rec.InDoubt() { // a crash, or a run that was stopped hard: the answer is lost
			d.rec.Doubt = true
			// From now, not from when the send was recorded: it may have left long after that, or
			// another clock has told the time.
			d.open = d.lane.Now().Add(d.lane.policy.Timeout)
			if d.rec.Send.Answer == "" {
				d.rec.Send.Unanswered = true
			}
		}
		d.body = body(&d.bill, d.rec.Send.Form, d.rec.Send.CustomerID, d.rec.Send.AccountID)
		digest = ledger.DigestOf(d.body)
	}
	return firstStep(d.rec, ledger.Digest(d.content[:16]), digest, d.lane.Now())
}

// sendNew begins a generation: it chooses the form that today's knowledge of the parties allows,
// and sends it. A row whose account belongs to another customer is not sent.
func (d *delivery) sendNew(ctx context.Context) (decision, error) {
	todo, err := d.chooseForm(ctx)
	if todo.Do != stepSend || err != nil {
		return todo, err
	}
	known := d.lane.parties.known(d.lease)
	if d.rec == nil {
		d.rec = &ledger.Bill{Reference: d.bill.Reference}
	}
	d.generations++
	s := d.ownSend()
	s.Generation++
	s.Form, s.AccountID, s.CustomerID = d.lease.route.Form, "", ""
	switch s.Form {
	case ledger.FormAccount:
		s.AccountID = known.AccountID
	case ledger.FormCustomer, ledger.FormNewAccount:
		s.CustomerID = known.CustomerID
	}
	s.Content = ledger.Digest(d.content[:16])
	s.Key = idempotencyKey(d.lane.scope, d.bill.Reference, d.content, s.Generation)
	d.keyFirst = d.lane.Now()
	s.KeyFirstUsed = d.lane.clock.firstUse(d.keyFirst)
	d.body = body(&d.bill, s.Form, s.CustomerID, s.AccountID)
	s.Body = ledger.DigestOf(d.body)
	if todo, err = d.send(ctx); errors.Is(err, ledger.ErrTaken) {
		d.generations-- // it was not begun
	}
	return todo, err
}

// chooseForm acquires the row's parties, and asks the API for them as long as the route demands
// it. If it returns stepSend, the lease's route has a form.
func (d *delivery) chooseForm(ctx context.Context) (decision, error) {
	ready := d.partiesReady
	d.partiesReady = nil
	for {
		if ready == nil {
			ready = d.lane.parties.acquire(d.lease)
		}
		if err := d.wait(ctx, ready); err != nil {
			return decision{}, err
		}
		asked := d.lease.account
		switch d.lease.route.Do {
		case routeSend:
			return decision{Do: stepSend}, nil
		case routeMismatch:
			return decision{Do: stepMismatch}, nil
		case routeUnknownAccount:
			return decision{Do: stepUnknownAccount}, nil
		case routeAskCustomer:
			asked = d.lease.customer
		}
		answered, err := d.askParty(ctx, asked)
		if err != nil {
			return decision{}, err
		}
		if !answered {
			return decision{Do: stepFinish, Status: ledger.Failed}, nil
		}
		d.lane.parties.handOver(d.lease) // a row that asks does not wait for another party meanwhile
		ready = nil
	}
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
		if k := d.lane.parties.known(d.lease); d.rec.Send.Form.Nested() && k.NamesCustomer && k.Owner != "" && k.Owner != k.CustomerID {
			// Since it was sent, the account was seen as another customer's, and a nested body
			// might be billed to that one.
			return decision{Do: stepLookUp, Cause: causeChanged}, nil
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
	d.sending.Add(1)
	defer d.sending.Add(-1)
	if err := d.recorded.Acquire(ctx, 1); err != nil {
		return decision{}, context.Cause(ctx)
	}
	defer d.recorded.Release(1)
	s := &d.rec.Send
	before := s.Answer
	s.At, s.Answer = d.lane.Now(), ""
	if !d.keyFirst.IsZero() {
		s.KeyFirstUsed = d.lane.clock.firstUse(d.keyFirst) // the API may have told its time meanwhile
	}
	s.Count++
	d.rec.State = ledger.Pending
	err := d.ledger.Begin(d.recordCtx, d.lane.scope, d.rec, d.leads(s.Form)...)
	if errors.Is(err, ledger.ErrTaken) {
		return decision{}, err
	}
	if err != nil {
		return decision{}, d.broken(err)
	}
	d.taken = taken{}
	takeBack := func() error {
		s.Count--
		if s.Answer = before; s.Answer == "" {
			s.Answer = "not sent"
		}
		return d.note()
	}
	tk, err := d.acquire(ctx)
	if err != nil {
		if e := takeBack(); e != nil {
			return decision{}, e
		}
		return decision{}, err
	}
	if !d.lane.clock.usable(d.keyFirst, s.KeyFirstUsed) {
		d.gate.cancel(tk)
		return decision{Do: stepLookUp, Cause: causeExpired}, takeBack()
	}
	d.lane.parties.nesting(d.lease, s.Form)
	d.last = d.lane.api.CreateBill(d.recordCtx, s.Key, d.bill.Reference, d.body)
	d.redactPage(&d.last)
	d.lane.clock.observe(d.last)
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
	if endsLost(a) {
		d.open = time.Time{}
	}
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
		return d.judgeCreated()
	}
	if err := d.note(); err != nil {
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

// judgeCreated settles a row that was answered 201. It is in conflict if the answer contradicts
// what was sent: then a bill exists, but not the row's.
func (d *delivery) judgeCreated() (decision, error) {
	d.setObserved(d.last.Bill)
	if d.lane.bills.isOther(d.last.Bill.ID, d.bill.Reference) {
		return d.sameID()
	}
	fillFromSent(&d.rec.Observed, &d.bill, &d.rec.Send)
	known := d.lane.parties.known(d.lease)
	d.diff = describe(contradictions(&d.bill, d.rec.Observed, &d.rec.Send, known))
	if d.diff != "" {
		return decision{Do: stepFinish, Status: ledger.Conflict}, nil
	}
	return decision{Do: stepFinish, Status: ledger.Created}, nil
}

// setObserved enters a bill of the API into the record.
func (d *delivery) setObserved(b *client.Bill) {
	d.rec.State, d.rec.Doubt, d.rec.Observed = ledger.Exists, false, observed(b)
	d.fresh = true
}

// sameID stops the run because the API gives two references one bill id. What became of this row
// is not known.
func (d *delivery) sameID() (decision, error) {
	d.rec.State, d.rec.Doubt, d.rec.Observed = ledger.Pending, true, ledger.Observed{}
	d.rec.Send.Unanswered = true
	if err := d.note(); err != nil {
		return decision{}, err
	}
	d.gate.close(stopSameID)
	return decision{}, d.gate.err()
}

// note records the latest send of a row that has no outcome yet.
func (d *delivery) note() error {
	e := ledger.Entry{Scope: d.lane.scope, Bill: d.rec, File: d.file.ID}
	if d.last.Kind == client.Throttled && d.rec.Send.Answer == d.last.Label() {
		e.Throttled = 1
	}
	return d.record(e)
}

func (d *delivery) record(e ledger.Entry) error {
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
