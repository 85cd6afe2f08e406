package ingest

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// creator is an API that creates every bill at once and holds none.
type creator struct{}

func (creator) CreateBill(_ context.Context, _, reference string, _ []byte) client.Answer {
	id := strings.ReplaceAll(reference, "-", "")
	return client.Answer{Kind: client.Created, Status: 201, Bill: &client.Bill{
		ID: "bill_" + id, ExternalReference: reference, CustomerID: "bcus_" + id, AccountID: "bacc_" + id, Status: "unpaid", Currency: "ZAR", AmountDue: 1000,
	}}
}
func (creator) CreatePaymentRequest(context.Context, string, string, []byte) client.Answer {
	panic("no payment requests here")
}

func (creator) GetBill(context.Context, string) client.Answer {
	return client.Answer{Kind: client.Absent, Status: 404}
}
func (creator) GetCustomer(context.Context, string) client.Answer {
	return client.Answer{Kind: client.Absent, Status: 404}
}
func (creator) GetAccount(context.Context, string) client.Answer {
	return client.Answer{Kind: client.Absent, Status: 404}
}

// BenchmarkImport imports a file of 200,000 rows with a party each, and the same file again, of
// which nothing is sent: over an API that takes no time.
func BenchmarkImport(b *testing.B) {
	const rows = 200_000
	dir := b.TempDir()
	file := filepath.Join(dir, "bills.csv")
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriter(f)
	fmt.Fprintln(out, "bill_reference,amount_due,account_reference,customer_reference,customer_name")
	for i := range rows {
		fmt.Fprintf(out, "INV-%07[1]d,1000,ACC-%07[1]d,CUS-%07[1]d,Naledi Dube\n", i)
	}
	if err := out.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	led, err := sqlite.Open(b.Context(), filepath.Join(dir, "ledger.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer led.Close()
	policy := testPolicy()
	policy.Concurrency = 32
	feed := &Feed{Name: "bills", Lane: delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, creator{}, policy),
		Format: billfile.Format{Amounts: billfile.Minor, Currency: "ZAR"}, Hold: Hold{MaxInvalidPercent: 100}}
	w, err := New(Options{Ledger: led, Spool: filepath.Join(dir, "spool"), Feeds: []*Feed{feed}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	run := 0
	once := func(b *testing.B) {
		for b.Loop() {
			run++
			begun := time.Now()
			if _, err := w.Import(b.Context(), feed, []LocalFile{{Path: file, Out: filepath.Join(dir, fmt.Sprint("reports-", run))}}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(rows)/time.Since(begun).Seconds(), "rows/s")
		}
	}
	b.Run("first", once)
	b.Run("again", once)
}
