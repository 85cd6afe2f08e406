package delivery

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

const (
	// paceCut is the part of a rate that is left when it turns out to be too high.
	paceCut = 0.8
	// paceCurve, in 1/s³, is how sharply the curve of RFC 9438 (CUBIC), section 4.2, bends: a
	// rate is back where it was cut after 6 s, stays near it, and is 1.2 times as high after
	// 12 s and 10 times after 27 s.
	paceCurve = 0.001
	// paceDoubling is how much each good answer adds while no rate has proved too high yet:
	// the rate doubles each second.
	paceDoubling = math.Ln2
	// paceFloor and paceCeiling bound a rate, in requests a second. Above the ceiling there
	// is no limit any more.
	paceFloor   = 0.1
	paceCeiling = 10_000
	// paceFutile cuts in a row, each at a rate below the last one that was too high, show that
	// the rate is not the reason. There is no limit for paceRest then.
	paceFutile = 3
	paceRest   = time.Minute
	// paceSlack is how late a request may leave without slowing the next one down, where
	// requests leave at least that often: timers are not more exact.
	paceSlack = 5 * time.Millisecond
)

// pace is the rate at which requests leave once the API, or a gateway in front of it, has
// answered that there are too many. Concurrency alone does not find a gateway's rate: one
// sender without latency is faster than most limits. There is no limit until the first cut.
// The rate then begins at what was answered well in the last second, less a little, and grows:
// first by doubling, and from the second cut on along a curve that is flat near the last rate
// that was too high. An API that refuses one request of ten at whatever rate must not be asked
// ever more slowly: see futile.
type pace struct {
	rate  float64   // requests a second; 0 = no limit
	top   float64   // the last rate that was too high; 0 = none known
	cutAt time.Time // when top was found out
	next  time.Time // no request leaves before

	second   int64 // Unix time; the two numbers of good answers are of this second and the one before
	now, ago int

	cuts      int       // in a row that did not help
	well, ill int       // good answers since the first of them, and answers that mean "too many"
	rest      time.Time // no cut before
}

// count moves the counters of good answers on to the second of now.
func (p *pace) count(now time.Time) {
	second := now.Unix()
	switch {
	case second == p.second:
		return
	case second == p.second+1:
		p.ago = p.now
	default:
		p.ago = 0
	}
	p.second, p.now = second, 0
}

// refused counts an answer that means "too many".
func (p *pace) refused() { p.ill++ }

// futile reports whether the rate is not what the API refuses. It is called before each cut.
// harmless: such an answer uses up no attempt of its row, so that more of them can be borne.
func (p *pace) futile(now time.Time, harmless bool) bool {
	bearable := p.ill <= p.well/3
	if harmless {
		bearable = p.ill <= 2*p.well
	}
	if now.Before(p.rest) {
		return bearable
	}
	if p.top == 0 || p.rate >= p.top || !bearable {
		p.cuts, p.well, p.ill = 0, 0, 0
		return false
	}
	p.cuts++
	if p.cuts < paceFutile {
		return false
	}
	p.rate, p.top, p.next, p.rest = 0, 0, time.Time{}, now.Add(paceRest)
	p.cuts, p.well, p.ill = 0, 0, 0
	return true
}

// cut lowers the rate after an answer that means "too many", unless lower rates have not helped.
// It is called once for all requests that were in flight together.
func (p *pace) cut(now time.Time, harmless bool) {
	p.count(now)
	if p.futile(now, harmless) {
		return
	}
	known := p.rate > 0 || p.ago > 0 // a whole second was seen, or a rate was tried
	measured := float64(max(p.now, p.ago))
	top := max(measured, 1)
	if p.rate > 0 {
		top = p.rate
		if measured >= 1 {
			top = min(top, measured)
		}
	}
	p.rate, p.top, p.cutAt = max(paceFloor, paceCut*top), 0, now
	if known {
		p.top = top
	}
	p.next = now.Add(p.interval())
}

// good counts a good answer. The rate grows by good answers alone.
func (p *pace) good(now time.Time) {
	p.count(now)
	p.now++
	p.well++
	switch {
	case p.rate == 0:
		return
	case p.top == 0:
		p.rate += paceDoubling
	default:
		sinceTop := now.Sub(p.cutAt).Seconds() - math.Cbrt((1-paceCut)/paceCurve)
		p.rate = max(p.rate, p.top*(1+paceCurve*math.Pow(sinceTop, 3)))
	}
	if p.rate > paceCeiling {
		p.rate, p.top = 0, 0
	}
}

// interval returns the time between two requests.
func (p *pace) interval() time.Duration { return time.Duration(float64(time.Second) / p.rate) }

// wait returns how long the next request has to wait.
func (p *pace) wait(now time.Time) time.Duration {
	if p.rate == 0 {
		return 0
	}
	return max(0, p.next.Sub(now))
}

// leave counts a request that leaves now.
func (p *pace) leave(now time.Time) {
	if p.rate == 0 {
		return
	}
	interval := p.interval()
	from := now
	if interval < paceSlack && now.Sub(p.next) < paceSlack {
		from = p.next
	}
	p.next = from.Add(interval)
}

// backoff returns the wait before try n+1 (n from 1). It lies between BackoffMin and the n-th
// exponential step, at most BackoffMax, with full jitter. The jitter is computed from who waits
// and from n, not from a source of randomness: a run can be repeated exactly, and different rows
// still spread out.
func (p Policy) backoff(who string, n int) time.Duration {
	top := p.BackoffMin
	for range min(n, 64) {
		top = min(2*top, p.BackoffMax)
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%d", who, n))
	spread := uint64(max(0, top-p.BackoffMin))
	return p.BackoffMin + time.Duration(binary.BigEndian.Uint64(h[:])%(spread+1))
}
