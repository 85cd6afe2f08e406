package ingest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// TestChangedMindOnInvalid: a feed refuses files with invalid rows, the process dies while
// it gives the rows their outcome, and then the feed is to send the others: none of them is
// left out.
func TestChangedMindOnInvalid(t *testing.T) {
	cut := 0
	for seed := uint64(1); seed <= 400; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, simConfig{Seed: seed})
			p := &process{dice: dice{seed}, deadly: 40, steps: make(map[string]int)}
			strict := w.worker(t, p)
			strict.Feeds[0].RejectInvalid = true
			_, err := strict.Poll(t.Context())
			if !p.dead {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			w.ledger.Crash(func(n int) int { return int(w.roll("tail") % uint64(n+1)) })
			files, err := w.ledger.Files(t.Context(), ledger.Query{})
			if err != nil {
				t.Fatal(err)
			}
			halfWay := ""
			for _, f := range files {
				if totals, err := w.ledger.Totals(t.Context(), f.ID); err != nil {
					t.Fatal(err)
				} else if f.State == ledger.Spooled && f.Name == "a.csv" && totals.Rows[ledger.NotSent] > 0 {
					halfWay = f.ID
				}
			}
			if halfWay == "" {
				return
			}
			cut++
			if err := w.run(t); err != nil {
				t.Fatal(err)
			}
			for ref, status := range statusOf(t, w, "a.csv", simBills) {
				if status == "not_sent" {
					t.Errorf("seed %d: %s was not sent", seed, ref)
				}
			}
		})
	}
	if cut == 0 {
		t.Error("no file was cut off half-way")
	}
}

// A file that is under way is not read in another way: a row that was sent must not turn
// into an invalid one.
func TestFormatChangesMidFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1, Harsh: true})
		down := true
		w.script = func(c emulator.Call) emulator.Fault {
			if down && c.Reference == "INV-6" {
				return emulator.Fault{Status: 401}
			}
			return emulator.Fault{}
		}
		if _, err := w.worker(t, alive()).Poll(t.Context()); !errors.Is(err, delivery.ErrSetup) {
			t.Fatal(err)
		}
		down = false
		changed := w.worker(t, alive())
		changed.Feeds[0].Format.MaxAmountDue = 10
		if _, err := changed.Poll(t.Context()); err == nil || errors.Is(err, delivery.ErrStopped) || !strings.Contains(err.Error(), "format was changed") {
			t.Errorf("with another format: %v", err)
		}
		if err := w.run(t); err != nil {
			t.Fatal(err)
		}
		w.well = true
		if wrong := w.checkInvariants(); len(wrong) > 0 {
			t.Error(wrong)
		}
	})
}

// A claimed file that is gone before it was read does not block others. One that was
// written to after an interrupted claim is still found.
func TestClaimedAndGone(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.claimOnly(t, manyBills(0, 5, 5))
		if err := os.Remove(filepath.Join(r.root, "processing", "a.csv")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.try(t); err != nil {
			t.Errorf("a claimed file that is gone: %v", err)
		}
		r.claimOnly(t, manyBills(0, 4, 4))
		write(t, filepath.Join(r.root, "processing", "a.csv"), manyBills(0, 5, 5))
		r.finished(t, 5)
	})
}

// The copy in the spool is what is sent: a remote file that vanishes or is replaced after
// the claim changes nothing.
func TestRemoteFileChangesAfterClaim(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, claimed string){
		"vanishes":    func(t *testing.T, claimed string) { os.Remove(claimed) },
		"is replaced": func(t *testing.T, claimed string) { write(t, claimed, manyBills(900, 3, 3)) },
	} {
		t.Run(name, func(t *testing.T) {
			onServers(t, func(t *testing.T, r *rig) {
				r.drop(t, "a.csv", manyBills(0, 20, 5))
				r.feed.Lane = newLane(&changingAPI{API: r.client, change: func() { change(t, filepath.Join(r.root, "processing", "a.csv")) }})
				summaries, err := r.try(t)
				if err != nil {
					t.Fatal(err)
				}
				if got := r.statuses(t, summaries[0]); got["created"] != 20 {
					t.Errorf("statuses: %v", got)
				}
				kept, err := os.ReadFile(filepath.Join(r.root, "archive", summaries[0].Stem+".csv"))
				if err != nil || string(kept) != manyBills(0, 20, 5) {
					t.Errorf("what was processed is not archived: %v", err)
				}
				if left, _ := os.ReadDir(filepath.Join(r.root, "processing")); len(left) > 0 {
					t.Errorf("left in processing: %v", left)
				}
			})
		})
	}
}

// changingAPI does something to the world at the first bill.
type changingAPI struct {
	delivery.API
	once   sync.Once
	change func()
}

func (a *changingAPI) CreateBill(ctx context.Context, key, reference string, body []byte) client.Answer {
	a.once.Do(a.change)
	return a.API.CreateBill(ctx, key, reference, body)
}

// Finished is called once for each file, when its reports are in place, with its summary to
// the byte: for a refused file, for one that is held and then approved, and for one whose
// run ended when all was published.
func TestFinished(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		var log bytes.Buffer
		w := r.worker(t, &log, r.feed)
		heard := make(map[string]int)
		w.Finished = func(s report.Summary) {
			published, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s.Stem).Summary))
			if err != nil || !bytes.Equal(published, s.Bytes()) {
				t.Errorf("%s: %v: heard\n%s\nbut published is\n%s", s.File, err, s.Bytes(), published)
			}
			heard[s.File+" "+s.Outcome]++
		}
		poll := func(want map[string]int) []report.Summary {
			t.Helper()
			clear(heard)
			summaries, err := w.Poll(t.Context())
			if err != nil || !maps.Equal(heard, want) {
				t.Errorf("%v, heard of %v, want %v", err, heard, want)
			}
			return summaries
		}
		r.drop(t, "good.csv", manyBills(0, 3, 3))
		r.drop(t, "mixed.csv", manyBills(10, 3, 3)+"INV-9,abc,A,C,N\n")
		r.drop(t, "bad.csv", "nothing\n1\n")
		poll(map[string]int{"good.csv completed": 1, "mixed.csv completed_with_errors": 1, "bad.csv rejected": 1})
		poll(map[string]int{})

		r.feed.Hold.MaxRows = 1
		r.drop(t, "held.csv", manyBills(20, 3, 3))
		s := poll(map[string]int{"held.csv held": 1})
		poll(map[string]int{})
		if _, err := Approve(t.Context(), w.Ledger, s[0].FileID); err != nil {
			t.Fatal(err)
		}
		poll(map[string]int{"held.csv completed": 1})

		f, err := w.Ledger.File(t.Context(), s[0].FileID)
		if err != nil {
			t.Fatal(err)
		}
		f.State = ledger.Published
		if err := w.Ledger.SaveFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		poll(map[string]int{"held.csv completed": 1})
	})
}

// A clean run is one POST a bill and not one GET, and each party is created once, also over
// several files at once. The same content again costs no request.
func TestCleanRun(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "one.csv", manyBills(0, 400, 300))
		r.drop(t, "two.csv", manyBills(400, 400, 300))
		r.drop(t, "three.csv", manyBills(800, 200, 200))
		customers, accounts := 0, 0
		for _, s := range r.poll(t) {
			if s.Outcome != ledger.Completed {
				t.Errorf("%s: %s %s", s.File, s.Outcome, s.Detail)
			}
			customers += s.Parties.Customers
			accounts += s.Parties.Accounts
		}
		state := r.api.State()
		if state.Posts != 1000 || state.Gets != 0 || len(state.Bills) != 1000 {
			t.Errorf("%d POSTs, %d GETs, %d bills; want 1000, 0, 1000", state.Posts, state.Gets, len(state.Bills))
		}
		if len(state.Customers) != 300 || len(state.Accounts) != 300 || customers != 300 || accounts != 300 {
			t.Errorf("%d customers, %d accounts, reported %d and %d; want 300 of each", len(state.Customers), len(state.Accounts), customers, accounts)
		}

		r.drop(t, "one.csv", manyBills(0, 400, 300))
		again := r.poll(t)
		if len(again) != 1 || r.statuses(t, again[0])["existing"] != 400 {
			t.Errorf("the same again: %+v", again)
		}
		if state := r.api.State(); state.Posts != 1000 || state.Gets != 0 {
			t.Errorf("the same again: %d POSTs and %d GETs more", state.Posts-1000, state.Gets)
		}
		if !strings.HasSuffix(again[0].Stem, "-2") {
			t.Errorf("stem of the second delivery: %s", again[0].Stem)
		}
	})
}

// A ledger that was restored from a backup has a file under way that was archived meanwhile:
// it is found there by its hash, under either name. What was published meanwhile is kept.
func TestRestoredLedger(t *testing.T) {
	for _, name := range []string{"a.csv", "STEM.csv"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, id := heldWorld(t, 1)
				if _, err := Approve(t.Context(), w.ledger, id); err != nil {
					t.Fatal(err)
				}
				backup, err := w.ledger.File(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				rests := "/archive/" + strings.Replace(name, "STEM", backup.Stem, 1)
				if rests != "/archive/a.csv" {
					w.files.put("/archive/a.csv", []byte("another file of this name\n"))
				}
				if err := w.run(t); err != nil {
					t.Fatal(err)
				}
				if _, ok := w.files.files[rests]; !ok {
					t.Fatalf("the archive has %v", w.files.in("/archive"))
				}
				want := w.files.files["/results/"+report.NamesOf(backup.Stem).Results].content
				if err := w.ledger.SaveFile(t.Context(), backup); err != nil {
					t.Fatal(err)
				}
				err = w.run(t)
				if err == nil || !strings.Contains(err.Error(), backup.Stem+".summary.json exists in /results") {
					t.Errorf("err = %v", err)
				}
				// The operator keeps the true summary elsewhere.
				w.files.remove("/results/" + report.NamesOf(backup.Stem).Summary)
				if err := w.run(t); err != nil {
					t.Fatal(err)
				}
				f, err := w.ledger.File(t.Context(), id)
				if err != nil || f.State != ledger.Done || f.Path != rests {
					t.Errorf("%+v, %v", f, err)
				}
				if got := w.files.files["/results/"+report.NamesOf(backup.Stem).Results].content; !bytes.Equal(got, want) {
					t.Errorf("the results say\n%s\nand before\n%s", got, want)
				}
			})
		})
	}
}
