// Package ledgertest holds what every engine of ledger.Ledger must do: one conformance
// suite, run by each engine's tests. What is only one engine's (its file, its lock, its
// failures) is tested beside that engine.
package ledgertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"billdrop/ingest/ledger"
)

// Engine is one way to keep a ledger.
type Engine struct {
	// Open opens the ledger that is kept in dir, and makes it when there is none. It
	// fails t when it cannot. The suite closes it.
	Open func(t *testing.T, dir string) ledger.Ledger
	// Crash ends l as kill -9 would: what is not durable yet is lost, nothing is flushed,
	// locks are free afterwards, and Open of the same dir finds what the crash left.
	// Calls that are waiting in l return an error.
	Crash func(t *testing.T, l ledger.Ledger)
}

// Run runs the whole suite against e.
func Run(t *testing.T, e Engine) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Engine)
	}{
		{"Files", testFiles},
		{"FilesQuery", testFilesQuery},
		{"Bills", testBills},
		{"Parties", testParties},
		{"Outcomes", testOutcomes},
		{"Totals", testTotals},
		{"History", testHistory},
		{"Prune", testPrune},
		{"Forget", testForget},
		{"Record", testRecord},
		{"Links", testLinks},
		{"Context", testContext},
		{"Close", testClose},
		{"Crash", testCrash},
		{"Concurrency", testConcurrency},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, e) })
	}
}

// open opens a new ledger that is closed with the test.
func (e Engine) open(t *testing.T) ledger.Ledger {
	t.Helper()
	l := e.Open(t, t.TempDir())
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// epoch is a time of the tests: like every time that a ledger is given, it keeps its
// microseconds.
var epoch = time.Date(2026, 11, 23, 6, 30, 0, 123456000, time.UTC)

var scope = ledger.Scope{Merchant: "acme", Mode: "test"}

// newFile is a file as it is at its claim.
func newFile(id string) *ledger.File {
	return &ledger.File{
		ID: id, Feed: "bills", Scope: scope, Origin: ledger.FromInbox, Name: id + ".csv", Path: "/processing/" + id + ".csv",
		Results: "/results", State: ledger.Claiming, Received: epoch,
	}
}

// newBill is a bill whose first send is about to leave for a row of a file.
func newBill(reference, file string, row int) *ledger.Bill {
	digest := ledger.DigestOf([]byte(reference))
	return &ledger.Bill{Reference: reference, Send: ledger.Send{
		File: file, Row: row, Generation: 1, Form: ledger.FormNewAccountCustomer,
		Content: digest, Body: ledger.DigestOf(digest[:]), Key: uuid.UUID(digest).String(),
		KeyFirstUsed: epoch, At: epoch.Add(time.Duration(row) * time.Second), Count: 1,
	}}
}

// answered is b after a 201.
func answered(b *ledger.Bill) *ledger.Bill {
	a := *b
	a.State, a.Send.Answer = ledger.Exists, "201"
	a.Observed = ledger.Observed{BillID: "bill_" + b.Reference, CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 2000,
		BillDate: "2026-11-01", DueDate: "2026-11-30"}
	return &a
}

// created is the outcome that belongs to answered.
func created(b *ledger.Bill) *ledger.Outcome {
	return &ledger.Outcome{Row: b.Send.Row, Line: b.Send.Row + 1, Reference: b.Reference, Status: ledger.Created,
		BillID: b.Observed.BillID, CustomerID: b.Observed.CustomerID, AccountID: b.Observed.AccountID,
		Currency: b.Observed.Currency, Amount: b.Observed.Amount, Attempts: b.Send.Count, Key: b.Send.Key}
}

// add records a new file.
func add(t *testing.T, l ledger.Ledger, f *ledger.File) {
	t.Helper()
	if err := l.AddFile(t.Context(), f); err != nil {
		t.Fatalf("AddFile(%s): %v", f.ID, err)
	}
}

func begin(t *testing.T, l ledger.Ledger, b *ledger.Bill) {
	t.Helper()
	if err := l.Begin(t.Context(), scope, b); err != nil {
		t.Fatalf("Begin(%s): %v", b.Reference, err)
	}
}

func record(t *testing.T, l ledger.Ledger, e ledger.Entry) {
	t.Helper()
	ok(t, "Record", l.Record(t.Context(), e))
}

// bill returns what l knows of a reference, nil when nothing.
func bill(t *testing.T, l ledger.Ledger, reference string) *ledger.Bill {
	t.Helper()
	bills, err := l.Bills(t.Context(), scope, []string{reference})
	if err != nil {
		t.Fatalf("Bills(%s): %v", reference, err)
	}
	return bills[reference]
}

// readFile returns the file with this id.
func readFile(t *testing.T, l ledger.Ledger, id string) *ledger.File {
	t.Helper()
	f, err := l.File(t.Context(), id)
	if err != nil {
		t.Fatalf("File(%s): %v", id, err)
	}
	return f
}

// readParties returns those of refs that l knows.
func readParties(t *testing.T, l ledger.Ledger, s ledger.Scope, refs ...ledger.PartyRef) map[ledger.PartyRef]ledger.Party {
	t.Helper()
	parties, err := l.Parties(t.Context(), s, refs)
	if err != nil || parties == nil {
		t.Fatalf("Parties: %v, %v", parties, err)
	}
	return parties
}

// save saves f in place of what l holds of it now.
func save(ctx context.Context, l ledger.Ledger, f *ledger.File) error {
	if old, err := l.File(ctx, f.ID); err == nil {
		f.Revision = old.Revision
	}
	return l.SaveFile(ctx, f)
}

// noRevisions leaves out what names a state only in a Shared ledger.
var noRevisions = cmp.Options{cmpopts.IgnoreFields(ledger.Bill{}, "Revision"), cmpopts.IgnoreFields(ledger.File{}, "Revision")}

// same fails t when got is not want, whatever their revisions are.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, noRevisions); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// refused checks that a call came to want.
func refused(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// errOf is the error of a call that returns something beside it.
func errOf(_ any, err error) error { return err }
