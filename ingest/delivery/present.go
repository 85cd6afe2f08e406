package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// Presenting says until when the bills of a feed can be paid by their links.
type Presenting struct {
	Expires time.Duration // from when the link is asked for
	// DueDate: the link expires at the end of the bill's due date in Zone. Expires then holds
	// for a bill without one, and for one whose due date is over.
	DueDate bool
	Zone    *time.Location
}

// linkPage is how many outcomes are read at a time, which bounds memory.
const linkPage = 256

// Present makes a payment request for every bill that f created and that has none yet, and
// returns how many are missing then. Those rows stay created, with the code link_failed or
// link_unknown.
//
// It may be called again after a crash at any point: a request is recorded before it is sent,
// and a bill has one key and one body. If the API stays down for Policy.GiveUpAfter, the links
// are missing and the run goes on. Cancelling ctx is the soft stop, as for Deliver. A *Stop
// with Setup is returned if the API shows that nothing may be sent to it.
func (l *Lane) Present(ctx context.Context, led ledger.Ledger, f *ledger.File, how Presenting) (missing int, err error) {
	p := &presenter{lane: l, ledger: led, file: f, how: how, gate: l.joinLinks(led), recordCtx: context.WithoutCancel(ctx)}
	p.shared, _ = led.(ledger.Shared)
	defer l.leaveLinks()
	l.clock.recorded(f.Started)
	for from := 1; ; {
		page, err := led.Outcomes(ctx, f.ID, from, linkPage)
		if err != nil || len(page) == 0 {
			return missing, err
		}
		from = page[len(page)-1].Row + 1
		n, err := p.present(ctx, page)
		if missing += n; err != nil {
			return missing, err
		}
	}
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

// presenter makes the payment requests of one file's bills.
type presenter struct {
	lane      *Lane
	ledger    ledger.Ledger
	file      *ledger.File
	how       Presenting
	gate      *gate
	shared    ledger.Shared // ledger, if other workers use it too; else nil
	recordCtx context.Context
	down      error // why no more requests are sent; nil: they are
}

// asking is the payment request of one row on its way.
type asking struct {
	outcome  *ledger.Outcome
	link     ledger.Link
	body     []byte
	do       linkStep
	begun    time.Time // when this run first committed the key; zero: an earlier one did
	doubt    bool      // a send may have made the request
	used     bool      // the API may have seen the key
	answered client.Answer
}

// present takes the rows of a page to their links, and returns how many are missing.
func (p *presenter) present(ctx context.Context, page []ledger.Outcome) (missing int, err error) {
	rows, err := p.prepare(ctx, page)
	if err != nil {
		return 0, err
	}
	if p.down == nil {
		err = p.send(ctx, rows)
	}
	var stop *Stop
	if errors.As(err, &stop) && !stop.Setup {
		p.down, err = stop, nil
	}
	for _, a := range rows {
		e := p.close(a, err != nil)
		if a.outcome.LinkMissing() {
			missing++
		}
		if e != nil {
			return missing, p.broken(e)
		}
	}
	return missing, err
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
		if a.do == linkBegin {
			a.link.Body = digest
		}
	}
	return rows, nil
}

// askClock has the API tell its time, if a key of an earlier run may be sent again and no
// answer has told it yet.
func (p *presenter) askClock(ctx context.Context, rows []*asking, known map[string]ledger.Link) error {
	for _, a := range rows {
		if link, found := known[a.outcome.Reference]; !found || link.State != ledger.LinkAsked || p.down != nil {
			continue
		}
		c := p.lane.clock
		c.mu.Lock()
		asked := c.asked
		c.asked = true
		c.mu.Unlock()
		if asked {
			return nil
		}
		tk, err := p.acquire(ctx)
		if err != nil {
			return p.unlessDown(err)
		}
		answer := p.lane.api.GetBill(p.recordCtx, a.outcome.Reference)
		c.observe(answer)
		if stopsAll(answer) && !forbidden(answer) {
			p.gate.close(stopReason(answer))
		}
		p.gate.done(tk, a.outcome.Reference, answer)
		return p.unlessDown(p.gate.err())
	}
	return nil
}

// unlessDown returns err, unless it only means that the API is down.
func (p *presenter) unlessDown(err error) error {
	var stop *Stop
	if errors.As(err, &stop) && !stop.Setup {
		p.down = stop
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

// send records the requests that are about to be sent, sends them, and records what came of
// each. No request leaves before the record of it is durable.
func (p *presenter) send(ctx context.Context, rows []*asking) error {
	var going []*asking
	var links []ledger.Link
	for _, a := range rows {
		if a.do != linkBegin && a.do != linkResend {
			continue
		}
		if a.do == linkBegin {
			a.begun = p.lane.Now()
		}
		going = append(going, a)
		links = append(links, a.asked(p.lane.clock))
	}
	if len(going) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := p.ledger.SaveLinks(p.recordCtx, p.lane.scope, links); err != nil {
		return p.broken(err)
	}
	var group errgroup.Group
	for _, a := range going {
		group.Go(func() error { return p.ask(ctx, a) })
	}
	err := group.Wait()
	if e := p.gate.err(); e != nil {
		err = e
	}
	links = links[:0]
	for _, a := range going {
		links = append(links, a.settled(p.lane.clock))
	}
	if e := p.ledger.SaveLinks(p.recordCtx, p.lane.scope, links); e != nil {
		return p.broken(e)
	}
	return err
}

// asked returns the record of a request that is about to be sent.
func (a *asking) asked(c *clock) ledger.Link {
	link := a.link
	link.State = ledger.LinkAsked
	if !a.begun.IsZero() {
		link.KeyFirstUsed = c.firstUse(a.begun)
	}
	return link
}

// settled returns the record of a request after its last answer in this run.
func (a *asking) settled(c *clock) ledger.Link {
	if !a.begun.IsZero() {
		a.link.KeyFirstUsed = c.firstUse(a.begun) // the API may have told its time meanwhile
	}
	switch {
	case a.link.State == ledger.LinkMade, a.link.State == ledger.LinkFailed:
	case a.doubt:
		a.link.State = ledger.LinkAsked
	default:
		a.link.State = ledger.LinkNone
		if !a.used {
			a.link.KeyFirstUsed = time.Time{}
		}
	}
	return a.link
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
		if !p.keyUsable(a) {
			p.gate.cancel(tk)
			a.do = linkExpired
			return nil
		}
		answer := p.lane.api.CreatePaymentRequest(p.recordCtx, a.link.Key, a.link.Reference, a.body)
		a.answered, a.link.Answer = answer, answer.Label()
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

// acquire waits until a request may be sent: the gate admits it, and no other worker can take
// this one for lost.
func (p *presenter) acquire(ctx context.Context) (ticket, error) {
	f := fanout{gate: p.gate, shared: p.shared}
	return f.acquire(ctx)
}

// keyUsable reports whether a row's key may be sent now.
func (p *presenter) keyUsable(a *asking) bool {
	if a.begun.IsZero() {
		return keyUsable(a.link.KeyFirstUsed, p.lane.clock.latest())
	}
	return elapsed(a.begun, p.lane.Now()) < keyLifetime
}

// close gives the row the code that its link leaves it, if that is another one than it has.
// stopped: the run ends, and what is not known yet is found out by the next.
func (p *presenter) close(a *asking, stopped bool) error {
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
	case stopped:
		return nil
	case p.down != nil && a.answered.Kind == client.Unknown:
		o.Code, o.Detail = ledger.CodeLinkFailed, "the bill exists and has no payment link yet: the API gave no usable answer about payment requests"+retry
	default:
		o.Code, o.Detail = ledger.CodeLinkFailed, "the bill exists and has no payment link yet: the last answer was "+a.link.Answer+retry
	}
	if o.Code == a.outcome.Code && o.Detail == a.outcome.Detail {
		return nil
	}
	*a.outcome = o
	return p.ledger.Record(p.recordCtx, ledger.Entry{Scope: p.lane.scope, File: p.file.ID, Outcome: &o})
}

// broken stops everything: without a ledger nothing may be sent.
func (p *presenter) broken(err error) error {
	err = fmt.Errorf("payment requests of %s: %w", p.file.Name, err)
	p.gate.close(err)
	return err
}
