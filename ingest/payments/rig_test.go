package payments

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/sqlite"
)

var scope = ledger.Scope{Merchant: "acme", Mode: "test"}

// world is an API with bills, a ledger that knows them, a store of payments, and a directory.
type world struct {
	t     *testing.T
	api   *emulator.API
	lane  *delivery.Lane
	led   *ledgertest.Memory
	path  string // of the store
	store ledger.Payments
	place *place
	file  *ledger.File
	rows  int
	sent  int // events
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, api: emulator.New(emulator.Config{}), led: ledgertest.NewMemory(), place: &place{files: map[string]string{}},
		path: filepath.Join(t.TempDir(), "ledger.db"),
		file: &ledger.File{ID: "f1", Name: "bills.csv", Stem: "bills-1", Scope: scope, State: ledger.Sending}}
	pipes := w.api.ServePipes()
	t.Cleanup(pipes.Close)
	c, err := client.New(client.Config{BaseURL: "http://127.0.0.1:1", Key: "sk_test_abc", Dial: pipes.Dial})
	if err != nil {
		t.Fatal(err)
	}
	w.lane = delivery.NewLane(scope, c, delivery.Policy{Concurrency: 8, MaxAttempts: 2, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond,
		LookupSettle: time.Millisecond, GiveUpAfter: time.Second})
	if err := w.led.AddFile(t.Context(), w.file); err != nil {
		t.Fatal(err)
	}
	w.open()
	return w
}

// open opens the store, as a process that starts does.
func (w *world) open() {
	w.t.Helper()
	store, err := sqlite.OpenPayments(w.t.Context(), w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = store.Close() })
	w.store = store
}

// bill raises a bill at the API, on an account or directly on a customer, and records it unless
// unrecorded.
func (w *world) bill(reference, account, customer string, unrecorded bool) emulator.Bill {
	w.t.Helper()
	body := client.BillRequest{ExternalReference: reference, Currency: "ZAR", AmountDue: 1000}
	state := w.api.State()
	switch {
	case account != "":
		i := slices.IndexFunc(state.Accounts, func(a emulator.Account) bool { return a.ExternalReference == account })
		if i >= 0 {
			body.Account = &client.AccountRef{ID: state.Accounts[i].ID}
		} else {
			body.Account = &client.AccountRef{New: &client.Account{ExternalReference: account, Customer: &client.CustomerRef{
				New: &client.Customer{ExternalReference: "of-" + account, Name: "N"}}}}
		}
	default:
		i := slices.IndexFunc(state.Customers, func(c emulator.Customer) bool { return c.ExternalReference == customer })
		if i >= 0 {
			body.Customer = &client.CustomerRef{ID: state.Customers[i].ID}
		} else {
			body.Customer = &client.CustomerRef{New: &client.Customer{ExternalReference: customer, Name: "N"}}
		}
	}
	c := w.client()
	if a := c.CreateBill(w.t.Context(), "key-"+reference, reference, client.EncodeBill(body)); a.Kind != client.Created {
		w.t.Fatalf("bill %s: %v %v", reference, a.Kind, a.Problem)
	}
	b := w.api.Bills(reference)[0]
	if !unrecorded {
		w.record(b)
	}
	return b
}

func (w *world) client() *client.Client {
	w.t.Helper()
	pipes := w.api.ServePipes()
	w.t.Cleanup(pipes.Close)
	c, err := client.New(client.Config{BaseURL: "http://127.0.0.1:1", Key: "sk_test_abc", Dial: pipes.Dial})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// record records a bill in the ledger.
func (w *world) record(b emulator.Bill) {
	w.t.Helper()
	o := &ledger.Outcome{Row: w.rows, Line: w.rows + 2, Reference: b.ExternalReference, Status: ledger.Created, BillID: b.ID,
		CustomerID: b.CustomerID, AccountID: b.AccountID, Currency: b.Currency, Amount: b.AmountDue}
	w.rows++
	err := w.led.Record(w.t.Context(), ledger.Entry{Scope: scope, File: w.file.ID, Outcome: o, Bill: &ledger.Bill{Reference: b.ExternalReference,
		State: ledger.Exists, Observed: ledger.Observed{BillID: b.ID, CustomerID: b.CustomerID, AccountID: b.AccountID, Currency: b.Currency, Amount: b.AmountDue}}})
	if err == nil {
		err = w.led.Flush(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// done ends the file of the bills.
func (w *world) done() {
	w.t.Helper()
	w.file.State, w.file.Finished = ledger.Done, time.Now()
	if err := w.led.SaveFile(w.t.Context(), w.file); err != nil {
		w.t.Fatal(err)
	}
}

// pay pays a bill at the API and receives the event.
func (w *world) pay(reference string, amount int64, as string) string {
	w.t.Helper()
	b := w.api.Bills(reference)[0]
	p, err := w.api.Pay(reference, amount, as)
	if err != nil {
		w.t.Fatal(err)
	}
	e := ledger.Payment{EventID: p.EventID, Type: client.AmountApplied, ObligationID: "ob_1", PaymentID: p.PaymentID, Currency: "ZAR", Amount: amount}
	switch as {
	case emulator.AsBill:
		e.BillID = b.ID
	case emulator.AsAccount:
		e.AccountID = b.AccountID
	case emulator.AsCustomer:
		e.CustomerID = b.CustomerID
	case emulator.AsPaymentRequest:
		e.Type, e.BillID = client.PaymentRequestPaid, b.ID
	}
	w.receive(e)
	return p.EventID
}

func (w *world) receive(e ledger.Payment) {
	w.t.Helper()
	w.sent++
	e.ReceivedAt = time.Now().UTC().Truncate(time.Millisecond)
	if repeated, err := w.store.Receive(w.t.Context(), scope, fmt.Sprint("msg_", w.sent), e); err != nil || repeated {
		w.t.Fatalf("receive: %v, %v", repeated, err)
	}
}

// reporter is one that starts anew.
func (w *world) reporter() *Reporter {
	every, err := ParseSchedule("1s", time.UTC)
	if err != nil {
		w.t.Fatal(err)
	}
	return &Reporter{Store: w.store, Ledger: w.led, Lane: w.lane, Every: every, page: 4}
}

// report publishes what is due an hour later than the last time, and returns the lines of the
// report; none if nothing was published.
func (w *world) report() []map[string]string {
	w.t.Helper()
	w.place.now = w.place.now.Add(time.Hour)
	published, err := w.reporter().Publish(w.t.Context(), w.place, time.Now().Add(w.place.now.Sub(time.Time{})))
	if err != nil {
		w.t.Fatal(err)
	}
	var all []map[string]string
	for _, p := range published {
		lines := w.place.lines(w.t, p.Name)
		if len(lines) != p.Rows {
			w.t.Errorf("%d lines, told %d", len(lines), p.Rows)
		}
		all = append(all, lines...)
	}
	return all
}

// place is a directory in memory.
type place struct {
	mu    sync.Mutex
	files map[string]string
	fail  func(op string) error // nil: nothing
	now   time.Time
}

func (p *place) do(op string) error {
	if p.fail != nil {
		return p.fail(op)
	}
	return nil
}

func (p *place) Reported(_ context.Context, name string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, there := p.files[name]
	return there, p.do("reported")
}

func (p *place) Digest(_ context.Context, name string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.do("digest"); err != nil {
		return "", err
	}
	text, there := p.files[name]
	if !there {
		return "", nil
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:]), nil
}

var errCut = errors.New("the connection was lost after the rename")

func (p *place) Publish(_ context.Context, name string, content io.ReadSeeker) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.do("publish")
	if err != nil && !errors.Is(err, errCut) {
		return err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	b, readErr := io.ReadAll(content)
	p.files[name] = string(b)
	return errors.Join(err, readErr)
}

func (p *place) lines(t *testing.T, name string) []map[string]string {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(p.files[name])).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	const header = "received_at,event_id,type,payment_id,obligation_id,currency,amount,matched_by,bill_reference,bill_id,account_id,customer_id," +
		"bill_status,bill_amount_due,bill_amount_paid,bill_amount_remaining"
	if strings.Join(records[0], ",") != header {
		t.Errorf("header %v", records[0])
	}
	var lines []map[string]string
	for _, r := range records[1:] {
		line := map[string]string{}
		for i, name := range records[0] {
			line[name] = r[i]
		}
		lines = append(lines, line)
	}
	return lines
}

// all returns the event ids of all reports.
func (p *place) all(t *testing.T) []string {
	t.Helper()
	var ids []string
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		for _, line := range p.lines(t, name) {
			ids = append(ids, line["event_id"])
		}
	}
	return ids
}
