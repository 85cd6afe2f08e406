package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/ledger"
)

// TestFull: when the database cannot grow any more, the batch that met the end and every
// later call fail, and nothing of that batch is kept; with room again, the ledger has all
// that was acknowledged.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	scope := ledger.Scope{Merchant: "acme", Mode: "test"}
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope}); err != nil {
		t.Fatal(err)
	}
	// The writer rests: nothing is queued.
	if _, err := l.writer.conn.ExecContext(t.Context(), "PRAGMA max_page_count = 40"); err != nil {
		t.Fatal(err)
	}

	const senders, rows = 8, 1000
	var mu sync.Mutex
	begun := map[string]bool{}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for row := range rows {
				ref := fmt.Sprintf("sender-%d-row-%d", s, row)
				err := l.Begin(t.Context(), scope, &ledger.Bill{Reference: ref, Send: ledger.Send{File: "f", Row: row, Key: ref, Count: 1}})
				if err != nil {
					if !errors.Is(err, ledger.ErrUnusable) || !strings.Contains(Printed(err), "hint: make room") {
						t.Errorf("Begin on a full ledger: %s, want ErrUnusable and what to do", Printed(err))
					}
					return
				}
				mu.Lock()
				begun[ref] = true
				mu.Unlock()
			}
			t.Errorf("sender %d never met the end", s)
		})
	}
	wg.Wait()
	checkDead(t, l)

	if l, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := 0
	if err := l.read.QueryRowContext(t.Context(), "SELECT count(*) FROM bills").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != len(begun) || n == 0 {
		t.Errorf("%d bills are in the ledger, %d were acknowledged", n, len(begun))
	}
	for ref := range begun {
		if bills, err := l.Bills(t.Context(), scope, []string{ref}); err != nil || bills[ref] == nil {
			t.Fatalf("bill %s was begun and reads %v, %v", ref, bills, err)
		}
	}
	if err := l.Begin(t.Context(), scope, &ledger.Bill{Reference: "with room again"}); err != nil {
		t.Error(err)
	}
}

// checkDead: after a failed write, nothing succeeds any more; Close says why, and frees
// the lock.
func checkDead(t *testing.T, l *Ledger) {
	t.Helper()
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Begin":   func() error { return l.Begin(ctx, ledger.Scope{}, &ledger.Bill{}) },
		"Record":  func() error { return l.Record(ctx, ledger.Entry{}) },
		"Flush":   func() error { return l.Flush(ctx) },
		"AddFile": func() error { return l.AddFile(ctx, &ledger.File{ID: "g"}) },
		"Bills":   func() error { _, err := l.Bills(ctx, ledger.Scope{}, []string{"x"}); return err },
		"Totals":  func() error { _, err := l.Totals(ctx, "f"); return err },
	} {
		if err := call(); !errors.Is(err, ledger.ErrUnusable) {
			t.Errorf("%s after a failed write: %v, want ErrUnusable", name, err)
		}
	}
	if err := l.Close(); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("Close after a failed write: %v, want ErrUnusable", err)
	}
}

// TestFailedRecord: the next caller gets the failure of a Record, for which no caller
// waited.
func TestFailedRecord(t *testing.T) {
	l, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.writer.conn.ExecContext(t.Context(), "PRAGMA query_only = ON"); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(t.Context(), ledger.Entry{Bill: &ledger.Bill{Reference: "a"}}); err != nil {
		t.Fatalf("Record: %v", err)
	}
	if err := l.Flush(t.Context()); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("Flush: %v, want the Record's failure", err)
	}
	checkDead(t, l)
}

// TestErrorsNameNoPerson: what the engine says of a failed write is about the engine,
// never about a row.
func TestErrorsNameNoPerson(t *testing.T) {
	l, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.writer.conn.ExecContext(context.Background(), "PRAGMA query_only = ON"); err != nil {
		t.Fatal(err)
	}
	const id = "8001015009087"
	if err := l.Record(t.Context(), ledger.Entry{Parties: []ledger.Party{{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: id}, ID: "bcus_1"}}}); err != nil {
		t.Fatalf("Record: %v", err)
	}
	for _, err := range []error{l.Flush(t.Context()), l.Close()} {
		if err == nil || strings.Contains(err.Error(), id) {
			t.Errorf("error %v, want one without the reference", err)
		}
	}
}

// TestDurableSettings: what the promises rest on is what the writing connection has.
func TestDurableSettings(t *testing.T) {
	l, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for pragma, want := range map[string]string{
		"journal_mode":  "wal",
		"synchronous":   "2", // FULL
		"fullfsync":     "1",
		"secure_delete": "1",
	} {
		var got string
		if err := l.writer.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", pragma, got, err, want)
		}
	}
}

// TestSimulatedTime: a ledger can live in a bubble of simulated time, as the tests of
// what uses it do.
func TestSimulatedTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		scope := ledger.Scope{Merchant: "acme", Mode: "test"}
		b := &ledger.Bill{Reference: "A", Send: ledger.Send{File: "f", Row: 1, Key: "k", Count: 1, At: time.Now().UTC()}}
		if err := l.Begin(t.Context(), scope, b); err != nil {
			t.Error(err)
		}
		time.Sleep(30 * 24 * time.Hour)
		b.Send.Answer = "timeout"
		if err := l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b}); err != nil {
			t.Error(err)
		}
		bills, err := l.Bills(t.Context(), scope, []string{"A"})
		if err != nil || bills["A"] == nil || *bills["A"] != *b {
			t.Errorf("bill %+v, %v, want %+v", bills["A"], err, b)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
