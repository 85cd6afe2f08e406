package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"billdrop/client"
)

// gate is what every request of a lane passes: it bounds the requests in flight and their rate, stops all senders
// for a 429, holds them back during an outage while one at a time probes, and closes for good when
// the run has to stop. It may be used concurrently. Waiters pass in the order in which they came.
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

// newLimiter paces requests one by one, so that no second holds more than the policy's RateLimit: a little slower than that, for
// requests that leave evenly do not arrive so. Nil without a limit.
func newLimiter(p Policy) *rate.Limiter {
	if p.RateLimit <= 0 {
		return nil
	}
	const slack = 1.05
	return rate.NewLimiter(rate.Limit(float64(p.RateLimit)/slack), 1)
}

// ticket is one request's leave to go.
type ticket struct {
	cuts  int  // of the gate, when it was given
	probe bool // it goes alone, to see whether the API is back
}

// waiter is a request that asks for leave; ticket is set before turn is closed.
type waiter struct {
	turn   chan struct{}
	ticket ticket
}

// enter waits until one more request may leave. Every ticket must be given back to leave or abandon.
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

// settleTurn makes sure that a waiter either has its ticket and may go, or has none and is not in the queue.
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

// admit lets the first waiters pass as far as that is allowed now. g.mu is held.
func (g *gate) admit() {
	for len(g.waiters) > 0 && g.free(time.Now()) {
		w := g.waiters[0]
		g.waiters = g.waiters[1:]
		w.ticket = g.issue()
		close(w.turn)
	}
}

// free reports whether one more request may leave now. The limiter counts it then, so it has to. g.mu is held.
func (g *gate) free(now time.Time) bool {
	if g.inFlight >= g.limit || g.stopped != nil || g.idle != nil || now.Before(g.paused) {
		return false
	}
	if g.streak.outage && (g.streak.probing || now.Before(g.streak.probeAt)) {
		return false
	}
	return g.rateAllows(now)
}

// let gives one request leave. g.mu is held.
func (g *gate) issue() ticket {
	g.inFlight++
	g.streak.probing = g.streak.probing || g.streak.outage
	return ticket{cuts: g.cuts, probe: g.streak.outage}
}

// paced takes the limiter's leave for one request, or comes back when there is one. It is the last that a request
// waits for, so that none is let through by a pause or a stop that came meanwhile. g.mu is held.
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

// quiesce lets nothing more through until resume, and returns what is closed once nothing is in flight.
func (g *gate) quiesce() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle == nil {
		g.idle = make(chan struct{})
		g.signalIdle()
	}
	return g.idle
}

// signalIdle is called with g.mu held, when a request has come back.
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

// giveBack frees a slot whose request was not made. g.mu is held.
func (g *gate) giveBack(t ticket) {
	g.inFlight--
	if t.probe {
		g.streak.probing = false
	}
	g.signalIdle()
	g.admit()
}

// abandon gives back a ticket whose request was not made.
func (g *gate) cancel(t ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.giveBack(t)
}

// leave takes note of the answer that a request for reference got.
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

// halt closes the gate for good: err is what every later enter returns.
func (g *gate) close(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closeLocked(err)
}

func (g *gate) closeLocked(err error) {
	if g.stopped == nil {
		g.stopped = err
		close(g.closed)
	}
}

// err is why the gate is closed, or nil.
func (g *gate) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped
}

// wake looks at the waiters again after d. g.mu is held.
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
