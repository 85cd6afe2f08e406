package ingest

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
)

// These tests are about a send that the API executes after its process was lost. Another process
// looks the bill up soon. It may count as absent only once the send's own time is over and a
// look-up has settled after that, or the API, which refuses no reference, makes a second bill.

// latest is how late the API may be: as long as the program waits.
var latest = testPolicy().Timeout + testPolicy().LookupSettle

// lateWorld is a world whose API takes late for the first send of a bill.
func lateWorld(t *testing.T, late time.Duration) *world {
	w := newWorld(t, simConfig{Seed: 2, Weak: true, Reuse: true})
	w.files.put("/inbox/a.csv", []byte(nestedRows(1)))
	w.files.remove("/inbox/b.csv")
	w.script = func(c emulator.Call) emulator.Fault {
		if c.Method == "POST" && c.NthRef == 1 {
			return emulator.Fault{Delay: late}
		}
		return emulator.Fault{}
	}
	return w
}

// loseAfter lets a process live for a while and loses it. Its request goes on.
func (w *world) loseAfter(t *testing.T, life time.Duration) {
	lost := alive()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := w.worker(t, lost).Poll(t.Context()); err == nil {
			t.Error("the process was not lost")
		}
	}()
	time.Sleep(life)
	lost.mu.Lock()
	lost.die("killed")
	lost.mu.Unlock()
	t.Cleanup(func() { <-done })
}

// oneBill lets another process finish, waits for late work, and wants one bill a row, as reported.
func (w *world) oneBill(t *testing.T, rows int) {
	t.Helper()
	if _, err := w.worker(t, alive()).Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
	if n := len(w.api.State().Bills); n != rows {
		t.Errorf("%d bills for %d rows", n, rows)
	}
	for ref, status := range statusOf(t, w, "a.csv", nestedRows(rows)) {
		if status != "created" {
			t.Errorf("%s is %s", ref, status)
		}
	}
}

// TestLateSend: the clock of the second process is wrong, so it trusts no key of the first one.
func TestLateSend(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Hour, time.Hour} {
		for _, late := range []time.Duration{testPolicy().Timeout + time.Second, time.Minute + 18*time.Second, latest} {
			synctest.Test(t, func(t *testing.T) {
				w := lateWorld(t, late)
				w.loseAfter(t, time.Second)
				time.Sleep(16 * time.Second)
				w.clock.set(ahead)
				w.oneBill(t, 1)
			})
		}
	}
}

// TestLateSendAfterTwoRestarts: a second process sends the key again, is told to wait, and is
// stopped. What it records of that says nothing of the first send.
func TestLateSendAfterTwoRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lateWorld(t, 78*time.Second)
		first := w.script
		w.script = func(c emulator.Call) emulator.Fault {
			if c.Method == "POST" && c.NthRef == 2 {
				return emulator.Fault{Status: 429, RetryAfter: "600"}
			}
			return first(c)
		}
		w.loseAfter(t, time.Second)
		time.Sleep(time.Second)
		ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		if _, err := w.worker(t, alive()).Poll(ctx); err == nil {
			t.Fatal("the second process was not stopped")
		}
		w.clock.set(-time.Hour)
		w.oneBill(t, 1)
	})
}

// TestLateSendOfAnOldRecord: the send was recorded a quarter of an hour before it left, because the
// API had asked for a pause.
func TestLateSendOfAnOldRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lateWorld(t, 0)
		w.files.put("/inbox/a.csv", []byte(nestedRows(2)))
		w.cfg.Break = func(p *ledgerAndAPI) { p.Policy.Concurrency = 1 }
		var posts atomic.Int64
		w.script = func(c emulator.Call) emulator.Fault {
			if c.Method != "POST" {
				return emulator.Fault{}
			}
			switch posts.Add(1) {
			case 1:
				return emulator.Fault{Status: 429, RetryAfter: "900"}
			case 2:
				return emulator.Fault{Delay: 78 * time.Second}
			}
			return emulator.Fault{}
		}
		w.loseAfter(t, 902*time.Second)
		if n := posts.Load(); n != 2 {
			t.Fatalf("%d sends before the process is lost, want 2", n)
		}
		time.Sleep(time.Second)
		w.clock.set(-6 * time.Minute)
		w.oneBill(t, 2)
	})
}

// TestLateSendAndGateway: a gateway that keeps answers by key replays its own 504, or a 409, while
// the API is still at work.
func TestLateSendAndGateway(t *testing.T) {
	for _, replayed := range []client.Answer{
		{Kind: client.ServerFault, Status: 504, Replayed: true},
		{Kind: client.InFlight, Status: 409, Replayed: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := lateWorld(t, latest)
			w.loseAfter(t, time.Second)
			time.Sleep(16 * time.Second)
			first := "" // one row, so one goroutine
			w.cfg.Break = func(p *ledgerAndAPI) {
				p.API = &lyingAPI{API: p.API, create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
					if first == "" || key == first {
						first = key
						return replayed
					}
					return real.CreateBill(ctx, key, reference, body)
				}}
			}
			w.oneBill(t, 1)
		})
	}
}
