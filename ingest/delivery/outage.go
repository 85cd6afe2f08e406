package delivery

import (
	"time"

	"billdrop/client"
)

// outageRows is how many different rows must fail in a row, for the server's fault and with no good answer
// between them, before that is taken for an outage.
const outageRows = 5

// outageRefusals is how many connections in a row must fail before that is taken for an outage, even where
// there are not enough rows to tell by.
const outageRefusals = 3

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

// fault is when something failed, in good answers and in outages survived.
type fault struct {
	answered uint64
	outages  int
}

// good: the API answers. The limit grows by one for every limit's worth of good answers.
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
		first = fault{g.answered, g.outages}
		g.faulted[reference] = first
	}
	// A row that keeps failing while the API answers others speaks against itself, not against the API. A few answers
	// between two outages do not make that of every row that met both.
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
	if g.answered > 0 || g.streak.since.IsZero() {
		return false
	}
	g.declareOutage(time.Now())
	return true
}

// giveUp stops the run when the API has been gone for too long. g.mu is held.
func (g *gate) giveUp(now time.Time, what string) {
	if down := now.Sub(g.streak.since); !g.streak.since.IsZero() && down >= g.policy.GiveUpAfter {
		g.closeLocked(&Stop{Reason: what + " since " + g.streak.since.UTC().Format(time.RFC3339),
			Hint: "wait until it is back; nothing is lost"})
	}
}

// state tells whether an outage is on and how many were survived: a row's attempts begin anew after one.
func (g *gate) state() (outage bool, outages int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streak.outage, g.outages
}
