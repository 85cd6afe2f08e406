package ingest

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// BenchmarkPresent makes 20,000 links over an API that takes 50 ms for each, with 64 senders,
// beside a loop that asks for as many and keeps nothing. If all senders are always busy it
// takes 15.6 s.
func BenchmarkPresent(b *testing.B) {
	const rows, senders, latency = 20_000, 64, 50 * time.Millisecond
	server := httptest.NewServer(emulator.New(emulator.Config{Latency: latency}))
	defer server.Close()
	api, err := client.New(client.Config{BaseURL: server.URL, Key: "sk_test_bench", MaxConns: senders})
	if err != nil {
		b.Fatal(err)
	}
	ideal := (rows / senders * latency).Seconds()
	b.Run("bare loop", func(b *testing.B) {
		for b.Loop() {
			begun := time.Now()
			var group errgroup.Group
			group.SetLimit(senders)
			for i := range rows {
				group.Go(func() error {
					body := client.EncodePaymentRequest(client.PaymentRequestBody{Amount: 1000, Currency: "ZAR", ExternalReference: fmt.Sprintf("BARE-%06d", i)})
					if a := api.CreatePaymentRequest(b.Context(), fmt.Sprintf("bare-%d-%d", begun.UnixNano(), i), fmt.Sprintf("BARE-%06d", i), body); a.Kind != client.Created {
						return errors.New(a.Label())
					}
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(begun).Seconds()/ideal, "of-ideal")
		}
	})
	b.Run("links", func(b *testing.B) { benchmarkLinks(b, api, rows, senders, ideal) })
}

func benchmarkLinks(b *testing.B, api delivery.API, rows, senders int, ideal float64) {
	scope := ledger.Scope{Merchant: "acme", Mode: "test"}
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
		b.ReportMetric(time.Since(begun).Seconds()/ideal, "of-ideal")
		if err := led.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
