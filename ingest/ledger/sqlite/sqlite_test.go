package sqlite_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/sqlite"
)

var scope = ledger.Scope{Merchant: "acme", Mode: "test"}

func TestConformance(t *testing.T) {
	defer goleak.VerifyNone(t)
	ledgertest.Run(t, ledgertest.Engine{
		Open: func(t *testing.T, dir string) ledger.Ledger {
			t.Helper()
			return open(t, filepath.Join(dir, "ledger.db"))
		},
		Crash: func(t *testing.T, l ledger.Ledger) {
			t.Helper()
			if err := sqlite.Crash(l.(*sqlite.Ledger)); err != nil {
				t.Fatalf("crash: %v", err)
			}
		},
	})
}

// open opens the ledger at path; the caller closes it.
func open(t *testing.T, path string) *sqlite.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
