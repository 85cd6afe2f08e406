package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPublish(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "deep")
	for _, content := range []string{"first\n", "second, which replaces it\n"} {
		in := strings.NewReader(content)
		io.Copy(io.Discard, in) // Publish begins at the beginning
		if err := Publish(dir, "report.csv", in); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "report.csv"))
		if err != nil || string(got) != content {
			t.Errorf("%q, %v; want %q", got, err, content)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v; want the report alone", entries, err)
	}
}

// What could not be written whole is not there.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "half")
	broken := errors.New("broken")
	err := Write(path, func(w io.Writer) error {
		io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestSyncFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if size, err := SyncFile(path); size != 5 || err != nil {
		t.Errorf("%d, %v", size, err)
	}
	if _, err := SyncFile(path + "-not"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a file that is not there: %v", err)
	}
}

// Nothing is written through a link that another user has put there.
func TestWriteThroughNoLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".report.part", "report"} {
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Publish(dir, "report", strings.NewReader("ours")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"victim": "precious", "report": "ours"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want || !info.Mode().IsRegular() {
			t.Errorf("%s: %q, %v, %v", name, got, info.Mode(), err)
		}
	}
}
