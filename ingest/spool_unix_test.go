//go:build unix

package ingest

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"billdrop/ingest/delivery"
)

// A full disk stops the run with a hint, and leaves nothing behind. The next try succeeds.
func TestSpoolFullDisk(t *testing.T) {
	s := spool{t.TempDir()}
	// A limit on the size of files stands in for the disk. It is larger than any other file that
	// the process writes meanwhile.
	const limit = 8 << 20
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = limit
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &few); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.take(t.Context(), "x", 0, writing(strings.Repeat("a bill file\n", limit/8)))
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, delivery.ErrStopped) || adviceOn(err) != "free some space" {
		t.Errorf("err = %v", err)
	}
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	sum, size, err := s.take(t.Context(), "x", 0, writing("a bill file"))
	if err != nil || size != 11 || sum != sha256Hex("a bill file") {
		t.Errorf("with room again: %s, %d, %v", sum, size, err)
	}
	if info, err := os.Stat(s.path("x")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
}
