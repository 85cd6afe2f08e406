package inbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

func TestList(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		when := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
		for i, name := range []string{"c.csv", "a.csv", "b.csv"} {
			r.put(t, "inbox/"+name, strings.Repeat("x", i+1))
			stamp := when.Add(time.Duration(i/2) * time.Minute) // two of them have the same time
			if err := os.Chtimes(filepath.Join(r.local, "inbox", name), stamp, stamp); err != nil {
				t.Fatal(err)
			}
		}
		later := when.Add(time.Hour)
		r.mkdir(t, "inbox/dir")
		if err := os.Chtimes(filepath.Join(r.local, "inbox/dir"), later, later); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("a.csv", filepath.Join(r.local, "inbox/link.csv")); err != nil {
			t.Fatal(err)
		}
		a := r.dial(t)
		got, err := a.List(t.Context(), r.path("inbox"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range got {
			names = append(names, e.Name)
		}
		if want := []string{"a.csv", "c.csv", "b.csv", "dir", "link.csv"}; !slices.Equal(names, want) {
			t.Fatalf("got %q, want %q", names, want)
		}
		if e := got[0]; !e.Regular || e.Dir || e.Link || e.Size != 2 || !e.ModTime.Equal(when) {
			t.Errorf("file: %+v", e)
		}
		if e := got[3]; e.Regular || !e.Dir || e.Link {
			t.Errorf("directory: %+v", e)
		}
		if e := got[4]; e.Regular || e.Dir || !e.Link {
			t.Errorf("link: %+v", e)
		}

		if e, err := a.Lstat(t.Context(), r.path("inbox/link.csv")); err != nil || !e.Link || e.Name != "link.csv" {
			t.Errorf("Lstat of a link: %+v, %v", e, err)
		}
		if _, err := a.Lstat(t.Context(), r.path("inbox/none.csv")); !errors.Is(err, inbox.ErrNotExist) {
			t.Errorf("Lstat of nothing: %v", err)
		}
		if _, err := a.List(t.Context(), r.path("nowhere")); !errors.Is(err, inbox.ErrNoDirectory) {
			t.Errorf("List of nothing: %v", err)
		}
	})
}

func TestListMany(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		const files = 1000
		for i := range files {
			r.put(t, fmt.Sprintf("inbox/%04d.csv", i), "")
		}
		got, err := r.dial(t).List(t.Context(), r.path("inbox"))
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for _, e := range got {
			seen[e.Name] = true
		}
		if len(got) != files || len(seen) != files {
			t.Errorf("%d entries, %d names, want %d", len(got), len(seen), files)
		}
	})
}

func TestRename(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		a := r.dial(t)
		r.mkdir(t, "processing")
		r.put(t, "inbox/a.csv", "new")
		r.put(t, "processing/taken.csv", "old")

		for _, c := range []struct {
			from, to string
			want     error
		}{
			{"inbox/a.csv", "processing/taken.csv", inbox.ErrExists},
			{"inbox/gone.csv", "processing/gone.csv", inbox.ErrNotExist},
			{"inbox/gone.csv", "processing/taken.csv", inbox.ErrNotExist},
			{"inbox/a.csv", "nowhere/a.csv", inbox.ErrNoDirectory},
			{"inbox/a.csv", "processing/a.csv", nil},
			{"inbox/a.csv", "processing/a.csv", inbox.ErrNotExist},
		} {
			err := a.Rename(t.Context(), r.path(c.from), r.path(c.to))
			if !errors.Is(err, c.want) {
				t.Errorf("%s → %s: got %v, want %v", c.from, c.to, err, c.want)
			}
			if errors.Is(err, inbox.ErrNoDirectory) && errors.Is(err, inbox.ErrNotExist) {
				t.Errorf("%s → %s: a missing directory looks like a lost claim: %v", c.from, c.to, err)
			}
		}
		if got := r.get(t, "processing/a.csv"); got != "new" {
			t.Errorf("moved file holds %q", got)
		}
		if got := r.get(t, "processing/taken.csv"); got != "old" {
			t.Errorf("the file that was there was overwritten: %q", got)
		}
	})
}

// TestRenameAppearsMeanwhile: a target that appears after the check is refused by the server
// itself.
func TestRenameAppearsMeanwhile(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	r.put(t, "inbox/a.csv", "new")
	r.mkdir(t, "processing")
	r.inProcess.SetHooks(sftpserver.Hooks{Before: before(func(op sftpserver.Op, _ string) error {
		if op == sftpserver.OpRename {
			return os.WriteFile(filepath.Join(r.local, "processing/a.csv"), []byte("other"), 0o600)
		}
		return nil
	})})
	err := r.dial(t).Rename(t.Context(), "/inbox/a.csv", "/processing/a.csv")
	if !errors.Is(err, inbox.ErrExists) {
		t.Errorf("got %v", err)
	}
	if got := r.get(t, "processing/a.csv"); got != "other" {
		t.Errorf("overwritten with %q", got)
	}
	if got := r.get(t, "inbox/a.csv"); got != "new" {
		t.Errorf("the file that could not be moved holds %q", got)
	}
}

func TestClaimRace(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		const workers, files = 8, 200
		r.mkdir(t, "processing")
		for i := range files {
			r.put(t, fmt.Sprintf("inbox/%03d.csv", i), fmt.Sprint(i))
		}
		won := make([][]int, workers) // files by worker
		var wg sync.WaitGroup
		for w := range workers {
			a := r.dial(t)
			wg.Go(func() {
				for i := range files {
					name := fmt.Sprintf("%03d.csv", i)
					// Every second file is claimed under a name of the worker's own: losing
					// must look the same.
					to := r.path("processing/" + name)
					if i%2 == 1 {
						to = r.path(fmt.Sprintf("processing/%d-%s", w, name))
					}
					switch err := a.Rename(t.Context(), r.path("inbox/"+name), to); {
					case err == nil:
						won[w] = append(won[w], i)
					case !errors.Is(err, inbox.ErrNotExist) && !errors.Is(err, inbox.ErrExists):
						t.Errorf("worker %d lost %s with %v", w, name, err)
					}
				}
			})
		}
		wg.Wait()
		winners := make([]int, files)
		for _, claims := range won {
			for _, i := range claims {
				winners[i]++
			}
		}
		for i, n := range winners {
			if n != 1 {
				t.Errorf("file %d has %d winners", i, n)
			}
		}
		if left := r.names(t, "inbox"); len(left) != 0 {
			t.Errorf("left in the inbox: %q", left)
		}
		if got := r.names(t, "processing"); len(got) != files {
			t.Errorf("%d files in processing, want %d", len(got), files)
		}
	})
}

func TestRemoveAndMkdir(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		a := r.dial(t)
		r.put(t, "inbox/a.csv", "a")
		for range 2 { // the second time it does not exist
			if err := a.Remove(t.Context(), r.path("inbox/a.csv")); err != nil {
				t.Fatal(err)
			}
		}
		if left := r.names(t, "inbox"); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
		if err := a.Remove(t.Context(), r.path("inbox")); !errors.Is(err, inbox.ErrNotRegular) {
			t.Errorf("remove a directory: %v", err)
		}
		for range 2 { // the second time it exists
			if err := a.Mkdir(t.Context(), r.path("deep/er/results")); err != nil {
				t.Fatal(err)
			}
		}
		r.names(t, "deep/er/results")
		r.put(t, "file", "")
		for _, dir := range []string{"file", "file/below"} {
			if err := a.Mkdir(t.Context(), r.path(dir)); !errors.Is(err, inbox.ErrExists) {
				t.Errorf("make directory %s: %v", dir, err)
			}
		}
	})
}

func TestFetch(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		a := r.dial(t)
		for _, size := range []int{0, 1, 32<<10 - 1, 32 << 10, 32<<10 + 1, 5<<20 + 17} {
			want := noise(size)
			r.put(t, "a.csv", string(want))
			if got := fetch(t, a, r.path("a.csv")); !bytes.Equal(got, want) {
				t.Errorf("%d bytes: got %d others", size, len(got))
			}
		}
		r.mkdir(t, "dir")
		if err := os.Symlink("a.csv", filepath.Join(r.local, "link.csv")); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]error{
			"link.csv": inbox.ErrNotRegular, "dir": inbox.ErrNotRegular, "none.csv": inbox.ErrNotExist,
		} {
			if _, err := a.Fetch(t.Context(), r.path(name), io.Discard); !errors.Is(err, want) {
				t.Errorf("fetch %s: got %v, want %v", name, err, want)
			}
		}
		// An error of the caller's writer is returned as it is, and the account stays usable.
		full := errors.New("no room in the spool")
		_, err := a.Fetch(t.Context(), r.path("a.csv"), writerFunc(func([]byte) (int, error) { return 0, full }))
		if !errors.Is(err, full) || errors.Is(err, inbox.ErrFull) || errors.Is(err, inbox.ErrUnreachable) {
			t.Errorf("failing writer: %v", err)
		}
		if got := fetch(t, a, r.path("a.csv")); len(got) != 5<<20+17 {
			t.Errorf("after a failing writer: %d bytes", len(got))
		}
	})
}

func TestFetchOfAMovingFile(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*os.File) error{
		"grows":       func(f *os.File) error { return f.Truncate(3 << 20) },
		"shrinks":     func(f *os.File) error { return f.Truncate(100) },
		"grows early": func(f *os.File) error { return f.Truncate(1<<20 + 1) },
	} {
		t.Run(name, func(t *testing.T) {
			r := startInProcess(t, sftpserver.Hooks{})
			r.put(t, "a.csv", string(noise(1<<20)))
			var once sync.Once
			r.inProcess.SetHooks(sftpserver.Hooks{Before: before(func(op sftpserver.Op, _ string) (err error) {
				if op == sftpserver.OpReadAt {
					once.Do(func() {
						var f *os.File
						if f, err = os.OpenFile(filepath.Join(r.local, "a.csv"), os.O_WRONLY, 0); err == nil {
							err = errors.Join(change(f), f.Close())
						}
					})
				}
				return err
			})})
			_, err := r.dial(t).Fetch(t.Context(), "/a.csv", io.Discard)
			if !errors.Is(err, inbox.ErrChanged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestReadOnlyServer(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, r *remote) {
		a := r.dial(t)
		r.put(t, "inbox/a.csv", "a")
		r.mkdir(t, "processing")
		for what, err := range map[string]error{
			"rename":  a.Rename(t.Context(), r.path("inbox/a.csv"), r.path("processing/a.csv")),
			"publish": a.Publish(t.Context(), r.path("processing"), "r.csv", strings.NewReader("r")),
			"remove":  a.Remove(t.Context(), r.path("inbox/a.csv")),
			"mkdir":   a.Mkdir(t.Context(), r.path("new")),
		} {
			if !errors.Is(err, inbox.ErrPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if got := fetch(t, a, r.path("inbox/a.csv")); string(got) != "a" {
			t.Errorf("fetched %q", got)
		}
		if got := r.names(t, "processing"); len(got) != 0 {
			t.Errorf("left behind: %q", got)
		}
	}
	t.Run("in process", func(t *testing.T) { test(t, startInProcess(t, sftpserver.Hooks{ReadOnly: true})) })
	t.Run("openssh", func(t *testing.T) { test(t, startOpenSSH(t, opensshtest.Config{ReadOnly: true})) })
}

func TestRefusedRename(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{Deny: []string{"rename"}})
	r.put(t, "inbox/a.csv", "a")
	r.mkdir(t, "processing")
	err := r.dial(t).Rename(t.Context(), r.path("inbox/a.csv"), r.path("processing/a.csv"))
	if !errors.Is(err, inbox.ErrPermission) {
		t.Errorf("got %v", err)
	}
}
