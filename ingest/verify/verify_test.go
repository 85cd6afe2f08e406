package verify

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

var scope = ledger.Scope{Merchant: "acme", Mode: "test"}

// fakeAPI answers look-ups of bills, and nothing else.
type fakeAPI struct {
	answer func(reference string) client.Answer
	mu     sync.Mutex
	asked  map[string]int // nil: only gets is counted
	gets   int
	flying int
	most   int // requests in flight
}

func (f *fakeAPI) GetBill(_ context.Context, reference string) client.Answer {
	f.mu.Lock()
	f.gets++
	if f.asked != nil {
		f.asked[reference]++
	}
	f.flying++
	f.most = max(f.most, f.flying)
	f.mu.Unlock()
	a := f.answer(reference)
	f.mu.Lock()
	f.flying--
	f.mu.Unlock()
	return a
}

func (f *fakeAPI) CreateBill(context.Context, string, string, []byte) client.Answer {
	panic("verify sent a bill")
}
func (f *fakeAPI) CreatePaymentRequest(context.Context, string, string, []byte) client.Answer {
	panic("verify asked for a payment request")
}
func (f *fakeAPI) GetCustomer(context.Context, string) client.Answer {
	panic("verify asked for a customer")
}
func (f *fakeAPI) GetAccount(context.Context, string) client.Answer {
	panic("verify asked for an account")
}

func found(b client.Bill) client.Answer {
	return client.Answer{Kind: client.Found, Status: 200, Bill: &b}
}

// good is the answer about a bill that is as its row says.
func good(reference string) client.Answer {
	paid, left := int64(0), int64(2000)
	return found(client.Bill{ID: "bill_" + reference, ExternalReference: reference, CustomerID: "bcus_1", AccountID: "bacc_1", Status: "unpaid",
		Currency: "ZAR", AmountDue: 2000, AmountPaid: &paid, AmountRemaining: &left})
}

func outcome(row int, reference string, status ledger.Status) *ledger.Outcome {
	return &ledger.Outcome{Row: row, Line: row + 2, Reference: reference, Status: status, BillID: "bill_" + reference,
		CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 2000}
}

// fill records a finished file.
func fill(t *testing.T, led ledger.Ledger, outcomes ...*ledger.Outcome) *ledger.File {
	t.Helper()
	f := &ledger.File{ID: "f1", Name: "bills.csv", Stem: "bills-1234abcd", Scope: scope, State: ledger.Done, RowsRead: true}
	if err := led.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		b := &ledger.Bill{Reference: o.Reference, State: ledger.Exists, Observed: ledger.Observed{
			BillID: o.BillID, CustomerID: o.CustomerID, AccountID: o.AccountID, Currency: o.Currency, Amount: o.Amount, DueDate: "2026-11-30"}}
		if err := led.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b, File: f.ID, Outcome: o}); err != nil {
			t.Fatal(err)
		}
	}
	if err := led.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

func policy() delivery.Policy {
	return delivery.Policy{Concurrency: 8, MaxAttempts: 3, BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond,
		LookupSettle: time.Millisecond, GiveUpAfter: time.Second}
}

func lines(t *testing.T, dir string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "bills-1234abcd.verify.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := "line,bill_reference,bill_id,finding,detail,bill_status,amount_due,amount_paid,amount_remaining"; strings.Join(records[0], ",") != want {
		t.Errorf("header %v", records[0])
	}
	var rows []map[string]string
	for _, r := range records[1:] {
		row := make(map[string]string)
		for i, name := range records[0] {
			row[name] = r[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// TestFindings shows each of the five findings, and what leads to it.
func TestFindings(t *testing.T) {
	paid := func(ref string) client.Answer {
		a := good(ref)
		two, zero := int64(2000), int64(0)
		a.Bill.Status, a.Bill.AmountPaid, a.Bill.AmountRemaining = "paid", &two, &zero
		return a
	}
	changed := func(change func(*client.Bill)) func(string) client.Answer {
		return func(ref string) client.Answer {
			a := good(ref)
			change(a.Bill)
			return a
		}
	}
	absent := client.Answer{Kind: client.Absent, Status: 404, Problem: client.Problem{Detail: "There is no such bill."}}
	fault := client.Answer{Kind: client.ServerFault, Status: 500}
	for i, tc := range []struct {
		name    string
		answer  func(string) client.Answer
		finding report.Finding
		detail  string // part of it
		gets    int
	}{
		{"same", good, report.Same, "", 1},
		{"paid", paid, report.Same, "", 1},
		{"another amount", changed(func(b *client.Bill) { b.AmountDue = 1999 }), report.Changed, "amount_due: it was 2000 and is 1999", 1},
		{"another currency", changed(func(b *client.Bill) { b.Currency = "USD" }), report.Changed, "currency: it was ZAR and is USD", 1},
		{"another bill", changed(func(b *client.Bill) { b.ID = "bill_x" }), report.Changed, "bill_id", 1},
		{"another customer", changed(func(b *client.Bill) { b.CustomerID = "bcus_2" }), report.Changed, "customer_id", 1},
		{"another account", changed(func(b *client.Bill) { b.AccountID = "bacc_2" }), report.Changed, "account_id", 1},
		{"no account any more", changed(func(b *client.Bill) { b.AccountID = "" }), report.Changed, "account_id: it was bacc_1 and is none", 1},
		{"another due date", changed(func(b *client.Bill) { b.DueDate = "2026-12-01" }), report.Changed, "due_date", 1},
		{"voided", changed(func(b *client.Bill) { b.Status = "voided" }), report.Voided, "voided", 1},
		{"missing", func(string) client.Answer { return absent }, report.Missing, "no bill", 1},
		{"missing, says another server", func(string) client.Answer { return client.Answer{Kind: client.Absent, Status: 404} }, report.Unverified, "check api.base_url", 1},
		{"no answer", func(string) client.Answer { return fault }, report.Unverified, "500", 3},
		{"refused", func(string) client.Answer { return client.Answer{Kind: client.Refused, Status: 400} }, report.Unverified, "400", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				led := ledgertest.NewMemory()
				f := fill(t, led, outcome(0, "A", ledger.Created), outcome(1, "B", ledger.Existing), outcome(2, "C", ledger.Created),
					outcome(3, "D", ledger.Rejected), outcome(4, "E", ledger.Conflict))
				api := &fakeAPI{asked: map[string]int{}, answer: func(ref string) client.Answer {
					if ref == "B" {
						return tc.answer(ref)
					}
					return good(ref)
				}}
				dir := t.TempDir()
				got, err := File(t.Context(), Options{Ledger: led, Lane: delivery.NewLane(scope, api, policy()), File: f, Place: transfer.Local{Results: dir}})
				if err != nil {
					t.Fatal(err)
				}
				if api.asked["B"] != tc.gets || api.asked["A"] != 1 || api.asked["C"] != 1 || len(api.asked) != 3 || got.Gets != 2+tc.gets {
					t.Errorf("asked %v, gets %d", api.asked, got.Gets)
				}
				rows := lines(t, dir)
				if len(rows) != 3 || got.Bills != 3 || got.By[tc.finding] < 1 || got.Same() != (tc.finding == report.Same) {
					t.Fatalf("%+v, %v", got, rows)
				}
				b := rows[1]
				if b["line"] != "3" || b["bill_reference"] != "B" || b["finding"] != string(tc.finding) || !strings.Contains(b["detail"], tc.detail) || (tc.detail == "") != (b["detail"] == "") {
					t.Errorf("case %d: %v", i, b)
				}
				if rows[0]["finding"] != "same" || rows[0]["bill_status"] != "unpaid" || rows[0]["amount_due"] != "2000" || rows[0]["amount_paid"] != "0" || rows[0]["amount_remaining"] != "2000" {
					t.Errorf("a bill that is the same: %v", rows[0])
				}
			})
		})
	}
}

// An API that goes away ends the verification, and what was found so far is published. A key
// that is refused ends it without a report.
func TestStops(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault client.Answer
		setup bool
	}{
		{"out of reach", client.Answer{Kind: client.NotSent, Err: errors.New("connection refused")}, false},
		{"key refused", client.Answer{Kind: client.KeyRefused, Status: 401}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				led := ledgertest.NewMemory()
				var outcomes []*ledger.Outcome
				for i := range 3000 {
					outcomes = append(outcomes, outcome(i, fmt.Sprintf("R-%d", i), ledger.Created))
				}
				f := fill(t, led, outcomes...)
				answered := 0
				api := &fakeAPI{}
				api.answer = func(ref string) client.Answer {
					api.mu.Lock()
					defer api.mu.Unlock()
					if answered < 1500 {
						answered++
						return good(ref)
					}
					return tc.fault
				}
				dir := t.TempDir()
				got, err := File(t.Context(), Options{Ledger: led, Lane: delivery.NewLane(scope, api, policy()), File: f, Place: transfer.Local{Results: dir}})
				if !errors.Is(err, delivery.ErrStopped) || errors.Is(err, delivery.ErrSetup) != tc.setup {
					t.Fatalf("err %v", err)
				}
				if tc.setup {
					if files, _ := os.ReadDir(dir); len(files) > 0 {
						t.Errorf("published %v", files)
					}
					return
				}
				if rows := lines(t, dir); len(rows) != 3000 || got.By[report.Same] != 1500 || got.By[report.Unverified] != 1500 {
					t.Errorf("%d lines, %+v", len(rows), got)
				}
			})
		})
	}
}

// Requests are paced by the lane's rate limit and bounded by its concurrency, also where the
// API answers 429.
func TestPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		led := ledgertest.NewMemory()
		var outcomes []*ledger.Outcome
		for i := range 400 {
			outcomes = append(outcomes, outcome(i, fmt.Sprintf("R-%d", i), ledger.Created))
		}
		f := fill(t, led, outcomes...)
		throttled := false
		api := &fakeAPI{}
		api.answer = func(ref string) client.Answer {
			time.Sleep(300 * time.Millisecond)
			api.mu.Lock()
			defer api.mu.Unlock()
			if !throttled {
				throttled = true
				return client.Answer{Kind: client.Throttled, Status: 429, RetryAfter: time.Second}
			}
			return good(ref)
		}
		p := policy()
		p.RateLimit = 20
		begun := time.Now()
		got, err := File(t.Context(), Options{Ledger: led, Lane: delivery.NewLane(scope, api, p), File: f, Place: transfer.Local{Results: t.TempDir()}})
		if err != nil || !got.Same() {
			t.Fatalf("%+v, %v", got, err)
		}
		if took := time.Since(begun); took < 20*time.Second || took > 60*time.Second {
			t.Errorf("400 look-ups at 20/s took %v", took)
		}
		if api.most > 8 || api.gets != 401 {
			t.Errorf("%d in flight, %d requests", api.most, api.gets)
		}
	})
}

// TestMany: 100,000 bills are 100,000 GETs, and memory stays flat.
func TestMany(t *testing.T) {
	const bills = 100_000
	led, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer led.Close()
	f := &ledger.File{ID: "f1", Name: "bills.csv", Stem: "bills-1234abcd", Scope: scope, State: ledger.Done, RowsRead: true}
	if err := led.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for i := range bills {
		if err := led.Record(t.Context(), ledger.Entry{Scope: scope, File: f.ID, Outcome: outcome(i, fmt.Sprintf("R-%06d", i), ledger.Created)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := led.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var peak uint64
	api := &fakeAPI{}
	api.answer = func(ref string) client.Answer {
		if strings.HasSuffix(ref, "000") {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			api.mu.Lock()
			peak = max(peak, m.HeapInuse)
			api.mu.Unlock()
		}
		return good(ref)
	}
	place := &counting{}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := File(t.Context(), Options{Ledger: led, Lane: delivery.NewLane(scope, api, policy()), File: f, Place: place})
	if err != nil {
		t.Fatal(err)
	}
	if got.Bills != bills || got.Gets != bills || api.gets != bills || !got.Same() || place.lines != bills+1 {
		t.Errorf("%+v, %d requests, %d lines", got, api.gets, place.lines)
	}
	if grown := int64(peak) - int64(before.HeapInuse); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

// counting counts the lines of what is published.
type counting struct{ lines int }

func (c *counting) Publish(_ context.Context, _ string, content io.ReadSeeker) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(content)
	c.lines = strings.Count(string(b), "\n")
	return err
}

func TestUnfinishedIsRefused(t *testing.T) {
	led := ledgertest.NewMemory()
	f := fill(t, led)
	f.State = ledger.Sending
	_, err := File(t.Context(), Options{Ledger: led, Lane: delivery.NewLane(scope, &fakeAPI{}, policy()), File: f, Place: &counting{}})
	if !errors.Is(err, ledger.ErrUnfinished) {
		t.Errorf("err %v", err)
	}
}
