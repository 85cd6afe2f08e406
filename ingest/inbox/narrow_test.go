package inbox_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
)

// TestNarrowServer: everything but publishing, on a server that lacks all that servers were seen
// to lack.
func TestNarrowServer(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{
		NoPosixRename: true, NoFsync: true, NoFstat: true, NoExcl: true, NoTypes: true, VagueMissing: true,
	})
	large := string(noise(3<<20 + 5))
	r.put(t, "inbox/a.csv", large)
	r.put(t, "inbox/b.csv", "b")
	r.mkdir(t, "inbox/dir")
	a := r.dial(t)
	entries, err := a.List(t.Context(), "/inbox")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Dir != (e.Name == "dir") || e.Regular == e.Dir {
			t.Errorf("%+v", e)
		}
	}
	if _, err := a.Lstat(t.Context(), "/inbox/none"); !errors.Is(err, inbox.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if e, err := a.Lstat(t.Context(), "/inbox"); err != nil || !e.Dir {
		t.Errorf("a directory: %+v, %v", e, err)
	}
	if got := fetch(t, a, "/inbox/a.csv"); !bytes.Equal(got, []byte(large)) {
		t.Errorf("fetched %d other bytes", len(got))
	}
	if _, err := a.Fetch(t.Context(), "/inbox/dir", new(bytes.Buffer)); !errors.Is(err, inbox.ErrNotRegular) {
		t.Errorf("fetch of a directory: %v", err)
	}
	if err := a.Rename(t.Context(), "/inbox/a.csv", "/inbox/b.csv"); !errors.Is(err, inbox.ErrExists) {
		t.Errorf("over another file: %v", err)
	}
	if err := a.Rename(t.Context(), "/inbox/none", "/none"); !errors.Is(err, inbox.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	if err := a.Rename(t.Context(), "/inbox/a.csv", "/a.csv"); err != nil {
		t.Errorf("rename: %v", err)
	}
	for range 2 {
		if err := a.Remove(t.Context(), "/a.csv"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	for range 2 {
		if err := a.Mkdir(t.Context(), "/new/deep"); err != nil {
			t.Errorf("mkdir: %v", err)
		}
	}
}

// TestTemporaryName: files are written under the name that the configuration gives.
func TestTemporaryName(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{"": ".r.csv.part", "{name}.tmp": "r.csv.tmp", "~{name}": "~r.csv"} {
		written := ""
		r := startInProcess(t, sftpserver.Hooks{Before: before(func(op sftpserver.Op, path string) error {
			if op == sftpserver.OpWrite {
				written = path
			}
			return nil
		})})
		r.cfg.Temporary = pattern
		r.mkdir(t, "results")
		publish(t, r.dial(t), "/results", "r.csv", "content")
		if written != "/results/"+want || strings.Join(r.names(t, "results"), " ") != "r.csv" {
			t.Errorf("%q: written as %s, left %q", pattern, written, r.names(t, "results"))
		}
	}
	for _, pattern := range []string{"{name}", "x", "{name}{name}", "tmp/{name}", "{name}\n"} {
		r := startInProcess(t, sftpserver.Hooks{})
		r.cfg.Temporary = pattern
		check(t, dialOnce(t, r.cfg), inbox.ErrConfig, "sftp.temporary_name")
	}
}
