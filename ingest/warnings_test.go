package ingest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// TestSummaryHasWarnings: what is worth a look is in the summary of a file that was sent, and
// in that of one that is held. It changes no outcome.
func TestSummaryHasWarnings(t *testing.T) {
	r := inProcess(t)
	const text = "bill_reference,amount_due,customer_reference,customer_name\nA-1,100,C,ZoÃ«\na-1,100,D,Ann\n"
	want := []string{billfile.WarnSimilarReferences, billfile.WarnMojibake}
	check := func(s report.Summary) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s.Stem).Summary))
		if err != nil {
			t.Fatal(err)
		}
		published, err := report.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range []report.Summary{s, published} {
			if len(of.Warnings) != 2 || of.Warnings[0].Code != want[0] || of.Warnings[1].Code != want[1] || of.Warnings[1].Line != 2 {
				t.Errorf("%s: warnings %+v", of.Outcome, of.Warnings)
			}
		}
	}
	r.drop(t, "sent.csv", text)
	done := r.poll(t)
	if len(done) != 1 || done[0].Outcome != ledger.Completed {
		t.Fatalf("%+v", done)
	}
	check(done[0])
	r.feed.Hold.MaxRows = 1
	r.drop(t, "held.csv", text+"B-1,100,E/,Bo\n")
	done = r.poll(t)
	if len(done) != 1 || done[0].Outcome != ledger.FileHeld || done[0].Amounts["ZAR"][ledger.Invalid] != 100 || done[0].Amounts["ZAR"][ledger.NotSent] != 200 {
		t.Fatalf("%+v", done)
	}
	check(done[0])
}

// TestTooManyInvalidRows: a file of which most rows are invalid is refused; its reports have the
// first of them, its summary counts all.
func TestTooManyInvalidRows(t *testing.T) {
	r := inProcess(t)
	r.feed.MaxInvalidRows = 3
	const head = "bill_reference,amount_due,customer_reference\n"
	bad := strings.Repeat("B,5,C/\n", 2) + "A-1,100,C\nE,x,C\nF,y,C\nG,7,C/\n"
	r.drop(t, "flood.csv", head+bad)
	s := r.poll(t)[0]
	if s.Outcome != ledger.FileRejected || s.Code != ledger.CodeTooManyInvalidRows || s.Rows.Total != 6 || s.Rows.By[ledger.Invalid] != 5 || s.Rows.By[ledger.NotSent] != 1 ||
		s.Lines.Data != 6 || s.Amounts["ZAR"][ledger.Invalid] != 17 || s.Amounts["ZAR"][ledger.NotSent] != 100 {
		t.Errorf("%+v", s)
	}
	if n := r.statuses(t, s); n["invalid"] != 3 || len(n) != 1 {
		t.Errorf("results have %v", n)
	}
	rejects, err := os.ReadFile(filepath.Join(r.root, "results", report.NamesOf(s.Stem).Rejects))
	if err != nil || strings.Count(string(rejects), "\n") != 4 {
		t.Errorf("rejects: %s, %v", rejects, err)
	}
	if _, err := os.Stat(filepath.Join(r.root, "rejected", "flood.csv")); err != nil {
		t.Error(err)
	}
	r.drop(t, "half.csv", head+"B,5,C/\nD,5,C/\nE,x,C\nF,y,C\nA-1,100,C\nA-2,100,C\nA-3,100,C\nA-4,100,C\n")
	if s = r.poll(t)[0]; s.Outcome != ledger.CompletedWithErrors || s.Rows.By[ledger.Created] != 4 {
		t.Errorf("half of the rows: %+v", s)
	}
	r.drop(t, "three.csv", head+"B,5,C/\nD,5,C/\nE,x,C\nA-5,100,C\n")
	if s = r.poll(t)[0]; s.Outcome != ledger.CompletedWithErrors || s.Rows.By[ledger.Created] != 1 {
		t.Errorf("as many as there may be: %+v", s)
	}
}
