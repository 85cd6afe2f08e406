package ingest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// Rows for which the API gave no answer, or only failures, are settled by a retry once it
// is well again, under every kind of loss.
func TestRetrySettles(t *testing.T) {
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprint("applied ", applied), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, simConfig{Seed: 1})
				ill := true
				w.script = func(c emulator.Call) emulator.Fault {
					switch {
					case !ill:
					case c.Reference == "INV-3" && c.Method == "POST":
						return emulator.Fault{Status: 500, Store: true} // stored under every key: failed
					case c.Reference == "INV-6" && c.Method == "POST":
						return emulator.Fault{Apply: applied, Drop: true}
					case c.Reference == "INV-6":
						return emulator.Fault{Status: 500} // no look-up either: unknown
					}
					return emulator.Fault{}
				}
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got := statusOf(t, w, "a.csv", simBills); got["INV-3"] != "failed" || got["INV-6"] != "unknown" {
					t.Fatalf("before the retry: %v", got)
				}
				ill = false
				time.Sleep(25 * time.Hour) // the API has forgotten the keys by now
				worker := w.worker(t, alive())
				s, err := worker.Retry(t.Context(), summaries[0].FileID)
				if err != nil {
					t.Fatal(err)
				}
				if s.Rows.By[ledger.Failed]+s.Rows.By[ledger.Unknown] != 0 {
					t.Errorf("rows after the retry: %v", s.Rows.By)
				}
				// b.csv came between; its rows of these references say what they met then.
				got := statusOf(t, w, "a.csv", simBills)
				if got["INV-3"] != "created" || got["INV-6"] != "created" {
					t.Errorf("after the retry: %v", got)
				}
				for _, ref := range []string{"INV-3", "INV-6"} {
					if n := len(w.api.Bills(ref)); n != 1 {
						t.Errorf("%s: %d bills", ref, n)
					}
				}
				if files := strings.Join(w.files.in("/archive"), " "); files != "a.csv b.csv" {
					t.Errorf("archive: %s", files)
				}
				if _, err := worker.Retry(t.Context(), summaries[0].FileID); !errors.Is(err, ErrNothingToDo) {
					t.Errorf("a second retry: %v", err)
				}
			})
		})
	}
}

// A retry that is killed at any step is finished by the next run.
func TestRetryCrash(t *testing.T) {
	crashes := 0
	for seed := uint64(1); seed <= 60; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, simConfig{Seed: seed})
			ill := true
			w.script = func(c emulator.Call) emulator.Fault {
				if ill && c.Reference == "INV-2" && c.Method == "POST" {
					return emulator.Fault{Status: 503}
				}
				return emulator.Fault{}
			}
			summaries, err := w.worker(t, alive()).Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ill = false
			p := &process{dice: dice{seed}, deadly: 8, steps: make(map[string]int)}
			if _, err := w.worker(t, p).Retry(t.Context(), summaries[0].FileID); p.dead {
				crashes++
				w.ledger.Crash(func(n int) int { return int(w.roll("tail") % uint64(n+1)) })
			} else if err != nil {
				t.Fatal(err)
			}
			if err := w.run(t); err != nil { // cron
				t.Fatal(err)
			}
			if _, err := w.worker(t, alive()).Retry(t.Context(), summaries[0].FileID); err != nil && !errors.Is(err, ErrNothingToDo) {
				t.Fatal(err)
			}
			if wrong := w.checkInvariants(); len(wrong) > 0 {
				t.Errorf("seed %d (died %s): %v", seed, p.where, wrong)
			}
		})
	}
	if crashes < 20 {
		t.Errorf("only %d of the retries were killed", crashes)
	}
}

// An outage of ten minutes in the middle of 10,000 rows costs few requests and blames no
// row.
func TestOutageMidFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1})
		const rows = 10_000
		delete(w.files.files, "/inbox/a.csv")
		delete(w.files.files, "/inbox/b.csv")
		content := manyBills(0, rows, 3000)
		w.files.put("/inbox/a.csv", []byte(content))
		posts, gets := 0, 0
		var down time.Time
		w.script = func(c emulator.Call) emulator.Fault {
			if c.Method == "POST" {
				posts++
			} else {
				gets++
			}
			if posts == rows/2 && down.IsZero() {
				down = time.Now()
			}
			if !down.IsZero() && time.Since(down) < 10*time.Minute {
				return []emulator.Fault{{Status: 503}, {Drop: true}, {Apply: true, Drop: true}, {Status: 502, Apply: true}, {Status: 500, Store: true}}[posts%5]
			}
			return emulator.Fault{}
		}
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := summaries[0].Rows.By[ledger.Created]; got != rows {
			t.Errorf("created %d of %d: %v", got, rows, summaries[0].Rows.By)
		}
		if n := len(w.api.State().Bills); n != rows+2 {
			t.Errorf("%d bills", n)
		}
		t.Logf("%d POSTs and %d GETs for %d rows: %.3f requests a row", posts, gets, rows, float64(posts+gets)/rows)
		if float64(posts+gets) > 1.2*rows {
			t.Errorf("%d POSTs and %d GETs for %d rows", posts, gets, rows)
		}
	})
}
