//go:build unix

package durable

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file is read up to a limit, and only a regular one, without waiting.
func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	file, pipe, open := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "open")
	if err := errors.Join(os.WriteFile(file, []byte("abc"), 0o640), syscall.Mkfifo(pipe, 0o600), syscall.Mkfifo(open, 0o600)); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(open, os.O_RDWR, 0) // a pipe that has a writer and never an end
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if b, info, err := ReadRegular(file, 3); string(b) != "abc" || err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("read %q, %v, %v", b, info, err)
	}
	if _, _, err := ReadRegular(file, 2); !errors.Is(err, ErrTooLarge) {
		t.Errorf("above the limit: %v", err)
	}
	for _, path := range []string{pipe, open, dir, "/dev/zero"} {
		if b, _, err := ReadRegular(path, 1<<40); !errors.Is(err, ErrNotRegular) || b != nil {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
	}
}

// Only regular files are opened, and nothing is waited for.
func TestOpenRegular(t *testing.T) {
	dir := t.TempDir()
	file, pipe, link, socket := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "socket")
	if err := errors.Join(os.WriteFile(file, []byte("abc"), 0o600), syscall.Mkfifo(pipe, 0o600), os.Symlink(pipe, link)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := OpenRegular(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4)
	if n, err := f.Read(b); n != 3 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	for _, path := range []string{pipe, link, dir, "/dev/null"} {
		if _, err := OpenRegular(path); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := OpenRegular(socket); err == nil {
		t.Error("a socket was opened")
	}
	if _, err := OpenRegular(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
