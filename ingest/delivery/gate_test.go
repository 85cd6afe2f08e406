package delivery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
)

func testPolicy() Policy {
	return Policy{
		Concurrency: 8, MaxAttempts: 6, BackoffMin: 500 * time.Millisecond, BackoffMax: time.Minute,
		LookupSettle: time.Minute, GiveUpAfter: 15 * time.Minute,
	}
}

// crowd sends n requests through the gate, each answered by answer, and returns what came of enter.
func crowd(t *testing.T, g *gate, n int, answer func(i int) client.Answer) []error {
	t.Helper()
	errs := make([]error, n)
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			tk, err := g.acquire(t.Context())
			if errs[i] = err; err == nil {
				g.done(tk, fmt.Sprint("INV-", i), answer(i))
			}
		}()
	}
	for range n {
		<-done
	}
	return errs
}

func TestGateBoundsConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(testPolicy(), nil)
		var now, peak atomic.Int64
		crowd(t, g, 100, func(int) client.Answer {
			peak.Store(max(peak.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return client.Answer{Kind: client.Created}
		})
		if peak.Load() != 8 {
			t.Errorf("at most %d in flight, want 8", peak.Load())
		}
	})
}

func TestGateRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPolicy()
		p.RateLimit = 10
		g := newGate(p, newLimiter(p))
		begun := time.Now()
		crowd(t, g, 41, func(int) client.Answer { return client.Answer{Kind: client.Created} })
		if took := time.Since(begun); took < 4*time.Second {
			t.Errorf("41 requests at 10 a second took %v", took)
		}
	})
}

// A 429 pauses all senders, and cuts the concurrency once for all requests that were out together.
func TestGateThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(testPolicy(), nil)
		var tickets []ticket
		for range 8 {
			tk, err := g.acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, tk)
		}
		for _, tk := range tickets {
			g.done(tk, "INV-1", client.Answer{Kind: client.Throttled, RetryAfter: 30 * time.Second})
		}
		if g.limit != 4 {
			t.Errorf("limit = %d after one volley of 429s, want 4", g.limit)
		}
		begun := time.Now()
		tk, err := g.acquire(t.Context())
		if err != nil || time.Since(begun) != 30*time.Second {
			t.Errorf("passed after %v (%v), want 30s", time.Since(begun), err)
		}
		g.done(tk, "INV-1", client.Answer{Kind: client.Created})
		crowd(t, g, 100, func(int) client.Answer { return client.Answer{Kind: client.Created} })
		if g.limit != 8 {
			t.Errorf("limit = %d after 100 good answers, want 8", g.limit)
		}
	})
}

// During an outage one request at a time probes; when the API is back, all go on.
func TestGateOutageAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(testPolicy(), nil)
		begun := time.Now()
		var requests atomic.Int64
		down := func() bool { return time.Since(begun) < 10*time.Minute }
		errs := make(chan error)
		for i := range 500 {
			go func() {
				for {
					tk, err := g.acquire(t.Context())
					if err != nil {
						errs <- err
						return
					}
					requests.Add(1)
					a := client.Answer{Kind: client.Created}
					if down() {
						a.Kind = client.ServerFault
					}
					g.done(tk, fmt.Sprint("INV-", i), a)
					if a.Kind == client.Created {
						errs <- nil
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}
		for range 500 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		if n := requests.Load(); n > 600 {
			t.Errorf("%d requests for 500 rows through an outage of 10 minutes", n)
		}
		if _, outages := g.state(); outages != 1 {
			t.Errorf("%d outages counted", outages)
		}
	})
}

func TestGateGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(testPolicy(), nil)
		begun := time.Now()
		for n := 0; ; n++ {
			tk, err := g.acquire(t.Context())
			if err != nil {
				if !errors.Is(err, ErrStopped) || !strings.HasSuffix(err.Error(), ": 413 from nginx: Request Entity Too Large") {
					t.Errorf("err = %v", err)
				}
				break
			}
			g.done(tk, fmt.Sprint("INV-", n), client.Answer{Kind: client.ServerFault, Status: 413, Server: "nginx", Page: "Request Entity Too Large"})
		}
		if took := time.Since(begun); took < 15*time.Minute || took > 17*time.Minute {
			t.Errorf("gave up after %v", took)
		}
	})
}

// Waiting requests are let go when the run stops, and none keeps a slot.
func TestGateHaltAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Policy{Concurrency: 1, BackoffMin: time.Second, BackoffMax: time.Second, GiveUpAfter: time.Hour}, nil)
		tk, _ := g.acquire(t.Context())
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stopped by a person")
		got := make(chan error)
		go func() { _, err := g.acquire(ctx); got <- err }()
		synctest.Wait()
		cancel(stop)
		if err := <-got; !errors.Is(err, stop) {
			t.Errorf("cancelled: %v", err)
		}
		g.done(tk, "INV-1", client.Answer{Kind: client.Created})
		if tk, err := g.acquire(t.Context()); err != nil {
			t.Errorf("the slot is gone: %v", err)
		} else {
			go func() { _, err := g.acquire(t.Context()); got <- err }()
			synctest.Wait()
			g.close(stop)
			g.done(tk, "INV-1", client.Answer{Kind: client.Created})
		}
		if err := <-got; !errors.Is(err, stop) {
			t.Errorf("halted: %v", err)
		}
		if g.inFlight != 0 || len(g.waiters) != 0 {
			t.Errorf("%d in flight, %d waiting", g.inFlight, len(g.waiters))
		}
	})
}

// A 429 stops all senders, also those that a rate limit paces.
func TestThrottledWithRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPolicy()
		p.RateLimit = 20
		g := newGate(p, newLimiter(p))
		begun := time.Now()
		var sent []time.Duration
		done := make(chan struct{})
		for i := range 40 {
			go func() {
				tk, err := g.acquire(t.Context())
				if err != nil {
					t.Error(err)
				}
				sent = append(sent, time.Since(begun)) // one at a time: the limiter spaces them out
				if len(sent) == 1 {
					g.done(tk, "INV-0", throttledFor(3*time.Second))
				} else {
					g.done(tk, fmt.Sprint("INV-", i), goodAnswer)
				}
				done <- struct{}{}
			}()
		}
		for range 40 {
			<-done
		}
		for i, at := range sent[1:] {
			if at < 3*time.Second {
				t.Errorf("request %d left %v after the 429", i+1, at)
			}
		}
		for i := range sent {
			if i+20 < len(sent) && sent[i+20]-sent[i] < time.Second {
				t.Errorf("21 requests within %v", sent[i+20]-sent[i])
			}
		}
	})
}

func throttledFor(d time.Duration) client.Answer {
	return client.Answer{Kind: client.Throttled, Status: 429, RetryAfter: d}
}

var goodAnswer = client.Answer{Kind: client.Created, Status: 201}

// Requests pass in order of arrival, also past a waiter whom no event has admitted yet.
func TestGateOrder(t *testing.T) {
	g := newGate(testPolicy(), nil)
	first := &waiter{turn: make(chan struct{})}
	g.waiters = append(g.waiters, first)
	if _, err := g.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.turn:
	default:
		t.Error("a later request overtook the first")
	}
}

// A gate that is closed says why, whatever else ends the wait.
func TestGateClosedAndCancelled(t *testing.T) {
	g := newGate(testPolicy(), nil)
	why := errors.New("the API is gone")
	g.close(why)
	g.close(errors.New("something later"))
	ctx, cancel := context.WithCancel(t.Context())
	w := &waiter{turn: make(chan struct{})}
	cancel()
	if err := g.settleTurn(ctx, w); !errors.Is(err, why) {
		t.Errorf("err = %v", err)
	}
	if !errors.Is(g.err(), why) {
		t.Errorf("the gate says %v", g.err())
	}
}

// While the gate is quiet, nothing passes, and it is idle once the last request is back.
func TestGateQuiesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(testPolicy(), nil)
		out, err := g.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cancelled, err := g.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		idle := g.quiesce()
		passed := make(chan error)
		go func() {
			tk, err := g.acquire(t.Context())
			if err == nil {
				g.done(tk, "INV-2", goodAnswer)
			}
			passed <- err
		}()
		g.cancel(cancelled)
		synctest.Wait()
		if isReady(idle) {
			t.Error("idle while a request is out")
		}
		g.done(out, "INV-1", goodAnswer)
		synctest.Wait()
		if !isReady(idle) || !isReady(g.quiesce()) {
			t.Error("not idle although nothing is out")
		}
		select {
		case <-passed:
			t.Error("a request passed a quiet gate")
		default:
		}
		g.resume()
		if err := <-passed; err != nil {
			t.Error(err)
		}
	})
}

func TestNoLimiterWithoutLimit(t *testing.T) {
	if newLimiter(Policy{}) != nil {
		t.Error("a limiter without a limit")
	}
	if l := newLimiter(Policy{RateLimit: 1}); l == nil || l.Burst() != 1 || l.Limit() > 1 || l.Limit() < 0.9 {
		t.Errorf("a limiter of one a second: %v", l)
	}
}

var forbiddenAnswer = client.Answer{Kind: client.KeyRefused, Status: 403}

// A 403 that may be the key's is held until another answer shows whether the key is good.
func TestGateAwaitsProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(testPolicy(), nil)
		if good, err := g.awaitProof(t.Context(), nil); good || err != nil {
			t.Errorf("without a doubt: %v, %v", good, err)
		}
		first, _ := g.acquire(t.Context())
		other, _ := g.acquire(t.Context())
		silence := g.quiesce()
		g.done(first, "INV-1", forbiddenAnswer)
		go func() {
			time.Sleep(time.Second)
			g.done(other, "INV-2", goodAnswer)
		}()
		begun := time.Now()
		if good, err := g.awaitProof(t.Context(), silence); !good || err != nil || time.Since(begun) != time.Second {
			t.Errorf("another answer on its way: %v, %v after %v", good, err, time.Since(begun))
		}
		if good, err := g.awaitProof(t.Context(), nil); !good || err != nil {
			t.Errorf("once it is known: %v, %v", good, err)
		}
		tk, err := g.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g.quiesce()
		g.done(tk, "INV-3", goodAnswer)
		if good, err := g.awaitProof(t.Context(), nil); !good || err != nil || g.idle == nil {
			t.Errorf("a row without a doubt ended what another began: %v, %v", good, err)
		}
	})
}

// Silence proves nothing, and the gate stays quiet.
func TestGateAwaitsProofInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(testPolicy(), nil)
		tk, _ := g.acquire(t.Context())
		silence := g.quiesce()
		g.done(tk, "INV-1", forbiddenAnswer)
		if good, err := g.awaitProof(t.Context(), silence); good || err != nil || g.idle == nil {
			t.Errorf("silence: %v, %v, quiet %v", good, err, g.idle != nil)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		cancel(enough)
		if good, err := g.awaitProof(ctx, make(chan struct{})); good || !errors.Is(err, enough) {
			t.Errorf("cancelled: %v, %v", good, err)
		}
	})
}

// A request passes after a 403 only if it left after it and got a good answer.
func TestGatePassedSince(t *testing.T) {
	g := newGate(testPolicy(), nil)
	send := func(reference string, a client.Answer) {
		tk, err := g.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g.done(tk, reference, a)
	}
	send("INV-1", goodAnswer)
	send("INV-2", forbiddenAnswer)
	if g.passedSince("INV-2") {
		t.Error("what came before it counts")
	}
	send("INV-3", forbiddenAnswer)
	if g.passedSince("INV-2") {
		t.Error("a 403 counts")
	}
	send("INV-4", goodAnswer)
	if !g.passedSince("INV-2") {
		t.Error("a good answer after it does not count")
	}
	late, _ := g.acquire(t.Context())
	send("INV-5", forbiddenAnswer)
	g.done(late, "INV-6", goodAnswer)
	if g.passedSince("INV-5") {
		t.Error("the answer to a request that left before it counts")
	}
	early, _ := g.acquire(t.Context())
	later, _ := g.acquire(t.Context())
	g.done(early, "INV-7", forbiddenAnswer)
	g.done(later, "INV-8", goodAnswer)
	if g.passedSince("INV-7") {
		t.Error("the answer to a request that was out beside it counts")
	}
}

// Until the key is proven, a 403 says nothing of the API. Afterwards five of them in a row
// mean that the key was withdrawn, and a 401 never counts as a gateway's.
func TestGateKeyWithdrawn(t *testing.T) {
	refuse := func(t *testing.T, g *gate, n int, a client.Answer) {
		for i := range n {
			if tk, err := g.acquire(t.Context()); err == nil {
				g.done(tk, fmt.Sprint("INV-", i), a)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		unproven := newGate(testPolicy(), nil)
		refuse(t, unproven, 10, forbiddenAnswer)
		if unproven.err() != nil || unproven.streak.outage {
			t.Errorf("unproven: %v, outage %v", unproven.err(), unproven.streak.outage)
		}
		proven := newGate(testPolicy(), nil)
		refuse(t, proven, 1, goodAnswer)
		refuse(t, proven, 10, client.Answer{Kind: client.KeyRefused, Status: 401})
		if proven.err() != nil || proven.streak.outage {
			t.Errorf("401: %v, outage %v", proven.err(), proven.streak.outage)
		}
		withdrawn := newGate(testPolicy(), nil)
		refuse(t, withdrawn, 1, goodAnswer)
		refuse(t, withdrawn, 10, forbiddenAnswer)
		if !errors.Is(withdrawn.err(), ErrSetup) {
			t.Errorf("withdrawn: %v", withdrawn.err())
		}
	})
}
