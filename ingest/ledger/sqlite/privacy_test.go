package sqlite_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"billdrop/ingest/ledger"
)

// TestNoReferenceOnDisk: the reference of a customer or account is in no byte of any file
// of the ledger, not while it is in use and not afterwards. What must be there is: the
// test would see it.
func TestNoReferenceOnDisk(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "ledger.db"))
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		ref := ledger.PartyRef{Kind: ledger.Customer + ledger.PartyKind(i%2), Reference: fmt.Sprintf("canary-%04d", i)}
		err := l.Record(t.Context(), ledger.Entry{Scope: scope, Parties: []ledger.Party{{PartyRef: ref, ID: "bcus_visible"}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Another process copies the files: opening them in this one would drop SQLite's
	// locks.
	copied := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "cp", "-R", dir+"/.", copied).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	scanFor(t, "in use", copied)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	scanFor(t, "after Close", dir)
}

func scanFor(t *testing.T, when, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	visible := false
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte("canary")) {
			t.Errorf("%s: a party's reference is in %s", when, e.Name())
		}
		visible = visible || bytes.Contains(content, []byte("bcus_visible"))
	}
	if !visible {
		t.Errorf("%s: not even the party's id was found", when)
	}
}
