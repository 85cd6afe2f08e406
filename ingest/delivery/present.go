package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"billdrop/client"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Presenting says until when the bills of a feed can be paid by their links.
type Presenting struct {
	Expires time.Duration // from when the link is asked for
	// DueDate: the link expires at the end of the bill's due date in Zone. Expires then holds
	// for a bill without one, and for one whose due date is over.
	DueDate bool
	Zone    *time.Location
}

const (
	// linkPage is how many outcomes are read at a time. The next page is read ahead.
	linkPage = 256
	// linkBatch requests are recorded together, before they are sent and after they have ended.
	linkBatch = 128
	// linkDelay is how long what came of a request waits for others to be recorded with.
	linkDelay = 50 * time.Millisecond
)

// Present makes a payment request for every bill that f created and that has none yet, and
// returns how many are missing then. Those rows stay created, with the code link_failed or
// link_unknown.
//
// It may be called again after a crash at any point: a request is recorded before it is sent,
// and a bill has one key and one body. If the API stays down for Policy.GiveUpAfter, the links
// are missing and the run goes on. Cancelling ctx is the soft stop, as for Deliver. A *Stop
// with Setup is returned if the API shows that nothing may be sent to it.
func (l *Lane) Present(ctx context.Context, led ledger.Ledger, f *ledger.File, how Presenting) (missing int, err error) {
	p := &presenter{
		lane: l, ledger: led, file: f, how: how, member: newMember(l.joinLinks(led), led), recordCtx: context.WithoutCancel(ctx),
		window: int64(max(4*linkBatch, 4*l.policy.Concurrency)), ended: make(chan *asking), flying: make(map[string]bool),
	}
	p.places = semaphore.NewWeighted(p.window)
	defer l.leaveLinks()
	l.clock.recorded(f.Started)
	var recorder errgroup.Group
	recorder.Go(p.record)
	err = p.feed(ctx)
	if e := p.rows.Wait(); err == nil {
		err = e
	}
	close(p.ended)
	if e := p.unlessDown(p.gate.err()); e != nil { // why the run was stopped, better than any one row can say
		err = e
	}
	if e := recorder.Wait(); e != nil {
		err = e
	}
	return int(p.missing.Load()), err
}

// joinLinks returns the gate of the lane's payment requests. It is not that of its bills,
// because an outage of payment requests alone must not stop them. The limit of the rate is
// the same.
func (l *Lane) joinLinks(led ledger.Ledger) *gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.presenting == 0 {
		l.links = newGate(l.policy, l.limiter)
		if l.Warn != nil {
			l.links.warn = l.Warn
		}
	}
	l.links.share(led, l.scope)
	l.presenting++
	return l.links
}

// leaveLinks ends what joinLinks began.
func (l *Lane) leaveLinks() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.presenting--
}

// presenter makes the payment requests of one file's bills. Pages of rows are read ahead, and
// each row that needs a request is on its way by itself, so that a slow answer holds up no other
// row. A bounded number of requests is recorded as about to be sent: enough to share commits and to
// keep all senders busy, and few enough that a crash leaves few in doubt.
type presenter struct {
	lane   *Lane
	ledger ledger.Ledger
	file   *ledger.File
	how    Presenting
	member
	recordCtx context.Context

	window  int64
	places  *semaphore.Weighted  // of window: requests from their first record to their last
	rows    errgroup.Group       // they are being sent
	ended   chan *asking         // what came of them is to be recorded
	down    atomic.Pointer[Stop] // why no more requests are sent; nil: they are
	missing atomic.Int64

	mu     sync.Mutex
	flying map[string]bool // references of the rows that have a place
}

// feed takes all rows of the file in order: it ends those that need no request, and starts the
// others.
func (p *presenter) feed(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	ahead := report.Ahead{Fetch: func(from int) ([]ledger.Outcome, error) {
		return p.ledger.Outcomes(reading, p.file.ID, from, linkPage)
	}}
	defer ahead.Wait()
	defer stop()
	for from := 1; ctx.Err() == nil; {
		page, err := ahead.Page(from)
		if err != nil && ctx.Err() != nil {
			break
		}
		if err != nil || len(page) == 0 {
			return err
		}
		from = page[len(page)-1].Row + 1
		if err := p.present(ctx, page); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// present takes the rows of a page.
func (p *presenter) present(ctx context.Context, page []ledger.Outcome) error {
	rows, err := p.prepare(ctx, page)
	if err != nil {
		return err
	}
	var going []*asking
	for _, a := range rows {
		if a.do == linkBegin || a.do == linkResend {
			going = append(going, a)
		} else if err := p.end(a); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(going, linkBatch) {
		if err := p.start(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// start records requests that are about to be sent, and has them sent. No request leaves before
// the record of it is durable.
func (p *presenter) start(ctx context.Context, batch []*asking) error {
	if err := p.places.Acquire(ctx, int64(len(batch))); err != nil {
		return context.Cause(ctx)
	}
	giveBack := func(err error) error {
		p.places.Release(int64(len(batch)))
		return err
	}
	err := p.unlessDown(p.gate.err())
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return giveBack(err)
	}
	if p.down.Load() != nil {
		for _, a := range batch {
			if err := p.end(a); err != nil {
				return giveBack(err)
			}
		}
		return giveBack(nil)
	}
	var links []ledger.Link
	counts := ledger.Entry{File: p.file.ID}
	for _, a := range batch {
		if a.do == linkBegin {
			a.begun = p.lane.Now()
		}
		a.count(&counts, 1)
		links = append(links, a.asked(p.lane.clock))
	}
	if err := p.save(links, counts); err != nil {
		return giveBack(err)
	}
	p.mu.Lock()
	for _, a := range batch {
		p.flying[a.outcome.Reference] = true
	}
	p.mu.Unlock()
	for _, a := range batch {
		p.rows.Go(func() error {
			err := p.unlessDown(p.ask(ctx, a))
			a.stopped = err != nil
			p.ended <- a
			return err
		})
	}
	return nil
}

// record records what came of requests as they end, many together, until p.ended is closed. If it
// fails, nothing more is sent, and it returns the error.
func (p *presenter) record() error {
	var failed error
	for a := range p.ended {
		batch := p.gather(a)
		if failed == nil {
			failed = p.settle(batch)
		}
		p.mu.Lock()
		for _, a := range batch {
			delete(p.flying, a.outcome.Reference)
		}
		p.mu.Unlock()
		p.places.Release(int64(len(batch)))
	}
	return failed
}

// gather waits for rows that end soon after a.
func (p *presenter) gather(a *asking) []*asking {
	batch := []*asking{a}
	timer := time.NewTimer(linkDelay)
	defer timer.Stop()
	for len(batch) < linkBatch {
		p.mu.Lock()
		others := len(p.flying) - len(batch)
		p.mu.Unlock()
		if others <= 0 {
			return batch
		}
		select {
		case a, ok := <-p.ended:
			if !ok {
				return batch
			}
			batch = append(batch, a)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// settle records rows whose requests have ended.
func (p *presenter) settle(batch []*asking) error {
	var links []ledger.Link
	counts := ledger.Entry{File: p.file.ID}
	for _, a := range batch {
		a.count(&counts, a.sends-1)
		counts.Throttled += a.throttled
		links = append(links, a.settled(p.lane.clock))
	}
	if err := p.save(links, counts); err != nil {
		return err
	}
	for _, a := range batch {
		if err := p.end(a); err != nil {
			return err
		}
	}
	return nil
}

// save returns once links, and the counters with them, are durable.
func (p *presenter) save(links []ledger.Link, counts ledger.Entry) error {
	if counts.Counts() {
		if err := p.ledger.Record(p.recordCtx, counts); err != nil {
			return p.broken(err)
		}
	}
	if err := p.ledger.SaveLinks(p.recordCtx, p.lane.scope, links); err != nil {
		return p.broken(err)
	}
	return nil
}

// prepare decides how each bill that the file created goes on.
func (p *presenter) prepare(ctx context.Context, page []ledger.Outcome) ([]*asking, error) {
	var rows []*asking
	var refs []string
	seen := make(map[string]bool)
	for i := range page {
		if o := &page[i]; o.Status == ledger.Created && !seen[o.Reference] {
			seen[o.Reference] = true
			refs = append(refs, o.Reference)
			rows = append(rows, &asking{outcome: o})
		}
	}
	if err := p.await(ctx, refs); err != nil {
		return nil, err
	}
	known, err := p.ledger.Links(ctx, p.lane.scope, refs)
	if err != nil {
		return nil, err
	}
	var bills map[string]*ledger.Bill
	if p.how.DueDate {
		if bills, err = p.ledger.Bills(ctx, p.lane.scope, refs); err != nil {
			return nil, err
		}
	}
	if err := p.askClock(ctx, rows, known); err != nil {
		return nil, err
	}
	now := p.lane.Now()
	for _, a := range rows {
		o := a.outcome
		link, found := known[o.Reference]
		if found = found && link.BillID == o.BillID; !found {
			link = ledger.Link{Reference: o.Reference, BillID: o.BillID, State: ledger.LinkNone, Key: linkKey(p.lane.scope, o.Reference, o.BillID)}
		}
		a.link = link
		if link.State == ledger.LinkNone && !link.ExpiresAt.After(now) {
			a.link.ExpiresAt = p.expiry(bills[o.Reference], now)
		}
		a.body = linkBody(o, a.link.ExpiresAt)
		digest := ledger.DigestOf(a.body)
		a.do = firstLinkStep(link.State, digest == link.Body && keyUsable(link.KeyFirstUsed, p.lane.clock.latest()) && !p.lane.clock.wrong())
		a.doubt, a.used = link.State == ledger.LinkAsked, !link.KeyFirstUsed.IsZero()
		a.again = a.used
		if a.do == linkBegin {
			a.link.Body = digest
		}
	}
	return rows, nil
}

// await waits until no request of an earlier row with one of these references is on its way.
func (p *presenter) await(ctx context.Context, refs []string) error {
	p.mu.Lock()
	taken := slices.ContainsFunc(refs, func(ref string) bool { return p.flying[ref] })
	p.mu.Unlock()
	if !taken {
		return nil
	}
	if err := p.places.Acquire(ctx, p.window); err != nil {
		return context.Cause(ctx)
	}
	p.places.Release(p.window)
	return nil
}

// askClock has the API tell its time, if a key of an earlier run may be sent again and no
// answer has told it yet.
func (p *presenter) askClock(ctx context.Context, rows []*asking, known map[string]ledger.Link) error {
	for _, a := range rows {
		if link, found := known[a.outcome.Reference]; !found || link.State != ledger.LinkAsked || p.down.Load() != nil {
			continue
		}
		if !p.lane.clock.toAsk() {
			return nil
		}
		tk, err := p.acquire(ctx)
		if err != nil {
			return p.unlessDown(err)
		}
		answer := p.lane.api.GetBill(p.recordCtx, a.outcome.Reference)
		p.lane.clock.observe(answer)
		if stopsAll(answer) && !forbidden(answer) {
			p.gate.close(stopReason(answer))
		}
		p.gate.done(tk, a.outcome.Reference, answer)
		if err := p.ledger.Record(p.recordCtx, ledger.Entry{File: p.file.ID, Gets: 1}); err != nil {
			return p.broken(err)
		}
		return p.unlessDown(p.gate.err())
	}
	return nil
}

// unlessDown returns err, unless it only means that the API is down.
func (p *presenter) unlessDown(err error) error {
	if stop, ok := errors.AsType[*Stop](err); ok && !stop.Setup {
		p.down.CompareAndSwap(nil, stop)
		return nil
	}
	return err
}

// expiry returns until when a link that is asked for now can be paid.
func (p *presenter) expiry(b *ledger.Bill, now time.Time) time.Time {
	if b != nil {
		if due, err := time.ParseInLocation(time.DateOnly, b.Observed.DueDate, p.how.Zone); err == nil {
			if end := due.AddDate(0, 0, 1).Add(-time.Second); end.After(now) {
				return end.UTC()
			}
		}
	}
	return now.Add(p.how.Expires).UTC().Truncate(time.Second)
}

// ask sends one request until its answer is one to end with.
func (p *presenter) ask(ctx context.Context, a *asking) error {
	defer p.gate.forget(a.link.Reference)
	charged, outages := 0, 0
	var spare sparing
	for {
		tk, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		if !p.lane.clock.usable(a.begun, a.link.KeyFirstUsed) {
			p.gate.cancel(tk)
			a.do = linkExpired
			return nil
		}
		answer := p.lane.api.CreatePaymentRequest(p.recordCtx, a.link.Key, a.link.Reference, a.body)
		a.answer(answer)
		p.lane.clock.observe(answer)
		todo := afterLinkAnswer(answer)
		if todo == linkStop {
			p.gate.close(stopReason(answer))
		}
		if forbidden(answer) { // of payment requests alone, because bills were created with this key
			p.gate.cancel(tk)
		} else {
			p.gate.done(tk, a.link.Reference, answer)
		}
		a.used = a.used || answer.Kind != client.NotSent
		a.doubt = a.doubt || inDoubt(answer)
		outage, n := p.gate.state()
		if outage || n != outages { // an outage does not use links up
			charged, spare, outages = 0, sparing{}, n
		}
		switch spared := spare.spares(p.gate, tk, answer); {
		case todo == linkStop:
			return p.gate.err()
		case todo == linkMade:
			r := answer.PaymentRequest
			if r.Amount != 0 && r.Amount != a.outcome.Amount || r.Currency != "" && r.Currency != a.outcome.Currency {
				a.link.State = ledger.LinkFailed // it would have another sum paid
				return nil
			}
			a.link.State, a.link.RequestID, a.link.URL = ledger.LinkMade, r.ID, r.Link
			return nil
		case todo == linkFailed:
			a.link.State = ledger.LinkFailed
			return nil
		case todo == linkTurnedAway:
			return nil
		case todo == linkAgain && !spared && !outage:
			if charged++; charged >= p.lane.policy.MaxAttempts {
				return nil
			}
		}
		if answer.Kind == client.Throttled { // the gate keeps everybody waiting
			continue
		}
		if err := p.gate.sleep(ctx, p.lane.policy.backoff(a.link.Reference, max(1, charged, spare.count))); err != nil {
			return err
		}
	}
}

// end gives the row the code that its link leaves it, and counts it if its link is missing.
func (p *presenter) end(a *asking) error {
	err := p.recode(a)
	if a.outcome.LinkMissing() {
		p.missing.Add(1)
	}
	return err
}

// recode records the code that a link leaves its row, if that is another one than the row has.
func (p *presenter) recode(a *asking) error {
	o := *a.outcome
	o.Code, o.Detail = "", ""
	retry := "; run: billdrop retry " + p.file.ID
	switch {
	case a.link.State == ledger.LinkMade:
	case a.link.State == ledger.LinkFailed:
		o.Code = ledger.CodeLinkFailed
		o.Detail = "the bill exists and has no payment link: the API refused the payment request for good (" + a.link.Answer + ")"
	case a.do == linkExpired && a.doubt:
		o.Code = ledger.CodeLinkUnknown
		o.Detail = "the bill exists; its payment request may exist too, and can neither be looked up nor safely be sent again: ask Moment for the link"
	case a.stopped: // the next run finds out
		return nil
	case p.down.Load() != nil && a.answered.Kind == client.Unknown:
		o.Code, o.Detail = ledger.CodeLinkFailed, "the bill exists and has no payment link yet: the API gave no usable answer about payment requests"+retry
	default:
		o.Code, o.Detail = ledger.CodeLinkFailed, "the bill exists and has no payment link yet: the last answer was "+a.link.Answer+retry
	}
	if o.Code == a.outcome.Code && o.Detail == a.outcome.Detail {
		return nil
	}
	*a.outcome = o
	if err := p.ledger.Record(p.recordCtx, ledger.Entry{Scope: p.lane.scope, File: p.file.ID, Outcome: &o}); err != nil {
		return p.broken(err)
	}
	return nil
}

// broken stops everything: without a ledger nothing may be sent.
func (p *presenter) broken(err error) error {
	err = fmt.Errorf("payment requests of %s: %w", p.file.Name, err)
	p.gate.close(err)
	return err
}
