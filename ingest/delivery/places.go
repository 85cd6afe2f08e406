package delivery

import (
	"context"
	"time"

	"billdrop/ingest/ledger"
)

const (
	// lotTime is for how long a worker reserves places of the shared rate in advance: a reservation
	// costs a round trip.
	lotTime = 150 * time.Millisecond
	// placeLife is how long a place may be used. Places that are used later would come on top of
	// those that follow, and a second at the API would hold more than the limit.
	placeLife = 40 * time.Millisecond
	// reserveTimeout bounds a reservation, and reserveAgain is the wait after one that failed.
	reserveTimeout = 5 * time.Second
	reserveAgain   = 250 * time.Millisecond
)

// places are a worker's reserved places in the rate that all workers share. Guarded by gate.mu.
type places struct {
	at        []time.Time // when each may be used
	reserving bool        // a reservation is under way
}

// sharedWait takes the next place of the shared rate, and returns how long the request has to
// wait for it or for the end of a pause that another worker has told; 0 = it may leave. g.mu
// is held.
func (g *gate) sharedWait(now time.Time) time.Duration {
	if pause := g.shared.Paused(g.scope); pause > 0 {
		return pause
	}
	if g.policy.RateLimit <= 0 {
		return 0
	}
	p := &g.places
	for len(p.at) > 0 && now.Sub(p.at[0]) > placeLife {
		p.at = p.at[1:]
	}
	if rate := sharedRate(g.policy); !p.reserving && len(p.at) <= int(rate*lotTime.Seconds()/3) {
		p.reserving = true
		go g.reserve(g.shared, g.scope, rate, max(1, min(int(rate*lotTime.Seconds()), len(g.waiters)+1)))
	}
	if len(p.at) == 0 {
		return reserveTimeout // or once there is one
	}
	if wait := p.at[0].Sub(now); wait > 0 {
		return wait
	}
	p.at = p.at[1:]
	return 0
}

// sharedRate is the rate at which places are reserved; see newLimiter.
func sharedRate(p Policy) float64 { return float64(p.RateLimit) / limiterSlack }

// reserve reserves n places.
func (g *gate) reserve(shared ledger.Shared, s ledger.Scope, rate float64, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), reserveTimeout)
	defer cancel()
	in, err := shared.Reserve(ctx, s, rate, n)
	first := time.Now().Add(in)
	if err != nil {
		time.Sleep(reserveAgain)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places.reserving = false
	for i := 0; err == nil && i < n; i++ {
		g.places.at = append(g.places.at, first.Add(time.Duration(float64(i)/rate*float64(time.Second))))
	}
	g.waking = false // what waits for a place does not know of these
	g.admit()
}

// tellPause has all workers pause. g.mu is held.
func (g *gate) tellPause(d time.Duration) {
	if g.shared == nil {
		return
	}
	shared, scope := g.shared, g.scope
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), reserveTimeout)
		defer cancel()
		_ = shared.Pause(ctx, scope, d) // if it cannot be told, others get a 429 of their own
	}()
}
