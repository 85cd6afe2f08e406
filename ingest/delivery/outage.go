package delivery

import (
	"cmp"
	"fmt"
	"time"

	"billdrop/client"
)

// outageRows different rows must fail one after the other, for the server's fault and without a
// good answer in between, before that is taken for an outage.
const outageRows = 5

// outageRefusals connections must fail one after the other before that is taken for an outage
// even if fewer than outageRows rows are under way.
const outageRefusals = 3

// outageBlocked different rows must be refused by a gateway, as outageRows must fail: a gateway
// does refuse single rows, for a word in them that it does not like.
const outageBlocked = 50

// longPause is a pause that is worth a warning.
const longPause = 10 * time.Second

// busyWithin good answers must contain two busy ones for the rate to be the reason.
const busyWithin = 20

// streak is a sequence of failures of the server's without a good answer in between.
type streak struct {
	since    time.Time
	reason   client.Answer       // the last of them
	failures int                 // how many there are
	warned   bool                // the operator was told of them
	rows     map[string]struct{} // the first outageRows different references that failed
	blocked  map[string]struct{} // the first outageBlocked that a gateway refused
	refusals int                 // connections that could not be made
	outage   bool
	probing  bool      // one request is out to see whether the API is back
	probes   int       // probes so far
	probeAt  time.Time // when the next may leave
}

// fault records when a row first failed, as the numbers of good answers and of outages so far.
type fault struct {
	answered  uint64
	outages   int
	forbidden uint64 // tickets issued when it first got a 403; 0 = it did not
}

// good records a good answer. It ends the streak. The limit grows by one after as many good
// answers as the limit allows in flight. g.mu is held.
func (g *gate) good(now time.Time) {
	if g.streak.outage {
		g.outages++
		g.limit = max(1, g.limit/2)
	}
	g.streak = streak{}
	g.answered++
	g.throttles = 0
	g.pace.good(now)
	g.grown++
	if g.grown >= g.limit && g.limit < g.policy.Concurrency {
		g.limit++
		g.grown = 0
	}
}

// pause holds all senders back after an answer that asks for it: for as long as it says, or else
// longer each time. g.mu is held.
func (g *gate) pause(now time.Time, a client.Answer) {
	g.throttles++
	if g.streak.since.IsZero() {
		g.streak.since = now
	}
	g.streak.reason = a
	pause := cmp.Or(a.RetryAfter, g.policy.backoff("", g.throttles))
	if until := now.Add(pause); until.After(g.paused) {
		g.paused = until
		g.wake(pause)
		g.tellPause(pause)
	}
}

// busy slows down after an answer that asks for fewer requests. One among many good answers is
// about its row, not about the rate. In an outage nothing passes, at whatever rate. g.mu is held.
func (g *gate) busy(now time.Time, t ticket, a client.Answer) {
	g.pace.refused()
	again := g.busyAt > 0 && g.answered+1-g.busyAt < busyWithin
	g.busyAt = g.answered + 1
	if again && !g.streak.outage {
		g.cut(t, now, a)
	}
	if a.RetryAfter > 0 {
		g.pause(now, a)
	}
}

// cut halves the limit and slows the pace down, but only once for all requests that were in
// flight together. g.mu is held.
func (g *gate) cut(t ticket, now time.Time, a client.Answer) {
	if t.cuts != g.cuts {
		return
	}
	g.cuts++
	g.limit = max(1, g.limit/2)
	g.grown = 0
	g.pace.cut(now, a.Kind == client.Throttled)
}

// failed counts a failure of the server's, and declares an outage if nothing else explains the
// streak. g.mu is held.
func (g *gate) failed(now time.Time, t ticket, reference string, a client.Answer) {
	s := &g.streak
	if s.since.IsZero() {
		s.since = now
	}
	if s.rows == nil {
		s.rows, s.blocked = make(map[string]struct{}, outageRows), make(map[string]struct{})
	}
	s.reason = a
	s.failures++
	first := g.firstFault(reference, a)
	rows, enough := s.rows, outageRows
	if a.Kind == client.Blocked {
		rows, enough = s.blocked, outageBlocked
	}
	// A row that keeps failing while the API answers other rows is itself to blame. After an
	// outage, a few good answers do not yet make that of every row that the outage caught.
	since := g.answered - first.answered
	if (since == 0 || first.outages != g.outages && since < outageRows) && len(rows) < enough {
		rows[reference] = struct{}{}
	}
	if a.Kind == client.NotSent {
		s.refusals++
	}
	if len(rows) >= enough || s.refusals >= outageRefusals {
		g.declareOutage(now)
	}
	if s.outage && (t.probe || s.probes == 0) {
		s.probes++
		pause := g.policy.backoff(reference, s.probes)
		s.probeAt = now.Add(pause)
		g.wake(pause)
	}
	if s.outage || g.answered == 0 {
		g.giveUp(now)
	}
}

// firstFault returns what is recorded of a row's first failures, with this one. g.mu is held.
func (g *gate) firstFault(reference string, a client.Answer) fault {
	f, again := g.faulted[reference]
	if !again {
		f = fault{answered: g.answered, outages: g.outages}
	}
	if f.forbidden == 0 && (a.Kind == client.Blocked || forbidden(a)) {
		f.forbidden = g.issued
	}
	g.faulted[reference] = f
	return f
}

// warning returns why the run waits for the API, once for each streak that makes it wait; "" means
// that there is nothing to tell. g.mu is held.
func (g *gate) warning() string {
	s := &g.streak
	waits := s.outage || g.answered == 0 && s.failures > 1 || s.reason.RetryAfter >= longPause || g.throttles >= outageRows
	if s.warned || !waits {
		return ""
	}
	s.warned = true
	return s.reason.Reason()
}

// forget drops what is kept about a row that has its outcome.
func (g *gate) forget(reference string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.faulted, reference)
}

// declareOutage begins an outage, and sets a timer that ends the run if nothing ends the outage.
// g.mu is held.
func (g *gate) declareOutage(now time.Time) {
	if g.streak.outage {
		return
	}
	g.streak.outage = true
	g.streak.probeAt = now
	// The run has to end even if no request asks for a ticket any more.
	time.AfterFunc(max(0, g.policy.GiveUpAfter-now.Sub(g.streak.since)), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.streak.outage {
			g.giveUp(time.Now())
		}
	})
}

// suspect declares an outage after a look-up has used up its attempts, if the row is not to blame:
// nothing in this run was ever answered, or a gateway refuses several rows and lets nothing pass.
// It reports whether an outage is on.
func (g *gate) suspect() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.streak.outage:
		return true
	case g.streak.since.IsZero(), g.answered > 0 && len(g.streak.blocked) < outageRows:
		return false
	}
	g.declareOutage(time.Now())
	return true
}

// giveUp stops the run if the streak has lasted for Policy.GiveUpAfter. g.mu is held.
func (g *gate) giveUp(now time.Time) {
	since := g.streak.since
	if since.IsZero() || now.Sub(since) < g.policy.GiveUpAfter {
		return
	}
	g.closeLocked(&Stop{
		Reason: fmt.Sprintf("no usable answer from the API since %s: %s", since.UTC().Format(time.RFC3339), g.streak.reason.Reason()),
		Hint:   outageHint(g.streak.reason),
	})
}

// state returns whether an outage is on, and how many outages have ended. A row's attempts are
// counted anew after each.
func (g *gate) state() (outage bool, outages int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streak.outage, g.outages
}

// maxSpared answers of a row that mean "too many" use up no attempt. From the next one on, each
// does: then it is the row that the server does not like.
const maxSpared = 9

// busy reports whether an answer asks for fewer requests rather than reports a fault: 503, which
// gateways also give to what exceeds a rate, and 502 or 504 with Retry-After.
func busy(a client.Answer) bool {
	if a.Kind != client.ServerFault || a.Replayed {
		return false
	}
	return a.Status == 503 || (a.Status == 502 || a.Status == 504) && a.RetryAfter > 0
}

// sparing decides which busy answers to one request and its repetitions use up no attempt. The
// zero value is ready.
type sparing struct {
	count    int    // busy answers so far
	answered uint64 // good answers that the gate had seen when the last one was sent
}

// spares reports whether the answer to the request of t uses up no attempt: it is busy, and names
// a time, or another request got a good answer since the one before was sent.
func (s *sparing) spares(g *gate, t ticket, a client.Answer) bool {
	alive := g.goodAnswers() > s.answered
	s.answered = t.answered
	if !busy(a) {
		return false
	}
	s.count++
	return s.count <= maxSpared && (alive || a.RetryAfter > 0)
}
