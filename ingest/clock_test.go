package ingest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// TestWrongClockLooksUpFirst: what an earlier run sent is sent again under its key, unless this
// machine's clock and the API's differ, the ledger holds times in the future, or the earlier run
// ended before the API told its time: its clock may have been fast and corrected since, so that
// the key is older than it looks. Then the bill is looked up first.
func TestWrongClockLooksUpFirst(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ahead time.Duration // the API's clock, in the second run
		back  time.Duration // by which a time in the ledger is in the future
		dark  bool          // the first run ends before the API has told its time
		first string        // the method of the second run's first request about a bill
	}{
		{"clocks agree", 0, 0, false, "POST"},
		{"4 min", -4 * time.Minute, 0, false, "POST"},
		{"this machine's clock is 10 h slow", 10 * time.Hour, 0, false, "GET"},
		{"this machine's clock is 6 min fast", -6 * time.Minute, 0, false, "GET"},
		{"this machine's clock was set back", 0, time.Hour, false, "GET"},
		{"the earlier run's clock was not checked", 0, 0, true, "GET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, simConfig{Seed: 2})
				lost := true
				sent, first := make(map[string]bool), make(map[string]string)
				w.script = func(c emulator.Call) emulator.Fault {
					if lost {
						sent[c.Reference] = sent[c.Reference] || c.Method == "POST"
						return emulator.Fault{Apply: true, Drop: true}
					}
					if first[c.Reference] == "" {
						first[c.Reference] = c.Method
					}
					return emulator.Fault{}
				}
				process := func() *process { return &process{steps: make(map[string]int)} }
				if _, err := w.worker(t, process()).Poll(t.Context()); !errors.Is(err, delivery.ErrStopped) {
					t.Fatalf("the first run: %v, want ErrStopped", err)
				}
				lost = false
				time.Sleep(15 * time.Hour) // after a first run whose clock was 10 h fast, 25 h
				w.cfg.Break = func(p *ledgerAndAPI) {
					p.API = &lyingAPI{API: p.API,
						create: func(real delivery.API, ctx context.Context, key, reference string, body []byte) client.Answer {
							a := real.CreateBill(ctx, key, reference, body)
							a.Date = a.Date.Add(tt.ahead)
							return a
						},
						bill: func(a client.Answer) client.Answer {
							if a.Date.IsZero() {
								t.Error("an answer has no Date")
							}
							a.Date = a.Date.Add(tt.ahead)
							return a
						}}
					p.Ledger = &lyingLedger{Ledger: p.Ledger, bills: func(known map[string]*ledger.Bill) {
						for ref, b := range known {
							if !tt.dark {
								b.Send.KeyFirstUsed = b.Send.At // as a run records it that knows the API's time
							}
							if tt.back > 0 && ref == "INV-1" {
								b.Send.At = time.Now().Add(tt.back)
							}
						}
					}}
				}
				if _, err := w.worker(t, process()).Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
				gets, posts := 0, 0
				for ref := range sent {
					switch first[ref] {
					case "GET":
						gets++
					case "POST":
						posts++
					}
				}
				if tt.first == "GET" && (posts > 0 || gets == 0) || tt.first == "POST" && (gets > 1 || posts == 0) {
					t.Errorf("%d bills are looked up first, %d are sent first, want %s; all: %v", gets, posts, tt.first, first)
				}
			})
		})
	}
}

// A machine's clock that is a day off, as the API tells, makes no row fail.
func TestClockADayOff(t *testing.T) {
	for _, off := range []time.Duration{26 * time.Hour, -26 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, simConfig{Seed: 2})
			w.clock.set(off)
			if _, err := w.worker(t, alive()).Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			for ref, status := range statusOf(t, w, "a.csv", simBills) {
				if status == "failed" || status == "unknown" {
					t.Errorf("the clock is %v off: %s is %s", off, ref, status)
				}
			}
		})
	}
}

// The first use of a key that was recorded by a fast clock is corrected once an answer tells the
// time, also if nothing more is sent.
func TestFirstUseByAFastClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 2})
		w.script = func(emulator.Call) emulator.Fault { return emulator.Fault{Status: 503} }
		w.clock.set(10 * time.Hour)
		p := alive()
		p.before = func(step string, nth int) {
			if step == "begin INV-1" && nth == 2 {
				p.kill()
			}
		}
		if _, err := w.worker(t, p).Poll(t.Context()); !errors.Is(err, errDead) {
			t.Fatalf("the run: %v, want to die", err)
		}
		known, err := w.ledger.Bills(t.Context(), w.scope, []string{"INV-1"})
		if err != nil {
			t.Fatal(err)
		}
		send := known["INV-1"].Send
		if ahead := time.Until(send.KeyFirstUsed); send.Answer != "503" || ahead > 0 {
			t.Errorf("answered %q, and its key was first used %v from now", send.Answer, ahead)
		}
	})
}
