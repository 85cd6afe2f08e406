package ingest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
)

// TestPrune: what ended before a time goes, with its local reports; what did not end, or
// later, stays, and so does what is on a server.
func TestPrune(t *testing.T) {
	dir, led := t.TempDir(), ledgertest.NewMemory()
	now := time.Now()
	old, recent := now.Add(-100*24*time.Hour), now.Add(-time.Hour)
	for _, f := range []ledger.File{
		{ID: "old", Origin: ledger.FromLocal, State: ledger.Done, Received: old, Finished: old, Rows: 3},
		{ID: "late", Origin: ledger.FromLocal, State: ledger.Done, Received: old, Finished: recent, Rows: 5},
		{ID: "held", Origin: ledger.FromLocal, State: ledger.Held, Received: old},
		{ID: "sending", Origin: ledger.FromLocal, State: ledger.Sending, Received: old},
		{ID: "dropped", Origin: ledger.FromInbox, State: ledger.Dropped, Received: old},
		{ID: "remote", Origin: ledger.FromInbox, State: ledger.Done, Received: old, Finished: old, Rows: 7},
	} {
		f.Results, f.Stem = dir, "stem-"+f.ID
		if err := led.AddFile(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
		names := report.NamesOf(f.Stem)
		for _, name := range []string{names.Ack, names.Results, names.Summary} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func() (files []string, reports int) {
		t.Helper()
		list, err := led.Files(t.Context(), ledger.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			files = append(files, f.ID)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return files, len(entries)
	}
	before := now.Add(-90 * 24 * time.Hour)
	would, err := Prune(t.Context(), led, before, true)
	if err != nil || would != (Pruned{Files: 3, Rows: 10, Reports: 3}) {
		t.Errorf("dry run: %+v, %v", would, err)
	}
	if files, reports := left(); len(files) != 6 || reports != 18 {
		t.Errorf("a dry run left %v and %d reports", files, reports)
	}
	if _, err := Prune(t.Context(), led, before, false); err != nil {
		t.Fatal(err)
	}
	files, reports := left()
	if len(files) != 3 || reports != 15 {
		t.Errorf("left are %v and %d reports, want late, held, sending and 15", files, reports)
	}
	if again, err := Prune(t.Context(), led, before, false); err != nil || again != (Pruned{}) {
		t.Errorf("pruned again: %+v, %v", again, err)
	}
}
