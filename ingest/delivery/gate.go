package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"billdrop/client"
)

// gate admits every request of a lane. It bounds the requests in flight and their rate, pauses
// all senders after a 429, lets one request at a time through during an outage, and closes for
// good when the run has to stop. Requests pass in order of arrival. It may be used concurrently.
type gate struct {
	policy  Policy
	limiter *rate.Limiter // the lane's; nil: no limit of ours

	mu        sync.Mutex
	limit     int // requests in flight allowed now, 1…policy.Concurrency
	inFlight  int
	grown     int // good answers since the limit last changed
	waiters   []*waiter
	paused    time.Time // 429: nothing passes before
	throttles int       // 429s since the last good answer
	cuts      int       // how often the limit was cut for a 429
	streak    streak
	answered  uint64           // good answers so far
	faulted   map[string]fault // by reference: when it first failed for the server's fault
	outages   int              // outages survived
	waking    bool             // a wake-up for the limiter's next leave is set
	idle      chan struct{}    // while quiet: closed once nothing is in flight
	stopped   error
	closed    chan struct{} // closed with stopped
}

func newGate(p Policy, limiter *rate.Limiter) *gate {
	return &gate{policy: p, limiter: limiter, limit: p.Concurrency, faulted: make(map[string]fault), closed: make(chan struct{})}
}

// newLimiter returns a limiter that paces requests one by one, or nil without a limit. It is a
// little slower than Policy.RateLimit, because requests that leave evenly do not arrive evenly,
// and no second at the API may hold more than the limit.
func newLimiter(p Policy) *rate.Limiter {
	if p.RateLimit <= 0 {
		return nil
	}
	const slack = 1.05
	return rate.NewLimiter(rate.Limit(float64(p.RateLimit)/slack), 1)
}

// ticket is permission to send one request.
type ticket struct {
	cuts  int  // of the gate, when it was given
	probe bool // it goes alone, to see whether the API is back
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
	g.streak.probing = g.streak.probing || g.streak.outage
	return ticket{cuts: g.cuts, probe: g.streak.outage}
}

// rateAllows takes one request from the limiter, or sets a timer for when there will be one. It
// is checked last, so that a pause or a stop that began meanwhile still holds. g.mu is held.
func (g *gate) rateAllows(now time.Time) bool {
	if g.limiter == nil {
		return true
	}
	r := g.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait <= 0 {
		return true
	}
	r.CancelAt(now)
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
	defer g.mu.Unlock()
	g.inFlight--
	switch a.Kind {
	case client.Throttled:
		g.throttled(t, a.RetryAfter)
	case client.NotSent, client.Lost, client.Unknown:
		g.failed(t, reference, a)
	case client.ServerFault:
		if !a.Replayed { // a stored failure says nothing about today
			g.failed(t, reference, a)
		}
	default:
		g.good()
	}
	if t.probe {
		g.streak.probing = false
	}
	g.signalIdle()
	g.admit()
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
