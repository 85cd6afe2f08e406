package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// TestBackup: what was recorded before is in the copy, which is a ledger, whatever is
// written meanwhile; and no file is overwritten.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	l, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	scope := ledger.Scope{Merchant: "acme", Mode: "test"}
	for _, id := range []string{"first", "second"} {
		if err := l.AddFile(t.Context(), &ledger.File{ID: id, Feed: "bills", Scope: scope, State: ledger.Sending, Received: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	bill := &ledger.Bill{Reference: "INV-1", Send: ledger.Send{File: "first", Row: 1, Generation: 1, Count: 1, Key: "k", At: time.Now()}}
	if err := l.Begin(t.Context(), scope, bill); err != nil {
		t.Fatal(err)
	}
	reader, err := OpenReadOnly(t.Context(), path) // beside the worker, as the command does
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	to := filepath.Join(dir, "copy ?#%.db")
	size, err := reader.Backup(t.Context(), to)
	info, serr := os.Stat(to)
	if err != nil || serr != nil || info.Size() != size || info.Mode() != 0o600 {
		t.Fatalf("%d bytes, %v; %v, %v", size, err, info, serr)
	}
	if err := l.AddFile(t.Context(), &ledger.File{ID: "later", Scope: scope, State: ledger.Sending}); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Backup(t.Context(), to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an existing file: %v", err)
	}
	if _, err := reader.Backup(t.Context(), filepath.Join(dir, "none", "copy.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a directory that is not there: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	restored, err := Open(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	files, err := restored.Files(t.Context(), ledger.Query{})
	if err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
	want, err := l.Bills(t.Context(), scope, []string{"INV-1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := restored.Bills(t.Context(), scope, []string{"INV-1"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestBackupOfDamage: a copy that is not whole does not get its name.
func TestBackupOfDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	l, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := l.AddFile(t.Context(), &ledger.File{ID: id, State: ledger.Sending}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(content) / 2; i < len(content); i++ {
		content[i] = 0xff
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := whole(t.Context(), path); err == nil {
		t.Error("the damage is not seen")
	}
	if _, err := reader.Backup(t.Context(), filepath.Join(dir, "copy.db")); err == nil {
		t.Error("a damaged ledger was backed up")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*copy*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
