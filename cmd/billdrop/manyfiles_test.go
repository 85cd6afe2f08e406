package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/watch"
)

// BenchmarkStatus lists the newest of 10,000 files, and all of them, with what is expected: what `billdrop status` does but for
// starting, reading its configuration and opening the ledger.
func BenchmarkStatus(b *testing.B) {
	const files, rows = 10_000, 20
	path := filepath.Join(b.TempDir(), "ledger.db")
	fillLedger(b, path, files, rows)
	led, err := sqlite.OpenReadOnly(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	defer led.Close()
	expected := []expectation{{"bills", &watch.Expect{Pattern: "none-*.csv", By: 6 * time.Hour, Zone: time.UTC}}}
	for _, output := range []string{"text", "json"} {
		b.Run(output, func(b *testing.B) {
			s := &session{Globals: Globals{Output: output}, stdout: io.Discard, screen: &console{w: io.Discard}}
			for b.Loop() {
				if err := new(statusCmd).list(b.Context(), s, led, expected); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fillLedger makes a ledger of so many finished files, one an hour, with so many rows each.
func fillLedger(tb testing.TB, path string, files, rows int) {
	tb.Helper()
	led, err := sqlite.Open(tb.Context(), path)
	if err != nil {
		tb.Fatal(err)
	}
	var group errgroup.Group
	group.SetLimit(256) // that share a sync
	first := time.Now().Add(-time.Duration(files) * time.Hour)
	for i := range files {
		group.Go(func() error { return addDone(tb.Context(), led, i, rows, first.Add(time.Duration(i)*time.Hour)) })
	}
	if err := group.Wait(); err != nil {
		tb.Fatal(err)
	}
	if err := led.Close(); err != nil {
		tb.Fatal(err)
	}
}

func addDone(ctx context.Context, led ledger.Ledger, i, rows int, received time.Time) error {
	f := &ledger.File{
		ID: fmt.Sprintf("20260101-000000-%08x", i), Feed: "bills", Scope: ledger.Scope{Merchant: "acme", Mode: "test"}, Origin: ledger.FromInbox,
		Name: fmt.Sprintf("bills-%05d.csv", i), Path: fmt.Sprintf("/archive/bills-%05d.csv", i), Results: "/results", Stem: fmt.Sprintf("bills-%05d-%08x", i, i),
		SHA256: fmt.Sprintf("%064x", i), State: ledger.Done, Outcome: ledger.Completed, Rows: rows, RowsRead: true,
		Received: received, Started: received, Finished: received.Add(time.Minute),
		Sums: &ledger.Totals{
			Rows: map[ledger.Status]int{ledger.Created: rows}, Amounts: map[string]map[ledger.Status]int64{"ZAR": {ledger.Created: int64(1000 * rows)}},
			Attempts: rows,
		},
	}
	if err := led.AddFile(ctx, f); err != nil {
		return err
	}
	for row := range rows {
		o := ledger.Outcome{Row: row, Line: row + 2, Reference: fmt.Sprintf("INV-%05d-%03d", i, row), Status: ledger.Created, Currency: "ZAR", Amount: 1000, Attempts: 1}
		if err := led.Record(ctx, ledger.Entry{File: f.ID, Outcome: &o}); err != nil {
			return err
		}
	}
	return nil
}
