package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// gate admits the requests of a lane; only lastLook and Probe go past it. It bounds the requests
// in flight and their rate, pauses all senders after a 429, lets one request at a time through
// during an outage, and closes for good when the run has to stop. Requests pass in order of
// arrival. It may be used concurrently.
type gate struct {
	policy  Policy
	limiter *rate.Limiter // the lane's; nil: no limit of ours
	pace    *pace         // the lane's
	warn    func(reason string)
	shared  ledger.Shared // nil: this worker is the only one
	scope   ledger.Scope  // of shared

	mu        sync.Mutex
	limit     int // requests in flight allowed now, 1…policy.Concurrency
	inFlight  int
	grown     int // good answers since the limit last changed
	waiters   []*waiter
	paused    time.Time // nothing passes before
	throttles int       // pauses since the last good answer
	cuts      int       // how often the limit was cut
	busyAt    uint64    // answered+1 at the last busy answer; 0 = none yet
	streak    streak
	answered  uint64           // good answers so far
	keyGood   bool             // an answer showed that the API accepts the key
	issued    uint64           // tickets so far
	passed    uint64           // the latest of them that brought a good answer
	faulted   map[string]fault // by reference: when it first failed for the server's fault
	outages   int              // outages survived
	waking    bool             // a wake-up for the limiter's next leave is set
	places    places           // of the rate that all workers share
	idle      chan struct{}    // while quiet: closed once nothing is in flight
	stopped   error
	closed    chan struct{} // closed with stopped
}

func newGate(p Policy, limiter *rate.Limiter) *gate {
	return &gate{policy: p, limiter: limiter, pace: new(pace), warn: func(string) {}, limit: p.Concurrency, faulted: make(map[string]fault), closed: make(chan struct{})}
}

// limiterSlack is by how much less than Policy.RateLimit is sent.
const limiterSlack = 1.05

// newLimiter returns a limiter that paces requests one by one, or nil without a limit. It is a
// little slower than Policy.RateLimit, because requests that leave evenly do not arrive evenly,
// and no second at the API may hold more than the limit.
func newLimiter(p Policy) *rate.Limiter {
	if p.RateLimit <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(float64(p.RateLimit)/limiterSlack), 1)
}

// ticket is permission to send one request.
type ticket struct {
	number   uint64 // counts up from 1
	cuts     int    // of the gate, when it was given
	answered uint64 // likewise
	probe    bool   // it goes alone, to see whether the API is back
}

// waiter is a request that waits for a ticket, which is set before turn is closed.
type waiter struct {
	turn   chan struct{}
	ticket ticket
}

// acquire waits until one more request may be sent. Every ticket must be given back, with done
// or with cancel.
func (g *gate) acquire(ctx context.Context) (ticket, error) {
	if err := ctx.Err(); err != nil {
		return ticket{}, context.Cause(ctx)
	}
	g.mu.Lock()
	if len(g.waiters) == 0 && g.free(time.Now()) {
		t := g.issue()
		g.mu.Unlock()
		return t, nil
	}
	w := &waiter{turn: make(chan struct{})}
	g.waiters = append(g.waiters, w)
	g.admit()
	g.mu.Unlock()
	select {
	case <-w.turn:
	case <-ctx.Done():
	case <-g.closed:
	}
	if err := g.settleTurn(ctx, w); err != nil {
		return ticket{}, err
	}
	return w.ticket, nil
}

// settleTurn ensures that a waiter either has its ticket and may go, or has none and is no
// longer in the queue.
func (g *gate) settleTurn(ctx context.Context, w *waiter) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.stopped
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	select {
	case <-w.turn:
		if err != nil {
			g.giveBack(w.ticket)
		}
	default:
		g.waiters = slices.DeleteFunc(g.waiters, func(o *waiter) bool { return o == w })
	}
	return err
}

// admit issues tickets to the first waiters, as many as may go now. g.mu is held.
func (g *gate) admit() {
	for len(g.waiters) > 0 && g.free(time.Now()) {
		w := g.waiters[0]
		g.waiters = g.waiters[1:]
		w.ticket = g.issue()
		close(w.turn)
	}
}

// free reports whether one more request may be sent now. If it returns true, the limiter has
// counted the request, so it has to be sent or cancelled. g.mu is held.
func (g *gate) free(now time.Time) bool {
	if g.inFlight >= g.limit || g.stopped != nil || g.idle != nil || now.Before(g.paused) {
		return false
	}
	if g.streak.outage && (g.streak.probing || now.Before(g.streak.probeAt)) {
		return false
	}
	return g.rateAllows(now)
}

// issue issues one ticket. g.mu is held.
func (g *gate) issue() ticket {
	g.inFlight++
	g.issued++
	g.streak.probing = g.streak.probing || g.streak.outage
	return ticket{number: g.issued, cuts: g.cuts, answered: g.answered, probe: g.streak.outage}
}

// rateAllows takes one request from the pace and the limiter, or sets a timer for when there will
// be one. It is checked last, so that a pause or a stop that began meanwhile still holds. g.mu is
// held.
func (g *gate) rateAllows(now time.Time) bool {
	wait := g.pace.wait(now)
	switch {
	case wait > 0:
	case g.shared != nil:
		wait = g.sharedWait(now)
	case g.limiter != nil:
		r := g.limiter.ReserveN(now, 1)
		if wait = r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
		}
	}
	if wait <= 0 {
		g.pace.leave(now)
		return true
	}
	if !g.waking { // one for all: each that fires early would set the next
		g.waking = true
		time.AfterFunc(wait, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.waking = false
			g.admit()
		})
	}
	return false
}

// awaitProof waits until it is known whether the key is good, after a 403 that could be the key's
// or a gateway's: until silence, which quiesce returned, or at once if silence is nil. It returns
// true if an answer to any request has shown that the API accepts the key.
func (g *gate) awaitProof(ctx context.Context, silence <-chan struct{}) (bool, error) {
	if silence != nil {
		select {
		case <-silence:
		case <-g.closed:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	good := g.keyProven()
	if good && silence != nil {
		g.resume()
	}
	return good, nil
}

// keyProven reports whether an answer has shown that the API accepts the key.
func (g *gate) keyProven() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keyGood
}

// quiesce holds all requests back until resume. It returns a channel that is closed once no
// request is in flight.
func (g *gate) quiesce() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle == nil {
		g.idle = make(chan struct{})
		g.signalIdle()
	}
	return g.idle
}

// signalIdle closes the channel of quiesce if nothing is in flight. g.mu is held.
func (g *gate) signalIdle() {
	if g.idle != nil && g.inFlight == 0 {
		select {
		case <-g.idle:
		default:
			close(g.idle)
		}
	}
}

// resume ends what quiesce began.
func (g *gate) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle = nil
	g.admit()
}

// giveBack takes a ticket back whose request was not sent. g.mu is held.
func (g *gate) giveBack(t ticket) {
	g.inFlight--
	if t.probe {
		g.streak.probing = false
	}
	g.signalIdle()
	g.admit()
}

// cancel gives a ticket back whose request was not sent.
func (g *gate) cancel(t ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.giveBack(t)
}

// done gives a ticket back with the answer that its request for reference got.
func (g *gate) done(t ticket, reference string, a client.Answer) {
	g.mu.Lock()
	g.inFlight--
	g.observe(t, reference, a)
	if t.probe {
		g.streak.probing = false
	}
	g.signalIdle()
	g.admit()
	warning := g.warning()
	g.mu.Unlock()
	if warning != "" {
		g.warn(warning)
	}
}

// observe draws the conclusions from an answer. g.mu is held.
func (g *gate) observe(t ticket, reference string, a client.Answer) {
	now := time.Now()
	switch a.Kind {
	case client.Throttled:
		g.pace.refused()
		g.pause(now, a)
		g.cut(t, now, a)
		g.giveUp(now)
	case client.ServerFault:
		if a.Replayed { // a stored failure says nothing about today
			return
		}
		if busy(a) {
			g.busy(now, t, a)
		}
		g.failed(now, t, reference, a)
	case client.NotSent, client.Lost, client.Unknown, client.Blocked:
		g.failed(now, t, reference, a)
	case client.KeyRefused:
		g.firstFault(reference, a)
		if !forbidden(a) || !g.keyGood {
			return
		}
		if g.failed(now, t, reference, a); g.streak.outage { // the key is refused whatever is sent
			g.closeLocked(stopReason(a))
		}
	case client.Redirected, client.Untrusted, client.ProxyRefused, client.Mismatched: // the run stops
	default:
		g.good(now)
		g.passed = max(g.passed, t.number)
		g.keyGood = g.keyGood || provesKey(a)
	}
}

// passedSince reports whether a request that left after the first 403 of reference got a good
// answer.
func (g *gate) passedSince(reference string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.passed > g.faulted[reference].forbidden
}

// goodAnswers returns how many good answers there were so far.
func (g *gate) goodAnswers() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.answered
}

// close closes the gate for good: every later acquire returns err.
func (g *gate) close(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closeLocked(err)
}

// closeLocked is close with g.mu held. The first error stays.
func (g *gate) closeLocked(err error) {
	if g.stopped == nil {
		g.stopped = err
		close(g.closed)
	}
}

// err returns why the gate is closed, or nil.
func (g *gate) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped
}

// wake admits waiters again after d. g.mu is held.
func (g *gate) wake(d time.Duration) {
	time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admit()
	})
}

// sleep waits for d, or until ctx is done or the gate closes.
func (g *gate) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-g.closed:
		return g.err()
	}
}
