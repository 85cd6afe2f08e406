package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// fill records a finished file of three rows, one of them sent three times, and one that was
// pruned.
func fill(t *testing.T, l ledger.Ledger) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 11, 23, 6, 30, 0, 123456000, time.UTC)
	send := func(file, reference string, row, sends int) {
		b := &ledger.Bill{Reference: reference, Send: ledger.Send{File: file, Row: row, Generation: 1, Key: "key of " + reference, KeyFirstUsed: at, At: at}}
		for n := range sends {
			b.Send.Count, b.Send.At = n+1, at.Add(time.Duration(n)*time.Minute)
			check(l.Begin(t.Context(), scope, b))
			b.Doubt, b.Send.Answer, b.Send.Unanswered = true, fmt.Sprint("timeout ", n), true
			check(l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b}))
		}
		b.State, b.Doubt, b.Send.Answer, b.Observed = ledger.Exists, false, "201", ledger.Observed{BillID: "bill_" + reference, Currency: "ZAR", Amount: 2000}
		check(l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b, File: file, Parties: []ledger.Party{{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: reference}, ID: "bcus_" + reference}},
			Outcome: &ledger.Outcome{Row: row, Line: row + 1, Reference: reference, Status: ledger.Created, BillID: b.Observed.BillID, Currency: "ZAR", Amount: 2000, Attempts: sends}}))
	}
	check(l.AddFile(t.Context(), &ledger.File{ID: "pruned", Scope: scope, State: ledger.Done}))
	send("pruned", "P1", 1, 2)
	_, err := l.Prune(t.Context(), "pruned")
	check(err)
	done := &ledger.File{ID: "done", Name: "november.csv", Scope: scope, State: ledger.Sending, Received: at, RowsRead: true, Rows: 3, Machine: "here"}
	check(l.AddFile(t.Context(), done))
	send("done", "R1", 1, 1)
	send("done", "R2", 2, 1)
	send("done", "thrice", 3, 3)
	sums, err := l.Totals(t.Context(), "done")
	check(err)
	done.State, done.Sums = ledger.Done, &sums
	check(l.SaveFile(t.Context(), done))
	check(l.SetBaseURL(t.Context(), scope, "https://api.example.com"))
	check(l.SaveLinks(t.Context(), scope, []ledger.Link{{Reference: "R1", BillID: "bill_R1", State: ledger.LinkMade, Key: "k", KeyFirstUsed: at,
		ExpiresAt: at.Add(time.Hour), Body: ledger.DigestOf([]byte("body")), Answer: "201", RequestID: "pr_1", URL: "https://pay.example/1"}}))
}

// verified returns what Verify finds, each as one line.
func verified(t *testing.T, path string) []string {
	t.Helper()
	l, err := sqlite.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, found, err := ledger.Verify(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, fmt.Sprintf("%s %s: %s", f.Table, f.Row, f.What))
	}
	return lines
}

// change changes a ledger as another program may.
func change(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVerify: a row that was changed or removed by hand is named.
func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path)
	fill(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if found := verified(t, path); len(found) > 0 {
		t.Errorf("a ledger as it was recorded: %v", found)
	}
	// Sums that are not there yet, as in a ledger of an older billdrop.
	change(t, path, "UPDATE bills SET sum = 0, send_sum = 0; UPDATE attempts SET sum = 0; UPDATE outcomes SET sum = 0; DROP VIEW link; DROP TABLE links; ALTER TABLE files DROP COLUMN link_posts; ALTER TABLE files DROP COLUMN link_retries; DELETE FROM goose_db_version WHERE version_id >= 3")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if found := verified(t, path); len(found) > 0 {
		t.Errorf("an older ledger: %v", found)
	}
	l = open(t, path)
	if err := l.SaveLinks(t.Context(), scope, []ledger.Link{{Reference: "R1", State: ledger.LinkMade, URL: "https://pay.example/1"}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ change, want string }{
		{"UPDATE links SET url = 'https://thief.example/1'", "link of bill R1 (merchant acme, test): changed"},
		{"UPDATE bills SET amount_due = 1 WHERE reference = 'R1'", "bill R1 (merchant acme, test): changed"},
		{"UPDATE outcomes SET status = 2 WHERE reference = 'thrice'", "outcome line 4 of file done, bill thrice: changed"},
		{"DELETE FROM outcomes WHERE reference = 'R2'", "outcome row 2 of file done (november.csv), bill R2: missing"},
		{"UPDATE attempts SET answer = '201' WHERE answer = 'timeout 0'", "attempt of bill thrice (merchant acme, test) at 2026-11-23T06:30:00Z: changed"},
		{"DELETE FROM attempts WHERE answer = 'timeout 1'", "attempt 1 of bill thrice (merchant acme, test): missing"},
		{"DELETE FROM bills WHERE reference = 'P1'", "bill 1 of which no outcome is left: missing"},
		{"DELETE FROM bills WHERE reference = 'R1'", "bill R1 (merchant acme, test): missing"},
	} {
		before := verified(t, path)
		change(t, path, c.change)
		if after := verified(t, path); !slices.Contains(after, c.want) || slices.Contains(before, c.want) {
			t.Errorf("%s\nfound %q\nbefore %q\nwant %q more", c.change, after, before, c.want)
		}
	}
}

// TestUnfinishedCopy: a ledger into which a copy was cut short is refused, one that is not
// empty is no target.
func TestUnfinishedCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path)
	stopped := errors.New("stopped")
	if err := l.Import(t.Context(), func(func(ledger.Row) error) error { return stopped }); !errors.Is(err, stopped) {
		t.Errorf("Import that was stopped: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, ledger.ErrUnusable) || !strings.Contains(sqlite.Printed(err), "a copy into this ledger did not finish\nhint: drop it") {
		t.Errorf("Open after a copy that did not finish: %s", sqlite.Printed(err))
	}
	if _, err := sqlite.OpenReadOnly(t.Context(), path); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("OpenReadOnly after a copy that did not finish: %v", err)
	}
	used := open(t, filepath.Join(t.TempDir(), "ledger.db"))
	defer used.Close()
	fill(t, used)
	if err := used.Import(t.Context(), nil); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("Import into a ledger that holds something: %v", err)
	}
}
