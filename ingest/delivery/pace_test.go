package delivery

import (
	"fmt"
	"math"
	"testing"
	"time"

	"billdrop/client"
)

var paceStart = time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)

// goods lets n good answers come evenly within a second that begins at.
func (p *pace) goods(n int, at time.Time) {
	for i := range n {
		p.good(at.Add(time.Duration(i) * time.Second / time.Duration(n)))
	}
}

// A rate that was cut is back after 6 s, stays there, and grows ever faster after that.
func TestPaceAfterACut(t *testing.T) {
	p := new(pace)
	p.goods(100, paceStart)
	if p.wait(paceStart) != 0 {
		t.Error("there is a limit before the first cut")
	}
	cut := paceStart.Add(time.Second)
	p.cut(cut, true)
	for _, c := range []struct {
		after    time.Duration
		low, top float64
	}{{0, 80, 80}, {3 * time.Second, 95, 98}, {6 * time.Second, 99, 101}, {12 * time.Second, 119, 125}, {27 * time.Second, 1000, 1100}} {
		p.good(cut.Add(c.after))
		if p.rate < c.low || p.rate > c.top {
			t.Errorf("%v after the cut: %.1f a second, want %v to %v", c.after, p.rate, c.low, c.top)
		}
	}
	p.good(cut.Add(2 * time.Minute))
	if p.rate != 0 {
		t.Errorf("a limit of %.0f stays", p.rate)
	}
}

// While no rate has proved too high, the rate doubles each second.
func TestPaceDoubles(t *testing.T) {
	p := new(pace)
	p.good(paceStart)
	p.cut(paceStart, true)
	if p.rate != paceCut {
		t.Errorf("it begins at %v", p.rate)
	}
	before := p.rate
	for range 1000 { // as many good answers as requests leave in a second
		p.good(paceStart.Add(time.Millisecond))
		if p.rate >= 100*before {
			break
		}
	}
	if doublings := math.Log2(p.rate / before); p.rate < 50 || doublings > 8 {
		t.Errorf("%.0f a second", p.rate)
	}
}

// What does not get through at all is asked for ever more slowly, but asked for.
func TestPaceFloor(t *testing.T) {
	p := new(pace)
	for i := range 100 {
		p.refused()
		p.cut(paceStart.Add(time.Duration(i)*time.Minute), true)
	}
	if p.rate != paceFloor {
		t.Errorf("%v a second", p.rate)
	}
	if wait := p.wait(p.cutAt); wait != 10*time.Second {
		t.Errorf("the next one waits %v", wait)
	}
}

// Requests leave evenly. Only where they leave very often may a late one be made up for.
func TestPaceSpacing(t *testing.T) {
	slow := &pace{rate: 20}
	slow.leave(paceStart.Add(30 * time.Millisecond))
	if got := slow.next.Sub(paceStart); got != 80*time.Millisecond {
		t.Errorf("at 20 a second, the next one leaves at %v", got)
	}
	fast := &pace{rate: 1000, next: paceStart}
	fast.leave(paceStart.Add(3 * time.Millisecond))
	if got := fast.next.Sub(paceStart); got != time.Millisecond {
		t.Errorf("at 1000 a second, the next one leaves at %v", got)
	}
}

// Which busy answers use up an attempt.
func TestSparing(t *testing.T) {
	g := newGate(testPolicy(), nil)
	busy503 := client.Answer{Kind: client.ServerFault, Status: 503}
	for _, c := range []struct {
		name string
		a    client.Answer
		good uint64 // answers since the row's last send
		n    int    // busy answers before
		want bool
	}{
		{"503 between good answers", busy503, 1, 0, true},
		{"503 and nothing else", busy503, 0, 0, false},
		{"the ninth", busy503, 1, 8, true},
		{"the tenth", busy503, 1, 9, false},
		{"503 with Retry-After", client.Answer{Kind: client.ServerFault, Status: 503, RetryAfter: time.Second}, 0, 0, true},
		{"502 with Retry-After", client.Answer{Kind: client.ServerFault, Status: 502, RetryAfter: time.Second}, 0, 0, true},
		{"the tenth with Retry-After", client.Answer{Kind: client.ServerFault, Status: 504, RetryAfter: time.Second}, 1, 9, false},
		{"502", client.Answer{Kind: client.ServerFault, Status: 502}, 1, 0, false},
		{"500 with Retry-After", client.Answer{Kind: client.ServerFault, Status: 500, RetryAfter: time.Second}, 1, 0, false},
		{"503 from the API's store", client.Answer{Kind: client.ServerFault, Status: 503, Replayed: true}, 1, 0, false},
		{"lost", client.Answer{Kind: client.Lost}, 1, 0, false},
	} {
		g.answered = 100
		s := sparing{count: c.n, answered: g.answered - c.good}
		if got := s.spares(g, ticket{answered: 90}, c.a); got != c.want || s.answered != 90 {
			t.Errorf("%s: %v, %+v", c.name, got, s)
		}
	}
}

// Why the run waits is told once for each time that it waits.
func TestWarning(t *testing.T) {
	refused := client.Answer{Kind: client.NotSent, Err: fmt.Errorf("POST bill: %w", fmt.Errorf("connection refused"))}
	for name, c := range map[string]struct {
		answers []client.Answer
		want    []string
	}{
		"one failure":                     {[]client.Answer{refused, goodAnswer}, nil},
		"an outage":                       {[]client.Answer{refused, refused, refused, refused, goodAnswer}, []string{"connection refused"}},
		"two outages":                     {[]client.Answer{refused, refused, goodAnswer, refused, refused, refused, refused}, []string{"connection refused", "connection refused"}},
		"a row that fails, others do not": {[]client.Answer{goodAnswer, {Kind: client.ServerFault, Status: 500}, {Kind: client.ServerFault, Status: 500}}, nil},
		"a short pause":                   {[]client.Answer{goodAnswer, throttledFor(time.Second), goodAnswer}, nil},
		"a long pause":                    {[]client.Answer{goodAnswer, throttledFor(time.Minute), goodAnswer}, []string{"429 Too Many Requests"}},
	} {
		g := newGate(testPolicy(), nil)
		var got []string
		g.warn = func(reason string) { got = append(got, reason) }
		for _, a := range c.answers {
			g.inFlight++
			g.done(ticket{}, "INV-1", a)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	p := testPolicy()
	for n := 1; n < 100; n++ {
		for _, who := range []string{"", "INV-1", "INV-2"} {
			if d := p.backoff(who, n); d < p.BackoffMin || d > p.BackoffMax {
				t.Errorf("backoff(%q, %d) = %v", who, n, d)
			}
		}
	}
	if p.backoff("INV-1", 5) == p.backoff("INV-2", 5) {
		t.Error("two rows wait equally long: no jitter")
	}
	if p.backoff("INV-1", 1) > 2*p.BackoffMin {
		t.Errorf("first wait is %v", p.backoff("INV-1", 1))
	}
}

// The waits stay the same from version to version, so that a run can be repeated.
func TestBackoffIsPinned(t *testing.T) {
	usual := testPolicy()
	narrow := Policy{BackoffMin: 50 * time.Millisecond, BackoffMax: 75 * time.Millisecond}
	for _, c := range []struct {
		policy Policy
		who    string
		waits  []time.Duration
	}{
		{usual, "INV-1", []time.Duration{801271043, 1308423025, 1665020544, 2905951088, 1567437484, 17031310695, 41793371715, 976748651, 37166752194}},
		{narrow, "INV-1", []time.Duration{51815005, 60358789, 72484550, 62585282, 71328514}},
	} {
		for i, want := range c.waits {
			if got := c.policy.backoff(c.who, i+1); got != want {
				t.Errorf("try %d: %d, want %d", i+1, got, want)
			}
		}
	}
	if got := usual.backoff("", 70); got != 13973829206 {
		t.Errorf("try 70: %d", got)
	}
}

// refusing asks at p's rate for a minute an API that answers in no time, and returns how many of
// the answers were good and how many were not. refuses decides on each request.
func (p *pace) refusing(pause time.Duration, refuses func(n int, at time.Time) bool) (good, ill int) {
	for now := paceStart; now.Sub(paceStart) < time.Minute; now = now.Add(5 * time.Millisecond) {
		now = now.Add(p.wait(now))
		p.leave(now)
		if !refuses(good+ill, now) {
			p.good(now)
			good++
			continue
		}
		ill++
		p.refused()
		p.cut(now, pause > 0)
		now = now.Add(pause)
	}
	return good, ill
}

// An API that refuses a share of the requests whatever the rate is not asked ever more slowly. Each
// of its pauses is a second, so a minute has place for 60 refusals.
func TestPaceWhereTheRateIsNotTheReason(t *testing.T) {
	for every, least := range map[int]int{2: 30, 3: 60, 10: 250} {
		good, ill := new(pace).refusing(time.Second, func(n int, _ time.Time) bool { return n%every == every-1 })
		if good < least {
			t.Errorf("every %d. refused: %d good answers and %d refusals in a minute, want %d good ones", every, good, ill, least)
		}
	}
	if good, ill := new(pace).refusing(0, func(n int, _ time.Time) bool { return n%10 == 9 }); good < 3000 {
		t.Errorf("every 10. refused, without a pause: %d good answers and %d refusals in a minute", good, ill)
	}
}

// A gateway that lets a number of requests a second through gets about as many, with few too many:
// an answer without a pause uses its row up in time.
func TestPaceOfAGateway(t *testing.T) {
	for _, burst := range []float64{1, 20, 200} {
		const limit = 20
		tokens, last := burst, paceStart
		good, ill := new(pace).refusing(0, func(_ int, at time.Time) bool {
			tokens, last = min(burst, tokens+limit*at.Sub(last).Seconds()), at
			if tokens < 1 {
				return true
			}
			tokens--
			return false
		})
		if good < 40*limit || ill > good/5 {
			t.Errorf("burst of %v: %d good answers, %d refusals in a minute", burst, good, ill)
		}
	}
}
