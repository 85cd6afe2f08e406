package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// before is a hook without a context.
func before(f func(op sftpserver.Op, path string) error) func(context.Context, sftpserver.Op, string) error {
	return func(_ context.Context, op sftpserver.Op, path string) error { return f(op, path) }
}

func testPublish(t *testing.T, r *remote) {
	a := r.dial(t)
	r.mkdir(t, "results")
	large := string(noise(3<<20 + 5))
	for _, content := range []string{"first", "second, longer", "third", large, "", "", "last"} {
		publish(t, a, r.path("results"), "r.csv", content)
		if got := r.get(t, "results/r.csv"); got != content {
			t.Fatalf("%d bytes published, %d others there", len(content), len(got))
		}
		if got := r.names(t, "results"); !slices.Equal(got, []string{"r.csv"}) {
			t.Fatalf("in results: %q", got)
		}
	}
	// The remains of a crash are removed, whatever they hold.
	r.put(t, "results/.r.csv.part", large)
	publish(t, a, r.path("results"), "r.csv", "after a crash")
	if got := r.names(t, "results"); !slices.Equal(got, []string{"r.csv"}) {
		t.Errorf("after a crash: %q", got)
	}
	r.mkdir(t, "results/dir.csv")
	err := a.Publish(t.Context(), r.path("results"), "dir.csv", strings.NewReader("x"))
	if !errors.Is(err, inbox.ErrExists) {
		t.Errorf("over a directory: %v", err)
	}
	err = a.Publish(t.Context(), r.path("nowhere"), "r.csv", strings.NewReader("x"))
	if !errors.Is(err, inbox.ErrNoDirectory) {
		t.Errorf("to nowhere: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../r.csv"} {
		if err := a.Publish(t.Context(), r.path("results"), name, strings.NewReader("x")); !errors.Is(err, inbox.ErrRefused) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	onBoth(t, testPublish)
}

func TestPublishWithoutExtensions(t *testing.T) {
	t.Parallel()
	t.Run("not announced", func(t *testing.T) {
		testPublish(t, startInProcess(t, sftpserver.Hooks{NoPosixRename: true, NoFsync: true}))
	})
	for name, hooks := range map[string]sftpserver.Hooks{
		"no fstat":      {NoFstat: true},
		"no O_EXCL":     {NoExcl: true},
		"no kinds":      {NoTypes: true},
		"vague":         {VagueMissing: true},
		"none of these": {NoPosixRename: true, NoFsync: true, NoFstat: true, NoExcl: true, NoTypes: true, VagueMissing: true},
	} {
		t.Run(name, func(t *testing.T) { testPublish(t, startInProcess(t, hooks)) })
	}
	t.Run("announced but refused", func(t *testing.T) {
		testPublish(t, startOpenSSH(t, opensshtest.Config{Deny: []string{"posix-rename", "fsync"}}))
	})
}

func TestPublishSyncs(t *testing.T) {
	t.Parallel()
	var synced, written atomic.Int64
	r := startInProcess(t, sftpserver.Hooks{Before: before(func(op sftpserver.Op, path string) error {
		switch op {
		case sftpserver.OpWriteAt:
			written.Add(1)
		case sftpserver.OpFsync:
			synced.Add(1)
			if path != "/results/.r.csv.part" {
				t.Errorf("synced %s", path)
			}
		case sftpserver.OpPosixRename:
			if synced.Load() != 1 {
				t.Error("renamed before it was synced")
			}
		}
		return nil
	})})
	r.mkdir(t, "results")
	a := r.dial(t)
	for range 2 { // the second time it exists with the same bytes
		publish(t, a, "/results", "r.csv", "content")
		if synced.Load() != 1 || written.Load() != 1 {
			t.Errorf("%d writes, %d syncs, want one of each", written.Load(), synced.Load())
		}
	}
}

// TestPublishCrashes breaks the connection before each request of a publication in turn, and
// then publishes again.
func TestPublishCrashes(t *testing.T) {
	t.Parallel()
	for name, hooks := range map[string]sftpserver.Hooks{"posix-rename": {}, "plain rename": {NoPosixRename: true, NoFsync: true}} {
		t.Run(name, func(t *testing.T) {
			r := startInProcess(t, sftpserver.Hooks{})
			r.mkdir(t, "results")
			old, content := string(noise(100_000)), strings.Repeat("new", 30_000)
			crashes := 0
			for survived := false; !survived; crashes++ {
				r.put(t, "results/r.csv", old)
				var count atomic.Int64
				last := int64(crashes + 1) // a session of an earlier round may still be ending
				faulty := hooks
				faulty.Before = before(func(sftpserver.Op, string) error {
					if count.Add(1) == last {
						r.inProcess.Drop()
					}
					return nil
				})
				r.inProcess.SetHooks(faulty)
				a := r.dial(t)
				err := a.Publish(t.Context(), "/results", "r.csv", strings.NewReader(content))
				survived = err == nil
				if !survived && !errors.Is(err, inbox.ErrUnreachable) {
					t.Fatalf("crash %d: %v", crashes, err)
				}
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
				r.inProcess.SetHooks(hooks)
				publish(t, r.dial(t), "/results", "r.csv", content)
				if got := r.get(t, "results/r.csv"); got != content {
					t.Fatalf("crash %d: other bytes there", crashes)
				}
				if got := r.names(t, "results"); !slices.Equal(got, []string{"r.csv"}) {
					t.Fatalf("crash %d: %q", crashes, got)
				}
			}
			if crashes < 10 {
				t.Errorf("only %d crashes: the hook does not see the requests", crashes)
			}
		})
	}
}

func TestPublishFull(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, r *remote) {
		r.mkdir(t, "results")
		r.put(t, "results/r.csv", "old")
		a := r.dial(t)
		err := a.Publish(t.Context(), r.path("results"), "r.csv", bytes.NewReader(noise(1<<20)))
		if !errors.Is(err, inbox.ErrFull) {
			t.Errorf("got %v", err)
		}
		if got := r.get(t, "results/r.csv"); got != "old" {
			t.Errorf("the old file holds %d other bytes", len(got))
		}
		if got := r.names(t, "results"); !slices.Equal(got, []string{"r.csv"}) {
			t.Errorf("left behind: %q", got)
		}
		publish(t, a, r.path("results"), "small.csv", "there is room for this")
	}
	t.Run("in process", func(t *testing.T) { test(t, startInProcess(t, sftpserver.Hooks{FullAfter: 300_000})) })
	t.Run("openssh", func(t *testing.T) { test(t, startOpenSSH(t, opensshtest.Config{FileLimit: 300_000})) })
}

// TestPublishMismatch: a server stores other bytes than it was sent, before or at the rename.
func TestPublishMismatch(t *testing.T) {
	t.Parallel()
	for _, at := range []sftpserver.Op{sftpserver.OpFsync, sftpserver.OpPosixRename} {
		r := startInProcess(t, sftpserver.Hooks{})
		r.mkdir(t, "results")
		r.inProcess.SetHooks(sftpserver.Hooks{Before: before(func(op sftpserver.Op, path string) error {
			if op == at {
				return os.WriteFile(filepath.Join(r.local, path), []byte("kontent"), 0o600)
			}
			return nil
		})})
		err := r.dial(t).Publish(t.Context(), "/results", "r.csv", strings.NewReader("content"))
		if !errors.Is(err, inbox.ErrMismatch) {
			t.Errorf("at %s: got %v", at, err)
		}
		if _, err := os.Stat(filepath.Join(r.local, "results/r.csv")); at == sftpserver.OpFsync && err == nil {
			t.Error("a damaged file was put in place")
		}
	}
}

// TestPublishIsCollected: another program takes every file away as soon as it appears under its
// name, whichever request of billdrop's comes next.
func TestPublishIsCollected(t *testing.T) {
	t.Parallel()
	for _, at := range []sftpserver.Op{sftpserver.OpLstat, sftpserver.OpRead} {
		r := startInProcess(t, sftpserver.Hooks{})
		r.mkdir(t, "results")
		collected := ""
		r.inProcess.SetHooks(sftpserver.Hooks{Before: before(func(op sftpserver.Op, path string) error {
			if op == at && path == "/results/r.csv" {
				final := filepath.Join(r.local, path)
				if b, err := os.ReadFile(final); err == nil {
					collected = string(b)
					return os.Remove(final)
				}
			}
			return nil
		})})
		publish(t, r.dial(t), "/results", "r.csv", "content")
		if collected != "content" {
			t.Errorf("at %s: collected %q", at, collected)
		}
		if left := r.names(t, "results"); len(left) != 0 {
			t.Errorf("at %s: left behind %q", at, left)
		}
	}
}

// failing is content whose second reading fails.
type failing struct {
	*strings.Reader
	seeks int
	err   error
}

func (f *failing) Seek(offset int64, whence int) (int64, error) {
	f.seeks++
	return f.Reader.Seek(offset, whence)
}

func (f *failing) Read(p []byte) (int, error) {
	if f.seeks > 1 {
		return 0, f.err
	}
	return f.Reader.Read(p)
}

func TestPublishOfUnreadableContent(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		r.mkdir(t, "results")
		a := r.dial(t)
		broken := errors.New("local disk is broken")
		err := a.Publish(t.Context(), r.path("results"), "r.csv", &failing{Reader: strings.NewReader("content"), err: broken})
		if !errors.Is(err, broken) || errors.Is(err, inbox.ErrFull) {
			t.Errorf("got %v", err)
		}
		if got := r.names(t, "results"); len(got) != 0 {
			t.Errorf("left behind: %q", got)
		}
		publish(t, a, r.path("results"), "r.csv", "content")
	})
}
