package ingest

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// BenchmarkPresent makes 20,000 links over an API that takes 50 ms for each, with 64 senders. If all of them
// are always busy it takes 15.6 s.
func BenchmarkPresent(b *testing.B) {
	const rows, senders, latency = 20_000, 64, 50 * time.Millisecond
	scope := ledger.Scope{Merchant: "acme", Mode: "test"}
	server := httptest.NewServer(emulator.New(emulator.Config{Latency: latency}))
	defer server.Close()
	api, err := client.New(client.Config{BaseURL: server.URL, Key: "sk_test_bench", MaxConns: senders})
	if err != nil {
		b.Fatal(err)
	}
	policy := testPolicy()
	policy.Concurrency = senders
	for b.Loop() {
		b.StopTimer()
		led, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"))
		if err != nil {
			b.Fatal(err)
		}
		f := &ledger.File{ID: "f", Name: "a.csv", Scope: scope, State: ledger.Sending}
		if err := led.AddFile(b.Context(), f); err != nil {
			b.Fatal(err)
		}
		for i := range rows {
			o := &ledger.Outcome{Row: i + 1, Line: i + 2, Reference: fmt.Sprintf("INV-%06d", i), Status: ledger.Created, BillID: fmt.Sprintf("bill_%d", i), Currency: "ZAR", Amount: 1000}
			if err := led.Record(b.Context(), ledger.Entry{Scope: scope, File: f.ID, Outcome: o}); err != nil {
				b.Fatal(err)
			}
		}
		if err := led.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		begun := time.Now()
		missing, err := delivery.NewLane(scope, api, policy).Present(b.Context(), led, f, *thirtyDays)
		if err != nil || missing > 0 {
			b.Fatalf("%d links are missing: %v", missing, err)
		}
		ideal := (rows / senders * latency).Seconds()
		b.ReportMetric(time.Since(begun).Seconds()/ideal, "of-ideal")
		if err := led.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
