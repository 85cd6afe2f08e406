package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHolder: who holds a ledger is seen without a lock being taken.
func TestHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	holder := func() int {
		t.Helper()
		pid, seen, err := Holder(path)
		if err != nil || !seen {
			t.Fatalf("Holder: seen %v, %v", seen, err)
		}
		return pid
	}
	if pid := holder(); pid != 0 {
		t.Errorf("a ledger that was never opened is held by %d", pid)
	}
	l, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if pid := holder(); pid != os.Getpid() {
		t.Errorf("held by %d, want %d", pid, os.Getpid())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if pid := holder(); pid != 0 {
		t.Errorf("a closed ledger is held by %d", pid)
	}
}
