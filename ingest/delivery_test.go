package ingest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
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

// nestedRows are rows of new customers.
func nestedRows(n int) string {
	return strings.NewReplacer("customer_id", "customer_reference", "bcus_", "CUS-").Replace(customerRows(n))
}

func refused(status int) emulator.Fault {
	return emulator.Fault{Status: status, Problem: emulator.Problem{Type: "about:blank", Title: "no", Detail: "no"}}
}

// The same answer to every row is the set-up's fault, and no row is blamed. Rows without an
// answer to compare with are judged on their own.
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
				content = strings.NewReplacer("customer_id", "customer_reference", "bcus_", "CUS-").Replace(content)
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

// Five rows that are refused fast do not condemn a set-up in which others are being
// created.
func TestFirstAnswersAwaitOthers(t *testing.T) {
	script := func(c emulator.Call) emulator.Fault {
		if strings.HasPrefix(c.Reference, "ROW-") && c.Method == "POST" && len(c.Reference) == 5 {
			return refused(400)
		}
		return emulator.Fault{Delay: 100 * time.Millisecond}
	}
	content := nestedRows(40)
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

// What one file has shown holds for the run: rows of the next file that are refused alike
// are not the set-up's fault.
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

// Rows that keep failing while the API answers others end as failed, however many they are;
// they are no outage.
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
			content := nestedRows(rows)
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

// An API that fails for everybody stops the run, however few rows there are, and none is
// blamed.
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

// A 201 about the right reference but with another amount, or a voided bill, is not the
// row's bill and needs attention.
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

// An answer that the API has stored proves nothing about today's set-up: once that is
// mended, the rows go through.
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
	content := nestedRows(12)
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
		content := nestedRows(rows)
		bubble(t, content, script, func(t *testing.T, w *world) {
			summaries, err := w.worker(t, alive()).Poll(t.Context())
			if !errors.Is(err, delivery.ErrStopped) || len(summaries) != 0 {
				t.Errorf("%d rows: err %v, %+v", rows, err, summaries)
			}
		})
	}
}

// Two rows of one reference in two feeds, both refused: the second waits for the first, and
// neither for ever.
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
		second.Dirs = transfer.Dirs{Inbox: "/inbox2", Processing: "/processing2", Archive: "/archive2", Rejected: "/rejected2", Results: "/results2"}
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

func TestEditedAmountIsConflict(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "a.csv", manyBills(0, 10, 3))
		r.poll(t)
		r.drop(t, "a.csv", strings.Replace(manyBills(0, 10, 3), "INV-000004,104,", "INV-000004,999,", 1))
		s := r.poll(t)
		if got := r.statuses(t, s[0]); got["existing"] != 9 || got["conflict"] != 1 {
			t.Errorf("statuses: %v", got)
		}
		b, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s[0].Stem).Results))
		if err != nil || !strings.Contains(string(b), "amount_due: the bill has 104, this row 999") {
			t.Errorf("the conflict does not name both amounts: %v\n%s", err, b)
		}
		if state := r.api.State(); state.Posts != 10 {
			t.Errorf("%d POSTs, want 10", state.Posts)
		}
	})
}

// Customers and accounts that the API holds already are used, whether the API refuses to
// create them again or uses them itself.
func TestPartiesThatExist(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "a.csv", manyBills(0, 30, 10))
		r.poll(t)
		if err := os.Remove(filepath.Join(r.base, "ledger.db")); err != nil { // another machine, which knows nothing
			t.Fatal(err)
		}
		r.drop(t, "b.csv", manyBills(100, 30, 10))
		s := r.poll(t)
		if got := r.statuses(t, s[0]); got["created"] != 30 {
			t.Errorf("statuses: %v", got)
		}
		state := r.api.State()
		if len(state.Customers) != 10 || len(state.Accounts) != 10 || len(state.Bills) != 60 {
			t.Errorf("%d customers, %d accounts, %d bills", len(state.Customers), len(state.Accounts), len(state.Bills))
		}
		if s[0].Parties != (report.Parties{}) {
			t.Errorf("parties reported as created: %+v", s[0].Parties)
		}
	})
}

func TestUnknownAccountAlone(t *testing.T) {
	onServers(t, func(t *testing.T, r *rig) {
		r.drop(t, "a.csv", "bill_reference,amount_due,account_reference\nINV-1,100,ACC-NONE\nINV-2,100,ACC-NONE\n")
		s := r.poll(t)
		if got := r.statuses(t, s[0]); got["rejected"] != 2 {
			t.Errorf("statuses: %v", got)
		}
		if state := r.api.State(); state.Posts != 0 {
			t.Errorf("%d POSTs", state.Posts)
		}
	})
}

// Different parties never wait for each other. A party whose first bill is slow, with more
// than a window of its rows behind it, does not hold up another.
func TestSlowPartyHoldsNobodyUp(t *testing.T) {
	const slow, others = 2048, 300 // as many as may wait in a file
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,customer_reference\n")
	for i := range slow {
		fmt.Fprintf(&b, "SLOW-%d,100,C-slow\n", i)
	}
	for i := range others {
		fmt.Fprintf(&b, "OTHER-%d,100,C-%d\n", i, i)
	}
	var mu sync.Mutex
	var begun, last time.Time // of the slow party, and of the others
	script := func(c emulator.Call) emulator.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.Reference == "SLOW-0" {
			begun = time.Now()
			return emulator.Fault{Delay: 25 * time.Second}
		}
		if strings.HasPrefix(c.Reference, "OTHER-") {
			last = time.Now()
		}
		return emulator.Fault{}
	}
	bubble(t, b.String(), script, func(t *testing.T, w *world) {
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := summaries[0].Rows.By[ledger.Created]; n != slow+others {
			t.Errorf("%d rows are created, want %d", n, slow+others)
		}
		if waited := last.Sub(begun); begun.IsZero() || waited > 20*time.Second {
			t.Errorf("the last of the others was sent %v after the first of the slow party", waited)
		}
	})
}
