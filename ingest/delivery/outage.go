package delivery

import (
	"time"

	"billdrop/client"
)

// outageRows different rows must fail one after the other, for the server's fault and without a
// good answer in between, before that is taken for an outage.
const outageRows = 5

// outageRefusals connections must fail one after the other before that is taken for an outage
// even if fewer than outageRows rows are under way.
const outageRefusals = 3

// streak is a sequence of failures of the server's without a good answer in between.
type streak struct {
	since    time.Time
	rows     map[string]struct{} // the first outageRows different references that failed
	refusals int                 // connections that could not be made
	outage   bool
	probing  bool      // one request is out to see whether the API is back
	probes   int       // probes so far
	probeAt  time.Time // when the next may leave
}

// fault records when a row first failed, as the numbers of good answers and of outages so far.
type fault struct {
	answered uint64
	outages  int
}

// good records a good answer. It ends the streak. The limit grows by one after as many good
// answers as the limit allows in flight. g.mu is held.
func (g *gate) good() {
	if g.streak.outage {
		g.outages++
		g.limit = max(1, g.limit/2)
	}
	g.streak = streak{}
	g.answered++
	g.throttles = 0
	g.grown++
	if g.grown >= g.limit && g.limit < g.policy.Concurrency {
		g.limit++
		g.grown = 0
	}
}

// throttled pauses all senders after a 429. It halves the limit, but only once for all requests
// that were in flight together. g.mu is held.
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

// failed counts a failure of the server's, and declares an outage if nothing else explains the
// streak. g.mu is held.
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
		first = fault{g.answered, g.outages}
		g.faulted[reference] = first
	}
	// A row that keeps failing while the API answers other rows is itself to blame. After an outage,
	// a few good answers do not yet make that of every row that the outage caught.
	since := g.answered - first.answered
	if (since == 0 || first.outages != g.outages && since < outageRows) && len(s.rows) < outageRows {
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
	if s.outage || g.answered == 0 {
		g.giveUp(now, "the API does not answer ("+a.Label()+")")
	}
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
			g.giveUp(time.Now(), "the API does not answer")
		}
	})
}

// suspect declares an outage after a look-up has used up its attempts, provided that nothing in
// this run was ever answered: then the row is not to blame. It reports whether an outage is on.
func (g *gate) suspect() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streak.outage {
		return true
	}
	if g.answered > 0 || g.streak.since.IsZero() {
		return false
	}
	g.declareOutage(time.Now())
	return true
}

// giveUp stops the run if the streak has lasted for Policy.GiveUpAfter. g.mu is held.
func (g *gate) giveUp(now time.Time, what string) {
	if down := now.Sub(g.streak.since); !g.streak.since.IsZero() && down >= g.policy.GiveUpAfter {
		g.closeLocked(&Stop{Reason: what + " since " + g.streak.since.UTC().Format(time.RFC3339),
			Hint: "wait until it is back; nothing is lost"})
	}
}

// state returns whether an outage is on, and how many outages have ended. A row's attempts are
// counted anew after each.
func (g *gate) state() (outage bool, outages int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streak.outage, g.outages
}
