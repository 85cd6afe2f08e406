package describe

import (
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// TestFilesUnderWay: of a file under way, the rows so far are counted.
func TestFilesUnderWay(t *testing.T) {
	l := ledgertest.NewMemory()
	for _, f := range []*ledger.File{
		{ID: "sending", State: ledger.Sending, Rows: 1200},
		{ID: "claimed", State: ledger.Claimed},
		{ID: "held", State: ledger.Held, Rows: 7, Outcome: ledger.FileHeld, Code: "over_limit"},
	} {
		if err := l.AddFile(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Record(t.Context(), ledger.Entry{File: "sending", Outcome: &ledger.Outcome{Row: 1, Status: ledger.Created, Currency: "ZAR", Amount: 5}}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]struct {
		words       string
		total, open int
		attention   bool
	}{
		"sending": {"sending, 1 of 1,200 rows", 1200, 1199, false},
		"claimed": {"claimed", 0, 0, false},
		"held":    {"held (over_limit)", 7, 7, true},
	} {
		f, err := l.File(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ReadFile(t.Context(), l, f)
		if err != nil {
			t.Fatal(err)
		}
		if s.Words() != want.words || s.Total() != want.total || s.Open != want.open || s.NeedsAttention() != want.attention {
			t.Errorf("%s: %s, %d rows, %d open, attention %v", id, s.Words(), s.Total(), s.Open, s.NeedsAttention())
		}
	}
}
