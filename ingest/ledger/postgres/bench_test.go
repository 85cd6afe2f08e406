//go:build linux

package postgres_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// BenchmarkLedger measures rows of a clean run: one Begin that leads two new parties and one
// Record (bill, outcome, the parties) each, from as many senders as the name says, with Bills
// and Parties asked for once a chunk. The server syncs its commits. Beside time it reports
// what a row takes on the disk.
func BenchmarkLedger(b *testing.B) {
	server := pgtest.StartConfig(b, pgtest.Config{Durable: true, Settings: []string{"shared_buffers = '256MB'", "max_wal_size = '4GB'"}})
	for _, senders := range []int{64, 512, 1024} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			url := server.Database(b)
			l := open(b, url)
			if err := l.Join(b.Context(), ledger.Member{Name: "bench", LostAfter: 30e9}); err != nil {
				b.Fatal(err)
			}
			if err := l.AddFile(b.Context(), &ledger.File{ID: "f", Scope: scope, State: ledger.Sending}); err != nil {
				b.Fatal(err)
			}
			before := cpuTime(b)
			rows := make(chan int)
			var wg sync.WaitGroup
			var failed atomic.Pointer[error]
			for range senders {
				wg.Go(func() {
					for row := range rows {
						if err := sendRow(b.Context(), l, "f", benchReference(row), row); err != nil {
							failed.Store(&err)
						}
					}
				})
			}
			n := 0
			for b.Loop() {
				if n%256 == 0 {
					lookAhead(b, l, n)
				}
				rows <- n
				n++
			}
			close(rows)
			wg.Wait()
			if err := l.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := failed.Load(); err != nil {
				b.Fatal(*err)
			}
			used, theirs := cpuTime(b)-before, serverTime(b, server)
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			name := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
			size, err := strconv.Atoi(server.Query(b, name, "SELECT pg_database_size(current_database())"))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(used)/float64(n), "cpu-ns/row")
			b.ReportMetric(float64(theirs)/float64(n), "server-ns/row")
			b.ReportMetric(float64(size)/float64(n), "bytes/row")
		})
	}
}

// cpuTime is what this process has used of all cores.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// serverTime is what the server's sessions that are open now have used.
func serverTime(b *testing.B, server *pgtest.Server) (sum time.Duration) {
	b.Helper()
	const tick = 10 * time.Millisecond // of /proc/PID/stat on Linux
	for pid := range strings.Lines(server.Query(b, "postgres", "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'billdrop%'")) {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
		if err != nil {
			return 0
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			if err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

func benchReference(row int) string { return fmt.Sprintf("INV-2026-%07d", row) }

// lookAhead is what the pipeline asks for each chunk of rows.
func lookAhead(b *testing.B, l ledger.Ledger, first int) {
	var refs []string
	var parties []ledger.PartyRef
	for row := range 256 {
		ref := benchReference(first + row)
		refs = append(refs, ref)
		parties = append(parties, ledger.PartyRef{Kind: ledger.Customer, Reference: ref}, ledger.PartyRef{Kind: ledger.Account, Reference: ref})
	}
	if _, err := l.Bills(b.Context(), scope, refs); err != nil {
		b.Fatal(err)
	}
	if _, err := l.Parties(b.Context(), scope, parties); err != nil {
		b.Fatal(err)
	}
}
