//go:build !windows

package sqlite_test

import (
	"context"
	"fmt"
	"os"
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

// BenchmarkLedger measures rows of a clean run: one Begin and one Record (bill, outcome,
// two new parties) each, from as many senders as the name says, with Bills and Parties
// asked for once a chunk. Beside time and processor time it reports what a row takes on
// the disk.
func BenchmarkLedger(b *testing.B) {
	for _, senders := range []int{64, 512} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "ledger.db")
			l := openBench(b, path)
			before := cpuTime(b)
			n := 0
			send, wait := startSenders(b, l, senders)
			for b.Loop() {
				send(n)
				n++
			}
			wait()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(n), "cpu-ns/row")
			b.ReportMetric(float64(info.Size())/float64(n), "bytes/row")
		})
	}
}

// BenchmarkLookUps measures what the pipeline asks for each chunk of 256 rows, in a
// ledger that holds benchRows rows: all known, as when a file comes again, and all new.
func BenchmarkLookUps(b *testing.B) {
	const benchRows = 100_000
	l := openBench(b, filepath.Join(b.TempDir(), "ledger.db"))
	defer l.Close()
	send, wait := startSenders(b, l, 512)
	for row := range benchRows {
		send(row)
	}
	wait()
	for name, first := range map[string]int{"known": 0, "new": benchRows} {
		refs, parties := chunkAt(first)
		b.Run("bills/"+name, func(b *testing.B) {
			for row := 0; b.Loop(); row += chunk {
				refs, _ = chunkAt(first + row%(benchRows-chunk))
				if _, err := l.Bills(b.Context(), benchScope, refs); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("parties/"+name, func(b *testing.B) {
			for row := 0; b.Loop(); row += chunk {
				_, parties = chunkAt(first + row%(benchRows-chunk))
				if _, err := l.Parties(b.Context(), benchScope, parties); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const chunk = 256

var benchScope = ledger.Scope{Merchant: "acme", Mode: "test"}

func openBench(b *testing.B, path string) *sqlite.Ledger {
	b.Helper()
	l, err := sqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.AddFile(b.Context(), &ledger.File{ID: "file-1", Scope: benchScope, State: ledger.Sending}); err != nil {
		b.Fatal(err)
	}
	return l
}

// startSenders starts so many senders. send hands one of them a row; wait returns when
// all are done.
func startSenders(b *testing.B, l *sqlite.Ledger, senders int) (send func(row int), wait func()) {
	b.Helper()
	rows := make(chan int)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range senders {
		wg.Go(func() {
			for row := range rows {
				if err := cleanRow(b.Context(), l, benchScope, row); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	send = func(row int) {
		if row%chunk == 0 {
			if err := lookAhead(b.Context(), l, benchScope, row); err != nil {
				b.Fatal(err)
			}
		}
		rows <- row
	}
	wait = func() {
		close(rows)
		wg.Wait()
		if err := l.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := failed.Load(); err != nil {
			b.Fatal(*err)
		}
	}
	return send, wait
}

// lookAhead is what the pipeline asks for each chunk of rows.
func lookAhead(ctx context.Context, l *sqlite.Ledger, scope ledger.Scope, first int) error {
	refs, parties := chunkAt(first)
	if _, err := l.Bills(ctx, scope, refs); err != nil {
		return err
	}
	_, err := l.Parties(ctx, scope, parties)
	return err
}

// chunkAt returns the references of a chunk's bills and parties.
func chunkAt(first int) (refs []string, parties []ledger.PartyRef) {
	for row := range chunk {
		ref := reference(first + row)
		refs = append(refs, ref)
		parties = append(parties, ledger.PartyRef{Kind: ledger.Customer, Reference: ref}, ledger.PartyRef{Kind: ledger.Account, Reference: ref})
	}
	return refs, parties
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
	b.Observed = ledger.Observed{
		BillID: "bill_" + ref, CustomerID: "bcus_" + ref, AccountID: "bacc_" + ref,
		Currency: "ZAR", Amount: 12345, BillDate: "2026-11-01", DueDate: "2026-11-30",
	}
	return l.Record(ctx, ledger.Entry{Scope: scope, Bill: &b, File: "file-1",
		Parties: []ledger.Party{
			{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: ref}, ID: b.Observed.CustomerID},
			{PartyRef: ledger.PartyRef{Kind: ledger.Account, Reference: ref}, ID: b.Observed.AccountID, CustomerID: b.Observed.CustomerID},
		},
		Outcome: &ledger.Outcome{Row: row, Line: row + 1, Reference: ref, Status: ledger.Created, BillID: b.Observed.BillID,
			CustomerID: b.Observed.CustomerID, AccountID: b.Observed.AccountID, Currency: "ZAR", Amount: 12345, Attempts: 1, Key: b.Send.Key},
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
