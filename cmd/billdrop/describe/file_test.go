package describe

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

// TestFileNeedsAttention: a file can need attention though none of its rows does, such as one
// that was changed while it was sent.
func TestFileNeedsAttention(t *testing.T) {
	for outcome, want := range map[string]bool{"": false, ledger.Completed: false, ledger.CompletedWithErrors: true, ledger.FileHeld: true} {
		if f := (File{File: &ledger.File{Outcome: outcome}}); f.NeedsAttention() != want {
			t.Errorf("outcome %q: needs attention %t", outcome, !want)
		}
	}
}

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

// TestReportsThatAreThere: no report is named that was not published, or that is gone.
func TestReportsThatAreThere(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "bills-1.results.csv")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	published := ledger.Reports{Results: "1", Rejects: "2", Summary: "3"}
	for _, c := range []struct {
		name    string
		file    ledger.File
		reports []string
		advice  string
	}{
		{"under way", ledger.File{Origin: ledger.FromLocal, State: ledger.Sending}, []string{}, "correct them in the bill file and import it again"},
		{"on a server", ledger.File{State: ledger.Done, Published: published},
			[]string{dir + "/bills-1.rejects.csv", there, dir + "/bills-1.summary.json"}, "correct them in " + dir + "/bills-1.rejects.csv and drop it into the inbox again"},
		{"gone from this machine", ledger.File{Origin: ledger.FromLocal, State: ledger.Done, Published: published}, []string{there}, "correct them in the bill file and import it again"},
	} {
		c.file.Results, c.file.Stem = dir, "bills-1"
		f := File{File: &c.file, Summary: report.Summary{Stem: "bills-1", Rows: report.Rows{Total: 1, By: map[ledger.Status]int{ledger.Invalid: 1}}}}
		if got := f.Reports(); !slices.Equal(got, c.reports) {
			t.Errorf("%s: reports %q", c.name, got)
		}
		if got := f.ToDo().Groups[0].Advice; got != c.advice {
			t.Errorf("%s: advice %q", c.name, got)
		}
	}
}
