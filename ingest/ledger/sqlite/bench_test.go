//go:build !windows

package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// BenchmarkLedger measures rows of a clean run: one Begin and one Record (bill, outcome, two new parties) each,
// from as many senders as the name says, with Bills and Parties asked for once a chunk.
func BenchmarkLedger(b *testing.B) {
	for _, senders := range []int{64, 256} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) { benchmark(b, senders) })
	}
}

func benchmark(b *testing.B, senders int) {
	l, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"))
	if err != nil {
		b.Fatal(err)
	}
	scope := ledger.Scope{Merchant: "acme", Mode: "test"}
	if err := l.AddFile(b.Context(), &ledger.File{ID: "file-1", Scope: scope, State: ledger.Sending}); err != nil {
		b.Fatal(err)
	}
	rows := make(chan int)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range senders {
		wg.Go(func() {
			for row := range rows {
				if err := cleanRow(b.Context(), l, scope, row); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	before := cpuTime(b)
	n := 0
	for b.Loop() {
		if n%256 == 0 {
			if err := lookAhead(b.Context(), l, scope, n); err != nil {
				b.Fatal(err)
			}
		}
		rows <- n
		n++
	}
	close(rows)
	wg.Wait()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(n), "cpu-ns/row")
}

// lookAhead is what the pipeline asks for each chunk of 256 rows.
func lookAhead(ctx context.Context, l *sqlite.Ledger, scope ledger.Scope, n int) error {
	refs := make([]string, 256)
	parties := make([]ledger.PartyRef, 0, 512)
	for i := range refs {
		refs[i] = reference(n + i)
		parties = append(parties, ledger.PartyRef{Kind: ledger.Customer, Reference: refs[i]}, ledger.PartyRef{Kind: ledger.Account, Reference: refs[i]})
	}
	if _, err := l.Bills(ctx, scope, refs); err != nil {
		return err
	}
	_, err := l.Parties(ctx, scope, parties)
	return err
}

func reference(row int) string { return fmt.Sprintf("INV-2026-%07d", row) }

func cleanRow(ctx context.Context, l *sqlite.Ledger, scope ledger.Scope, row int) error {
	ref := reference(row)
	digest := ledger.DigestOf([]byte(ref))
	now := time.Now()
	b := ledger.Bill{Reference: ref, Send: ledger.Send{
		File: "file-1", Row: row, Generation: 1, Form: ledger.FormNewAccountCustomer, Content: digest, Body: digest,
		Key: uuid.UUID(digest).String(), KeyFirstUsed: now, At: now, Count: 1,
	}}
	if err := l.Begin(ctx, scope, &b); err != nil {
		return err
	}
	b.State, b.Send.Answer = ledger.Exists, "201"
	b.Seen = ledger.Seen{
		BillID: "bill_" + ref, CustomerID: "bcus_" + ref, AccountID: "bacc_" + ref,
		Currency: "ZAR", Amount: 12345, BillDate: "2026-11-01", DueDate: "2026-11-30",
	}
	return l.Record(ctx, ledger.Entry{Scope: scope, Bill: &b, File: "file-1",
		Parties: []ledger.Party{
			{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: ref}, ID: b.Seen.CustomerID},
			{PartyRef: ledger.PartyRef{Kind: ledger.Account, Reference: ref}, ID: b.Seen.AccountID},
		},
		Outcome: &ledger.Outcome{Row: row, Line: row + 1, Reference: ref, Status: ledger.Created, BillID: b.Seen.BillID,
			CustomerID: b.Seen.CustomerID, AccountID: b.Seen.AccountID, Currency: "ZAR", Amount: 12345, Attempts: 1, Key: b.Send.Key},
	})
}

// cpuTime is what this process has used of all cores.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
