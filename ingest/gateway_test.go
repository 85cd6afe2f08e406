package ingest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// Tests of gateways that let only so many requests through, on the fake clock.

// gateway is an API behind a gateway that answers 503 to what exceeds its limit.
type gateway struct {
	admits  func(now time.Time) bool // called one at a time
	latency time.Duration            // of the API behind it
	jitter  time.Duration            // of each request on its way there, at most

	mu    sync.Mutex
	sends map[string]int
	gets  int
	bills int
}

var tooMany = client.Answer{Kind: client.ServerFault, Status: 503, Server: "nginx", Page: "Service Temporarily Unavailable"}

func (g *gateway) enter(who string, n int) bool {
	if g.jitter > 0 {
		time.Sleep(time.Duration(dice{1}.roll("jitter", who, n) % uint64(g.jitter)))
	}
	time.Sleep(time.Millisecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admits(time.Now())
}

func (g *gateway) CreateBill(_ context.Context, _, reference string, _ []byte) client.Answer {
	g.mu.Lock()
	g.sends[reference]++
	n := g.sends[reference]
	g.mu.Unlock()
	if !g.enter(reference, n) {
		return tooMany
	}
	time.Sleep(g.latency)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bills++
	return client.Answer{Kind: client.Created, Status: 201, Bill: &client.Bill{ID: "bill_" + reference, ExternalReference: reference}}
}

func (g *gateway) get(reference string) client.Answer {
	g.mu.Lock()
	g.gets++
	n := g.gets
	g.mu.Unlock()
	if !g.enter(reference, n) {
		return tooMany
	}
	return client.Answer{Kind: client.Absent, Status: 404, Problem: client.Problem{Type: "x"}}
}

func (g *gateway) GetBill(_ context.Context, reference string) client.Answer { return g.get(reference) }
func (g *gateway) CreatePaymentRequest(context.Context, string, string, []byte) client.Answer {
	panic("no payment requests here")
}

func (g *gateway) GetCustomer(_ context.Context, reference string) client.Answer {
	return g.get(reference)
}
func (g *gateway) GetAccount(_ context.Context, reference string) client.Answer {
	return g.get(reference)
}

// leaky is nginx's limit_req: so many requests a second, evenly spread, and a burst above
// that. What it refuses does not count.
func leaky(rate, burst float64) func(time.Time) bool {
	var last time.Time
	excess := -1.0
	return func(now time.Time) bool {
		next := max(0, excess-now.Sub(last).Seconds()*rate+1)
		if excess < 0 {
			next = 0
		}
		if next > burst {
			return false
		}
		last, excess = now, next
		return true
	}
}

// window lets the first requests of each second through.
func window(rate int) func(time.Time) bool {
	var second int64
	n := 0
	return func(now time.Time) bool {
		if now.Unix() != second {
			second, n = now.Unix(), 0
		}
		n++
		return n <= rate
	}
}

// A gateway that lets 20 requests a second through, and answers 503 to the others, costs no row its
// bill and few requests: at most 1.5 a row. Nor does one that lets far fewer or many more through.
func TestGatewayLimits(t *testing.T) {
	for _, c := range []struct {
		name        string
		admits      func() func(time.Time) bool
		concurrency int
		latency     time.Duration
		jitter      time.Duration
		rate        float64 // sustainable
	}{
		{"nginx", func() func(time.Time) bool { return leaky(20, 0) }, 32, 3 * time.Millisecond, 0, 20},
		{"nginx, jitter", func() func(time.Time) bool { return leaky(20, 0) }, 32, 3 * time.Millisecond, 10 * time.Millisecond, 20},
		{"nginx, one sender", func() func(time.Time) bool { return leaky(20, 0) }, 1, 3 * time.Millisecond, 0, 20},
		{"nginx, many senders", func() func(time.Time) bool { return leaky(20, 0) }, 256, 3 * time.Millisecond, 0, 20},
		{"nginx, slow API", func() func(time.Time) bool { return leaky(20, 0) }, 32, 800 * time.Millisecond, 5 * time.Millisecond, 20},
		{"nginx, burst 5", func() func(time.Time) bool { return leaky(20, 5) }, 32, 50 * time.Millisecond, 5 * time.Millisecond, 20},
		{"nginx, burst 40", func() func(time.Time) bool { return leaky(20, 40) }, 64, 50 * time.Millisecond, 5 * time.Millisecond, 20},
		{"by the second", func() func(time.Time) bool { return window(20) }, 32, 20 * time.Millisecond, 5 * time.Millisecond, 20},
		{"one a second", func() func(time.Time) bool { return leaky(1, 0) }, 32, 20 * time.Millisecond, 5 * time.Millisecond, 1},
		{"300 a second", func() func(time.Time) bool { return leaky(300, 50) }, 32, 20 * time.Millisecond, 5 * time.Millisecond, 300},
	} {
		t.Run(c.name, func(t *testing.T) {
			const rows = 1000
			synctest.Test(t, func(t *testing.T) {
				g := &gateway{admits: c.admits(), latency: c.latency, jitter: c.jitter, sends: make(map[string]int)}
				w := newWorld(t, simConfig{Seed: 1, Break: func(p *ledgerAndAPI) {
					p.API = g
					p.Policy.Concurrency = c.concurrency
				}})
				delete(w.files.files, "/inbox/b.csv")
				w.files.put("/inbox/a.csv", []byte(customerRows(rows)))
				begun := time.Now()
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				sends, most := 0, 0
				for _, n := range g.sends {
					sends += n
					most = max(most, n)
				}
				took := time.Since(begun).Seconds()
				report := fmt.Sprintf("%d sends for %d rows, at most %d a row, %d look-ups, %.0f s, %.0f s at the least; %v",
					sends, rows, most, g.gets, took, rows/c.rate, summaries[0].Rows.By)
				if summaries[0].Rows.By[ledger.Created] != rows || sends > rows*3/2 || g.gets != 0 || took > 30+2*rows/c.rate {
					t.Error(report)
				}
				t.Log(report)
			})
		})
	}
}

// A moment of 503s does not slow a fast API down for long.
func TestMomentOfRefusals(t *testing.T) {
	const rows = 20_000 // 12 s at 32 in flight and 20 ms
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		g := &gateway{latency: 18 * time.Millisecond, sends: make(map[string]int), admits: func(now time.Time) bool {
			at := now.Sub(begun)
			return at < 4*time.Second || at > 4*time.Second+30*time.Millisecond
		}}
		w := newWorld(t, simConfig{Seed: 1, Break: func(p *ledgerAndAPI) {
			p.API = g
			p.Policy.Concurrency = 32
		}})
		delete(w.files.files, "/inbox/b.csv")
		w.files.put("/inbox/a.csv", []byte(customerRows(rows)))
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil || summaries[0].Rows.By[ledger.Created] != rows {
			t.Fatalf("err %v, %+v", err, summaries)
		}
		sends := 0
		for _, n := range g.sends {
			sends += n
		}
		took := time.Since(begun)
		if took > 30*time.Second || sends > rows+100 {
			t.Errorf("%d rows took %v and %d sends", rows, took, sends)
		}
		t.Logf("%d rows took %v and %d sends", rows, took, sends)
	})
}

// Retry-After with a 503 holds all senders back, as with a 429.
func TestRetryAfterPausesAll(t *testing.T) {
	for _, status := range []int{429, 502, 503, 504} {
		var mu sync.Mutex
		var asked, early int
		var until time.Time
		script := func(c emulator.Call) emulator.Fault {
			mu.Lock()
			defer mu.Unlock()
			if asked++; asked == 20 {
				until = time.Now().Add(40 * time.Second)
				return emulator.Fault{Status: status, RetryAfter: "40"}
			}
			if asked > 20+8 && time.Now().Before(until) { // 8 may have been on their way
				early++
			}
			return emulator.Fault{}
		}
		bubble(t, nestedRows(200), script, func(t *testing.T, w *world) {
			summaries, err := w.worker(t, alive()).Poll(t.Context())
			if err != nil || summaries[0].Rows.By[ledger.Created] != 200 {
				t.Errorf("%d: err %v, %+v", status, err, summaries)
			}
			if early > 0 || until.IsZero() {
				t.Errorf("%d: %d requests were sent in spite of Retry-After", status, early)
			}
		})
	}
}
