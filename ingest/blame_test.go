package ingest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
)

// Tests of who is blamed: the row, the set-up or the API.

// bubble runs a test in a world with one file and a scripted API, in its own time.
func bubble(t *testing.T, content string, script func(emulator.Call) emulator.Fault, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simConfig{Seed: 1})
		delete(w.files.files, "/inbox/b.csv")
		w.files.put("/inbox/a.csv", []byte(content))
		w.script = script
		test(t, w)
	})
}

func customerRows(n int) string {
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,customer_id\n")
	for i := range n {
		fmt.Fprintf(&b, "ROW-%d,%d,bcus_%d\n", i, 100+i, i)
	}
	return b.String()
}

func refused(status int) emulator.Fault {
	return emulator.Fault{Status: status, Problem: emulator.Problem{Type: "about:blank", Title: "no", Detail: "no"}}
}

// The same answer to every row is the set-up's fault, and nobody is blamed; rows without an answer to compare with are on their own.
func TestFirstAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		rows    int
		status  int
		nested  bool
		stopped bool
	}{
		{"400 to one row", 1, 400, false, false},
		{"400 to four rows", 4, 400, false, false},
		{"400 to five rows", 5, 400, false, true},
		{"404 to 200 rows", 200, 404, false, true},
		{"404 to one row that names no id", 1, 404, true, true},
		{"404 to one row that names an id", 1, 404, false, false},
		{"405 to 20 rows", 20, 405, false, true},
		{"422 to 20 rows", 20, 422, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := customerRows(c.rows)
			if c.nested {
				content = strings.NewReplacer("customer_id", "customer_reference").Replace(content)
			}
			all := func(call emulator.Call) emulator.Fault {
				if call.Method == "GET" {
					return emulator.Fault{}
				}
				return refused(c.status)
			}
			bubble(t, content, all, func(t *testing.T, w *world) {
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if c.stopped {
					if !errors.Is(err, delivery.ErrSetup) || len(summaries) != 0 || len(w.files.in("/processing")) != 1 {
						t.Errorf("err %v, %d summaries, processing %v", err, len(summaries), w.files.in("/processing"))
					}
					return
				}
				if err != nil || summaries[0].Rows.By[ledger.Rejected] != c.rows {
					t.Errorf("err %v, %+v", err, summaries)
				}
			})
		})
	}
}

// Five rows that are refused fast do not condemn a set-up in which others are being created.
func TestFirstAnswersAwaitOthers(t *testing.T) {
	script := func(c emulator.Call) emulator.Fault {
		if strings.HasPrefix(c.Reference, "ROW-") && c.Method == "POST" && len(c.Reference) == 5 {
			return refused(400)
		}
		return emulator.Fault{Delay: 100 * time.Millisecond}
	}
	content := strings.NewReplacer("customer_id", "customer_reference").Replace(customerRows(40))
	bubble(t, content, script, func(t *testing.T, w *world) {
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if by := summaries[0].Rows.By; by[ledger.Rejected] != 10 || by[ledger.Created] != 30 {
			t.Errorf("rows: %v", by)
		}
	})
}

// What was heard for one file holds for the run: a file of rows that are refused alike is no longer the set-up's fault.
func TestFirstAnswersHoldForTheRun(t *testing.T) {
	script := func(c emulator.Call) emulator.Fault {
		if strings.HasPrefix(c.Reference, "ROW-") && c.Method == "POST" {
			return refused(404)
		}
		return emulator.Fault{}
	}
	bubble(t, simBills, script, func(t *testing.T, w *world) {
		w.files.put("/inbox/z.csv", []byte(customerRows(8)))
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil || len(summaries) != 2 || summaries[1].Rows.By[ledger.Rejected] != 8 {
			t.Errorf("err %v, %+v", err, summaries)
		}
	})
}

// Rows that keep failing while the API answers others end as failed, however many they are; they are no outage.
func TestStubbornRows(t *testing.T) {
	type stubborn struct {
		rows, most int
		fault      emulator.Fault
	}
	// A 503 that comes among good answers uses up no attempt, nine times at most.
	for _, s := range []stubborn{
		{1, 6, emulator.Fault{Status: 500}}, {3, 6, emulator.Fault{Status: 500}}, {40, 6, emulator.Fault{Status: 500}},
		{1, 15, emulator.Fault{Status: 503}}, {3, 15, emulator.Fault{Status: 503}}, {40, 15, emulator.Fault{Status: 503}},
		{40, 15, emulator.Fault{Status: 502, RetryAfter: "2"}},
	} {
		rows := s.rows
		t.Run(fmt.Sprint(rows, " rows, ", s.fault.Status), func(t *testing.T) {
			bad := min(rows, 7)
			script := func(c emulator.Call) emulator.Fault {
				if c.Method == "POST" && len(c.Reference) == 5 && c.Reference < fmt.Sprint("ROW-", bad) {
					return s.fault
				}
				return emulator.Fault{}
			}
			content := strings.NewReplacer("customer_id", "customer_reference").Replace(customerRows(rows))
			bubble(t, content, script, func(t *testing.T, w *world) {
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if by := summaries[0].Rows.By; by[ledger.Failed] != bad || by[ledger.Created] != rows-bad {
					t.Errorf("rows: %v", by)
				}
				for ref, n := range w.api.State().PostsByReference {
					if n > s.most {
						t.Errorf("%s was sent %d times", ref, n)
					}
				}
			})
		})
	}
}

// An API that fails for everybody stops the run, however few rows there are, and none is blamed.
func TestDownForGood(t *testing.T) {
	for _, fault := range []emulator.Fault{{Status: 503}, {Status: 503, RetryAfter: "30"}, {Status: 429}, {Drop: true}, {}, {Status: 404, Body: "<html>gone</html>"}} {
		for _, rows := range []int{1, 40} {
			bubble(t, customerRows(rows), func(emulator.Call) emulator.Fault { return fault }, func(t *testing.T, w *world) {
				if fault == (emulator.Fault{}) {
					w.client = w.severed // nobody listens
				}
				summaries, err := w.worker(t, alive()).Poll(t.Context())
				if !errors.Is(err, delivery.ErrStopped) || len(summaries) != 0 || len(w.files.in("/processing")) != 1 {
					t.Errorf("%+v, %d rows: err %v, %d summaries", fault, rows, err, len(summaries))
				}
			})
		}
	}
}

// An answer about another bill stops the run at once.
func TestAnotherBill(t *testing.T) {
	posts := 0
	script := func(c emulator.Call) emulator.Fault {
		if c.Method == "POST" {
			posts++
			return emulator.Fault{Status: 201, Body: `{"id":"bill_x","external_reference":"OTHER"}`, ContentType: "application/json"}
		}
		return emulator.Fault{}
	}
	bubble(t, customerRows(500), script, func(t *testing.T, w *world) {
		_, err := w.worker(t, alive()).Poll(t.Context())
		if !errors.Is(err, delivery.ErrSetup) || posts > 8 {
			t.Errorf("err %v after %d POSTs", err, posts)
		}
	})
}

// A 201 about the right reference but other money, or a voided bill, is no bill of the row's: somebody has to look.
func TestOther201(t *testing.T) {
	for name, body := range map[string]string{
		"amount":   `{"id":"bill_1","external_reference":"ROW-0","customer_id":"bcus_0","currency":"ZAR","amount_due":5,"status":"unpaid"}`,
		"currency": `{"id":"bill_1","external_reference":"ROW-0","customer_id":"bcus_0","currency":"USD","amount_due":100,"status":"unpaid"}`,
		"status":   `{"id":"bill_1","external_reference":"ROW-0","customer_id":"bcus_0","currency":"ZAR","amount_due":100,"status":"voided"}`,
		"":         `{"id":"bill_1","external_reference":"ROW-0","customer_id":"bcus_0"}`,
	} {
		bubble(t, customerRows(1), func(c emulator.Call) emulator.Fault {
			return emulator.Fault{Status: 201, Body: body, ContentType: "application/json"}
		}, func(t *testing.T, w *world) {
			summaries, err := w.worker(t, alive()).Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rows, err := w.results(report.NamesOf(summaries[0].Stem).Results)
			want := "conflict"
			if name == "" {
				want = "created"
			}
			if err != nil || rows[0].status != want {
				t.Errorf("another %s: %v, %v, want %s", name, rows, err, want)
			}
		})
	}
}

// An answer that the API has stored says nothing of today's set-up: once that is mended, the rows go through.
func TestStoredRefusalsOfAMendedSetup(t *testing.T) {
	wrong := true
	script := func(c emulator.Call) emulator.Fault {
		if wrong && c.Method == "POST" {
			f := refused(400)
			f.Store = true
			return f
		}
		return emulator.Fault{}
	}
	content := strings.NewReplacer("customer_id", "customer_reference").Replace(customerRows(12))
	bubble(t, content, script, func(t *testing.T, w *world) {
		if _, err := w.worker(t, alive()).Poll(t.Context()); !errors.Is(err, delivery.ErrSetup) {
			t.Fatal(err)
		}
		wrong = false
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil || summaries[0].Rows.By[ledger.Created] != 12 {
			t.Errorf("err %v, %+v", err, summaries)
		}
	})
}

// Two outages with a good answer between them are outages, and use no row up.
func TestTwoOutages(t *testing.T) {
	for _, rows := range []int{6, 10, 30} {
		posts := 0
		script := func(c emulator.Call) emulator.Fault {
			if c.Method == "POST" {
				posts++
			}
			if posts == rows+3 && c.Method == "POST" {
				return emulator.Fault{}
			}
			return emulator.Fault{Status: 503}
		}
		content := strings.NewReplacer("customer_id", "customer_reference").Replace(customerRows(rows))
		bubble(t, content, script, func(t *testing.T, w *world) {
			summaries, err := w.worker(t, alive()).Poll(t.Context())
			if !errors.Is(err, delivery.ErrStopped) || len(summaries) != 0 {
				t.Errorf("%d rows: err %v, %+v", rows, err, summaries)
			}
		})
	}
}

// Two rows of one reference in two feeds, both refused: the second waits for the first, and neither for ever.
func TestRefusedInTwoFeeds(t *testing.T) {
	bubble(t, customerRows(1), func(c emulator.Call) emulator.Fault {
		if c.Method == "POST" {
			return refused(400)
		}
		return emulator.Fault{}
	}, func(t *testing.T, w *world) {
		w.files.put("/inbox2/a.csv", []byte(customerRows(1)))
		worker := w.worker(t, alive())
		second := *worker.Feeds[0]
		second.Name = "second"
		second.Dirs = Dirs{Inbox: "/inbox2", Processing: "/processing2", Archive: "/archive2", Rejected: "/rejected2", Results: "/results2"}
		both, err := New(Options{Ledger: worker.Ledger, Spool: w.spool, Feeds: []*Feed{worker.Feeds[0], &second}, Log: worker.Log})
		if err != nil {
			t.Fatal(err)
		}
		summaries, err := both.Poll(t.Context())
		if err != nil || len(summaries) != 2 || summaries[0].Rows.By[ledger.Rejected] != 1 || summaries[1].Rows.By[ledger.Rejected] != 1 {
			t.Errorf("err %v, %+v", err, summaries)
		}
	})
}

// A file that is under way is not read in another way: a row that was sent must not turn into an invalid one.
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

// A claimed file that is gone before it was read blocks nobody; one that was written to after an interrupted claim is not
// lost from sight.
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

// claimOnly leaves a file as a kill does right after the rename of its claim.
func (r *rig) claimOnly(t *testing.T, content string) {
	t.Helper()
	r.drop(t, "a.csv", content)
	from, to := filepath.Join(r.root, "inbox", "a.csv"), filepath.Join(r.root, "processing", "a.csv")
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	led, err := sqlite.Open(t.Context(), filepath.Join(r.base, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer led.Close()
	f := &ledger.File{
		ID: newID(time.Now()), Feed: "bills", Scope: r.lane.Scope(), Origin: ledger.FromInbox, Name: "a.csv", State: ledger.Claiming,
		Path: r.feed.Dirs.Processing + "/a.csv", Results: r.feed.Dirs.Results, Size: info.Size(), ModTime: info.ModTime(), Received: time.Now(),
	}
	if err := led.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
