package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
	"billdrop/ingest/ledger/sqlite"
)

// fill records something of each kind: a finished file of five rows, one of them sent three
// times, a file under way, and one that was pruned.
func fill(t *testing.T, l ledger.Ledger) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 11, 23, 6, 30, 0, 123456000, time.UTC)
	done := &ledger.File{ID: "done", Name: "november.csv", Stem: "november", Results: "/results", Scope: scope, State: ledger.Sending, Received: at, RowsRead: true, Rows: 5}
	check(l.AddFile(t.Context(), done))
	check(l.AddFile(t.Context(), &ledger.File{ID: "sending", Name: "odd \xff name", Scope: ledger.Scope{Merchant: "other", Mode: "live"}, State: ledger.Sending, Received: at.Add(time.Hour)}))
	pruned := &ledger.File{ID: "pruned", Scope: scope, State: ledger.Done}
	check(l.AddFile(t.Context(), pruned))
	check(l.SetBaseURL(t.Context(), scope, "https://api.example.com"))
	check(l.SaveLinks(t.Context(), scope, []ledger.Link{{Reference: "R1", BillID: "bill_R1", State: ledger.LinkMade, Key: "00000000-0000-8000-8000-000000000001",
		KeyFirstUsed: at, ExpiresAt: at.Add(time.Hour), Body: ledger.DigestOf([]byte("body")), Answer: "201", RequestID: "pr_1", URL: "https://pay.example/1"}}))
	check(sendRow(t.Context(), l, "pruned", "P1", 1))
	_, err := l.Prune(t.Context(), "pruned")
	check(err)
	for row := range 4 {
		check(sendRow(t.Context(), l, "done", fmt.Sprint("R", row+1), row+1))
	}
	b := newBill("thrice", "done", 5)
	for n := range 3 {
		b.Send.Count, b.Send.At = n+1, at.Add(time.Duration(n)*time.Minute)
		check(l.Begin(t.Context(), scope, b))
		b.Doubt, b.Send.Answer, b.Send.Unanswered = true, fmt.Sprint("timeout ", n), true
		check(l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b}))
	}
	check(l.Record(t.Context(), ledger.Entry{File: "done", Outcome: &ledger.Outcome{Row: 5, Line: 6, Reference: "thrice", Status: ledger.Unknown, Attempts: 3}}))
	check(l.Begin(t.Context(), ledger.Scope{Merchant: "other", Mode: "live"}, newBill("R1", "sending", 1)))
	sums, err := l.Totals(t.Context(), "done")
	check(err)
	done.State, done.Sums, done.Finished = ledger.Done, &sums, at.Add(time.Hour)
	done.Published = ledger.Reports{Results: "aa", Summary: "bb"}
	check(l.SaveFile(t.Context(), done))
	check(l.Flush(t.Context()))
}

// sameLedgers fails t unless two ledgers answer the same.
func sameLedgers(t *testing.T, want, got ledger.Ledger) {
	t.Helper()
	opts := cmp.Options{cmpopts.IgnoreFields(ledger.Bill{}, "Revision"), cmpopts.IgnoreFields(ledger.File{}, "Revision")}
	for what, ask := range map[string]func(ledger.Ledger) (any, error){
		"files":    func(l ledger.Ledger) (any, error) { return l.Files(t.Context(), ledger.Query{}) },
		"history":  func(l ledger.Ledger) (any, error) { return l.History(t.Context(), scope, "thrice") },
		"outcomes": func(l ledger.Ledger) (any, error) { return l.Outcomes(t.Context(), "done", 0, 99) },
		"totals":   func(l ledger.Ledger) (any, error) { return l.Totals(t.Context(), "done") },
		"base URL": func(l ledger.Ledger) (any, error) { return l.BaseURL(t.Context(), scope) },
		"bills":    func(l ledger.Ledger) (any, error) { return l.Bills(t.Context(), scope, []string{"R1", "P1", "thrice"}) },
		"links":    func(l ledger.Ledger) (any, error) { return l.Links(t.Context(), scope, []string{"R1"}) },
		"parties": func(l ledger.Ledger) (any, error) {
			return l.Parties(t.Context(), scope, []ledger.PartyRef{{Kind: ledger.Customer, Reference: "R1"}, {Kind: ledger.Account, Reference: "P1"}})
		},
	} {
		a, err := ask(want)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		b, err := ask(got)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := cmp.Diff(a, b, opts); d != "" {
			t.Errorf("%s of the copy (-want +got):\n%s", what, d)
		}
	}
}

// verified returns what Verify finds, each as one line.
func verified(t *testing.T, s ledger.Store) []string {
	t.Helper()
	_, found, err := ledger.Verify(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, fmt.Sprintf("%s %s: %s", f.Table, f.Row, f.What))
	}
	return lines
}

// TestCopy: a copy answers what the ledger answers, and is verified like it.
func TestCopy(t *testing.T) {
	server := pgtest.Start(t)
	from, to := open(t, server.Database(t)), open(t, server.Database(t))
	t.Cleanup(func() { from.Close() })
	t.Cleanup(func() { to.Close() })
	join(t, from)
	fill(t, from)
	if _, err := ledger.Copy(t.Context(), from, to); !errors.Is(err, ledger.ErrInUse) {
		t.Errorf("Copy beside a worker: %v, want ErrInUse", err)
	}
	if err := from.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts, err := ledger.Copy(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	if want := (ledger.Counts{Files: 2, Bills: 7, Outcomes: 5, Attempts: 2, Parties: 10, Links: 1, Scopes: 2, Totals: 1}); counts != want {
		t.Errorf("copied %+v, want %+v", counts, want)
	}
	sameLedgers(t, from, to)
	for name, l := range map[string]*postgres.Ledger{"ledger": from, "copy": to} {
		if found := verified(t, l); len(found) > 0 {
			t.Errorf("the %s is not as it was recorded: %v", name, found)
		}
	}
	if _, err := ledger.Copy(t.Context(), from, to); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("Copy into a ledger that holds something: %v, want ErrExists", err)
	}
	// The copy goes on where the ledger was.
	join(t, to)
	b, err := to.Bills(t.Context(), scope, []string{"thrice"})
	if err != nil {
		t.Fatal(err)
	}
	again := b["thrice"]
	again.Send.Count, again.Send.Answer = 4, ""
	if err := to.Begin(t.Context(), scope, again); err != nil {
		t.Errorf("Begin in the copy: %v", err)
	}
	if found := verified(t, to); len(found) > 0 {
		t.Errorf("the copy in use is not as it was recorded: %v", found)
	}
}

// stopping is a Store whose export ends in the middle.
type stopping struct{ *postgres.Ledger }

var errStopped = errors.New("stopped")

func (s stopping) Export(ctx context.Context, put func(ledger.Row) error) error {
	rows := 0
	return s.Ledger.Export(ctx, func(r ledger.Row) error {
		if rows++; rows > 5 {
			return errStopped
		}
		return put(r)
	})
}

// TestUnfinishedCopy: a ledger into which a copy was cut short is refused.
func TestUnfinishedCopy(t *testing.T) {
	server := pgtest.Start(t)
	target := server.Database(t)
	from, to := open(t, server.Database(t)), open(t, target)
	t.Cleanup(func() { from.Close() })
	t.Cleanup(func() { to.Close() })
	join(t, from)
	fill(t, from)
	if err := from.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Copy(t.Context(), stopping{from}, to); !errors.Is(err, errStopped) {
		t.Fatalf("Copy that was stopped: %v", err)
	}
	_, err := postgres.Open(t.Context(), target, postgres.Options{})
	if text := printed(err); !errors.Is(err, ledger.ErrUnusable) || !strings.Contains(text, "a copy into this ledger did not finish") || !strings.Contains(text, "hint: drop it") {
		t.Errorf("Open after a copy that did not finish: %s", text)
	}
	if err := to.Join(t.Context(), ledger.Member{Name: "x", LostAfter: time.Minute}); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("Join after a copy that did not finish: %v", err)
	}
}

// TestVerify: a row that was changed or removed by hand is named.
func TestVerify(t *testing.T) {
	server := pgtest.Start(t)
	l := open(t, server.Database(t))
	t.Cleanup(func() { l.Close() })
	join(t, l)
	fill(t, l)
	for _, c := range []struct{ change, want string }{
		{"UPDATE bills SET amount_due = 1 WHERE reference = 'R1' AND file = (SELECT number FROM file_numbers WHERE id = 'done')", "bill R1 (merchant acme, test): changed"},
		{"UPDATE bills SET answer = '202' WHERE reference = 'R2'", "bill R2 (merchant acme, test): changed"},
		{"UPDATE outcomes SET status = 1 WHERE reference = 'thrice'", "outcome line 6 of file done, bill thrice: changed"},
		{"DELETE FROM outcomes WHERE reference = 'R3'", "outcome row 3 of file done (november.csv), bill R3: missing"},
		{"UPDATE attempts SET answer = '201' WHERE answer = 'timeout 0'", "attempt of bill thrice (merchant acme, test) at 2026-11-23T06:30:00Z: changed"},
		{"DELETE FROM attempts WHERE answer = 'timeout 1'", "attempt 1 of bill thrice (merchant acme, test): missing"},
		{"DELETE FROM bills WHERE reference = 'R4'", "bill R4 (merchant acme, test): missing"},
		{"DELETE FROM bills WHERE reference = 'P1'", "bill 1 of which no outcome is left: missing"},
	} {
		before := verified(t, l)
		server.Query(t, "ledger_1", c.change)
		after := verified(t, l)
		if !slices.Contains(after, c.want) || slices.Contains(before, c.want) || len(after) != len(before)+1 {
			t.Errorf("%s\nfound %q\nbefore %q\nwant %q more", c.change, after, before, c.want)
		}
	}
}

// TestCopyBetweenEngines: a ledger goes from SQLite to PostgreSQL and back whole.
func TestCopyBetweenEngines(t *testing.T) {
	server := pgtest.Start(t)
	openFile := func() *sqlite.Ledger {
		l, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	first, last, middle := openFile(), openFile(), open(t, server.Database(t))
	t.Cleanup(func() { middle.Close() })
	fill(t, first)
	for _, c := range []struct{ from, to ledger.Store }{{first, middle}, {middle, last}} {
		if _, err := ledger.Copy(t.Context(), c.from, c.to); err != nil {
			t.Fatal(err)
		}
		sameLedgers(t, c.from.(ledger.Ledger), c.to.(ledger.Ledger))
		if found := verified(t, c.to); len(found) > 0 {
			t.Errorf("the copy is not as it was recorded: %v", found)
		}
	}
}
