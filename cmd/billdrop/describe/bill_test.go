package describe

import (
	"slices"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

// TestStatusOf: the latest row that names a bill does not decide alone.
func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		rows []ledger.Status
		want ledger.Status
	}{
		{nil, ledger.Unknown},
		{[]ledger.Status{ledger.Created}, ledger.Created},
		{[]ledger.Status{ledger.Created, ledger.Existing, ledger.Conflict}, ledger.Created},
		{[]ledger.Status{ledger.Failed, ledger.Created, ledger.Invalid}, ledger.Created},
		{[]ledger.Status{ledger.Invalid, ledger.Rejected}, ledger.Rejected},
		{[]ledger.Status{ledger.Unknown, ledger.Existing}, ledger.Existing},
	} {
		h := &ledger.History{}
		for _, s := range c.rows {
			h.Sightings = append(h.Sightings, ledger.Sighting{Status: s})
		}
		if got := statusOf(h); got != c.want {
			t.Errorf("rows %v: %s, want %s", c.rows, got, c.want)
		}
	}
}

// TestBill: a bill may have no outcome yet, and may be known in two scopes.
func TestBill(t *testing.T) {
	l := ledgertest.NewMemory()
	test, live := ledger.Scope{Merchant: "acme", Mode: "test"}, ledger.Scope{Merchant: "acme", Mode: "live"}
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Name: "a.csv", Scope: live}); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 6, 30, 0, 0, time.UTC)
	b := &ledger.Bill{Reference: "A", Send: ledger.Send{File: "f", Row: 1, Generation: 1, Key: "key", At: at, Count: 1}}
	if err := l.Begin(t.Context(), live, b); err != nil {
		t.Fatal(err)
	}
	gone := &ledger.Bill{Reference: "A", State: ledger.Gone}
	if err := l.Record(t.Context(), ledger.Entry{Scope: test, Bill: gone}); err != nil {
		t.Fatal(err)
	}
	bills, err := ReadBills(t.Context(), l, []ledger.Scope{live, test, {Merchant: "other", Mode: "test"}}, "A")
	if err != nil || len(bills) != 2 {
		t.Fatalf("%d bills, %v", len(bills), err)
	}
	want := []Attempt{{At: report.At(at), IdempotencyKey: "key", Generation: 1, FileID: "f"}}
	if s := bills[0]; s.Mode != "live" || s.Status != "unknown" || s.BillID != "" || s.Held != nil || !slices.Equal(s.Attempts, want) || len(s.Sightings) != 0 {
		t.Errorf("story %+v", s)
	}
	var text strings.Builder
	for _, s := range bills {
		text.WriteString(s.Text())
	}
	for _, says := range []string{"whether the API holds the bill is not known yet", "none recorded", "no such bill"} {
		if !strings.Contains(text.String(), says) {
			t.Errorf("the bills do not say %q:\n%s", says, &text)
		}
	}
}
