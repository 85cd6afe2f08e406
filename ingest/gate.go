package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"billdrop/client"
)

// outageRows is how many different rows must fail in a row, for the server's fault and with no good answer
// between them, before that is taken for an outage.
const outageRows = 5

// outageRefusals is how many connections in a row must fail before that is taken for an outage, even where
// there are not enough rows to tell by.
const outageRefusals = 3

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
	goods     uint64           // good answers so far
	faulted   map[string]fault // by reference: when it first failed for the server's fault
	epoch     int              // outages survived
	pacing    bool             // a wake-up for the limiter's next leave is set
	idle      chan struct{}    // while quiet: closed once nothing is in flight
	stopped   error
	closed    chan struct{} // closed with stopped
}

// streak is a run of failures of the server's without a good answer between them.
type streak struct {
	since    time.Time
	rows     map[string]struct{} // the first outageRows different references that failed
	refusals int                 // connections that could not be made
	outage   bool
	probing  bool      // one request is out to see whether the API is back
	probes   int       // probes so far
	probeAt  time.Time // when the next may leave
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

// fault is when something failed, in good answers and in outages survived.
type fault struct {
	goods uint64
	epoch int
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
func (g *gate) enter(ctx context.Context) (ticket, error) {
	if err := ctx.Err(); err != nil {
		return ticket{}, context.Cause(ctx)
	}
	g.mu.Lock()
	if len(g.waiters) == 0 && g.free(time.Now()) {
		t := g.let()
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
		w.ticket = g.let()
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
	return g.paced(now)
}

// let gives one request leave. g.mu is held.
func (g *gate) let() ticket {
	g.inFlight++
	g.streak.probing = g.streak.probing || g.streak.outage
	return ticket{cuts: g.cuts, probe: g.streak.outage}
}

// paced takes the limiter's leave for one request, or comes back when there is one. It is the last that a request
// waits for, so that none is let through by a pause or a stop that came meanwhile. g.mu is held.
func (g *gate) paced(now time.Time) bool {
	if g.limiter == nil {
		return true
	}
	r := g.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait <= 0 {
		return true
	}
	r.CancelAt(now)
	if !g.pacing { // one for all: each that fires early would set the next
		g.pacing = true
		time.AfterFunc(wait, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.pacing = false
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
		g.hush()
	}
	return g.idle
}

// hush is called with g.mu held, when a request has come back.
func (g *gate) hush() {
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
	g.hush()
	g.admit()
}

// abandon gives back a ticket whose request was not made.
func (g *gate) abandon(t ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.giveBack(t)
}

// leave takes note of the answer that a request for reference got.
func (g *gate) leave(t ticket, reference string, a client.Answer) {
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
	g.hush()
	g.admit()
}

// good: the API answers. The limit grows by one for every limit's worth of good answers.
func (g *gate) good() {
	if g.streak.outage {
		g.epoch++
		g.limit = max(1, g.limit/2)
	}
	g.streak = streak{}
	g.goods++
	g.throttles = 0
	g.grown++
	if g.grown >= g.limit && g.limit < g.policy.Concurrency {
		g.limit++
		g.grown = 0
	}
}

// throttled pauses all senders and cuts the limit, once for all requests that were out together.
func (g *gate) throttled(t ticket, retryAfter time.Duration) {
	now := time.Now()
	g.throttles++
	if g.throttles == 1 {
		g.streak.since = now
	}
	pause := retryAfter
	if pause == 0 {
		pause = g.policy.backoff("", g.throttles)
	}
	if until := now.Add(pause); until.After(g.paused) {
		g.paused = until
		g.wake(pause)
	}
	if t.cuts == g.cuts {
		g.limit = max(1, g.limit/2)
		g.cuts++
		g.grown = 0
	}
	g.giveUp(now, "the API answers 429 to everything")
}

// failed counts a failure that is the server's, and calls it an outage when there is no other reading.
func (g *gate) failed(t ticket, reference string, a client.Answer) {
	now := time.Now()
	s := &g.streak
	if s.since.IsZero() {
		s.since = now
	}
	if s.rows == nil {
		s.rows = make(map[string]struct{}, outageRows)
	}
	first, again := g.faulted[reference]
	if !again {
		first = fault{g.goods, g.epoch}
		g.faulted[reference] = first
	}
	// A row that keeps failing while the API answers others speaks against itself, not against the API. A few answers
	// between two outages do not make that of every row that met both.
	since := g.goods - first.goods
	if (since == 0 || first.epoch != g.epoch && since < outageRows) && len(s.rows) < outageRows {
		s.rows[reference] = struct{}{}
	}
	if a.Kind == client.NotSent {
		s.refusals++
	}
	if len(s.rows) >= outageRows || s.refusals >= outageRefusals {
		g.declareOutage(now)
	}
	if s.outage && (t.probe || s.probes == 0) {
		s.probes++
		pause := g.policy.backoff(reference, s.probes)
		s.probeAt = now.Add(pause)
		g.wake(pause)
	}
	if s.outage || g.goods == 0 {
		g.giveUp(now, "the API does not answer ("+a.Label()+")")
	}
}

// forget drops what is known of a row that has come to its end.
func (g *gate) forget(reference string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.faulted, reference)
}

func (g *gate) declareOutage(now time.Time) {
	if g.streak.outage {
		return
	}
	g.streak.outage = true
	g.streak.probeAt = now
	// Waiting requests learn of it by not being admitted; the run ends even if nobody asks again.
	time.AfterFunc(max(0, g.policy.GiveUpAfter-now.Sub(g.streak.since)), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.streak.outage {
			g.giveUp(time.Now(), "the API does not answer")
		}
	})
}

// suspect treats the API as down because a look-up used up its attempts and nothing in this run was ever
// answered: that is no row's fault. It reports whether the API is, or is now, taken to be down.
func (g *gate) suspect() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streak.outage {
		return true
	}
	if g.goods > 0 || g.streak.since.IsZero() {
		return false
	}
	g.declareOutage(time.Now())
	return true
}

// giveUp stops the run when the API has been gone for too long. g.mu is held.
func (g *gate) giveUp(now time.Time, what string) {
	if down := now.Sub(g.streak.since); !g.streak.since.IsZero() && down >= g.policy.GiveUpAfter {
		g.stop(fmt.Errorf("%w: %s since %s; nothing is lost: run again when it is back",
			ErrStopped, what, g.streak.since.UTC().Format(time.RFC3339)))
	}
}

// halt closes the gate for good: err is what every later enter returns.
func (g *gate) halt(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop(err)
}

func (g *gate) stop(err error) {
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

// state tells whether an outage is on and how many were survived: a row's attempts begin anew after one.
func (g *gate) state() (outage bool, epoch int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streak.outage, g.epoch
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

// backoff is the wait before try n+1 (n from 1): full jitter between BackoffMin and the n-th exponential step,
// at most BackoffMax. The jitter comes from who waits, not from a source of randomness, so that a
// run can be repeated exactly while different rows still spread out.
func (p Policy) backoff(who string, n int) time.Duration {
	steps := backoff.ExponentialBackOff{InitialInterval: 2 * p.BackoffMin, Multiplier: 2, MaxInterval: p.BackoffMax}
	steps.Reset()
	top := min(2*p.BackoffMin, p.BackoffMax)
	for range min(n, 64) {
		top = min(steps.NextBackOff(), p.BackoffMax)
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%d", who, n))
	spread := uint64(max(0, top-p.BackoffMin))
	return p.BackoffMin + time.Duration(binary.BigEndian.Uint64(h[:])%(spread+1))
}
