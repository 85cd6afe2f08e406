package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/sqlite"
)

func TestPayments(t *testing.T) {
	defer goleak.VerifyNone(t)
	ledgertest.RunPayments(t, func(t *testing.T, dir string) ledger.Payments {
		t.Helper()
		p, err := sqlite.OpenPayments(t.Context(), filepath.Join(dir, "ledger.db"))
		if err != nil {
			t.Error(err)
			return nil
		}
		return p
	})
}

// Payments are received while another process holds the ledger, whatever path leads to it, and
// their file is closed to others.
func TestPaymentsBesideTheLedger(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "ledger.db"))
	defer l.Close()
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(filepath.Join(dir, "ledger.db"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.OpenPaymentsReadOnly(t.Context(), link); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("there are none yet: %v", err)
	}
	p, err := sqlite.OpenPayments(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Receive(t.Context(), scope, "msg_1", ledger.Payment{EventID: "evt_1"}); err != nil {
		t.Fatal(err)
	}
	ro, err := sqlite.OpenPaymentsReadOnly(t.Context(), filepath.Join(dir, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if list, err := ro.List(t.Context(), scope, ledger.PaymentQuery{}); err != nil || len(list) != 1 {
		t.Errorf("read %v, %v", list, err)
	}
	if _, err := ro.Receive(t.Context(), scope, "msg_2", ledger.Payment{EventID: "evt_2"}); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("received read-only: %v", err)
	}
	for _, name := range []string{"ledger.db-events", "ledger.db-events-wal"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// What is not payments is not touched.
func TestPaymentsOfAnotherKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	for name, make := range map[string]func(file string) error{
		"a ledger": func(file string) error { return open(t, file).Close() },
		"a text": func(file string) error {
			return os.WriteFile(file, []byte(strings.Repeat("not a database ", 99)), 0o600)
		},
	} {
		file := sqlite.PaymentsPath(path)
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		if err := make(file); err != nil {
			t.Fatal(err)
		}
		if p, err := sqlite.OpenPayments(t.Context(), path); !errors.Is(err, ledger.ErrUnusable) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if _, err := sqlite.OpenPayments(t.Context(), filepath.Join(t.TempDir(), "nosuch", "ledger.db")); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("without a directory: %v", err)
	}
}
