package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
)

var dirs = Dirs{Inbox: "/inbox", Processing: "/processing", Archive: "/archive", Rejected: "/rejected", Results: "/results"}

// tree is the files of an SFTP server: path → content.
type tree map[string]string

// start serves a tree, and returns a place on it and the file that the tests are about.
func start(t *testing.T, files tree) (*Server, string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range dirs.All() {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		write(t, root, name, content)
	}
	s, err := sftpserver.Start(t.Context(), sftpserver.Config{Dir: root, Addr: "127.0.0.1:0", User: "acme", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	home := t.TempDir()
	write(t, home, "password", "secret")
	write(t, home, "known_hosts", s.KnownHostsLine())
	account, err := inbox.Dial(t.Context(), inbox.Config{
		Address: s.Addr(), User: "acme", PasswordFile: filepath.Join(home, "password"), KnownHostsFile: filepath.Join(home, "known_hosts"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { account.Close() })
	return &Server{Remote: account, Dirs: dirs, Marker: ".done"}, root
}

// modTime is that of every file of a tree.
var modTime = time.Unix(1_700_000_000, 0)

func write(t *testing.T, root, name, content string) {
	t.Helper()
	name = filepath.Join(root, name)
	if err := errors.Join(os.WriteFile(name, []byte(content), 0o600), os.Chtimes(name, modTime, modTime)); err != nil {
		t.Fatal(err)
	}
}

// files reads a tree back.
func files(t *testing.T, root string) tree {
	t.Helper()
	found := tree{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		rel, relErr := filepath.Rel(root, name)
		found["/"+filepath.ToSlash(rel)] = string(b)
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func expect(t *testing.T, root string, want tree) {
	t.Helper()
	if got := files(t, root); !maps.Equal(got, want) {
		t.Errorf("the server has %v, want %v", got, want)
	}
}

// claimed is bills.csv in processing/, with the content "abc".
func claimed() File {
	return File{Name: "bills.csv", Path: "/processing/bills.csv", Size: 3, ModTime: modTime, Stem: "bills-01234567"}
}

// The rename decides: the second of two claims is told so, and neither loses a file.
func TestClaim(t *testing.T) {
	s, root := start(t, tree{"/inbox/bills.csv": "abc"})
	for i, want := range []bool{true, false} {
		if ok, err := s.Claim(t.Context(), claimed()); ok != want || err != nil {
			t.Errorf("claim %d: %v, %v; want %v", i+1, ok, err, want)
		}
	}
	write(t, root, "/inbox/bills.csv", "def")
	if ok, err := s.Claim(t.Context(), claimed()); ok || err != nil {
		t.Errorf("claim where the name is taken: %v, %v", ok, err)
	}
	expect(t, root, tree{"/processing/bills.csv": "abc", "/inbox/bills.csv": "def"})
}

func TestClaimed(t *testing.T) {
	for _, c := range []struct {
		name  string
		files tree
		want  bool
	}{
		{"not renamed", tree{"/inbox/bills.csv": "abc"}, false},
		{"renamed", tree{"/processing/bills.csv": "abc"}, true},
		{"renamed, then changed", tree{"/processing/bills.csv": "abcd"}, true},
		{"renamed, then delivered again", tree{"/processing/bills.csv": "abc", "/inbox/bills.csv": "abc"}, true},
		{"another file has the name", tree{"/processing/bills.csv": "abcd", "/inbox/bills.csv": "abc"}, false},
		{"gone", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := start(t, c.files)
			if got, err := s.Claimed(t.Context(), claimed()); got != c.want || err != nil {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
}

// Repeating the step after a crash in the middle of it completes it.
func TestTakeCompanions(t *testing.T) {
	for _, before := range []tree{
		{"/inbox/bills.csv.sha256": "s", "/inbox/bills.csv.control.json": "c", "/inbox/bills.csv.done": ""},
		{"/processing/bills.csv.sha256": "s", "/inbox/bills.csv.control.json": "c", "/inbox/bills.csv.done": ""},
		{"/processing/bills.csv.sha256": "s", "/processing/bills.csv.control.json": "c"},
	} {
		s, root := start(t, before)
		if err := s.TakeCompanions(t.Context(), claimed()); err != nil {
			t.Error(err)
		}
		expect(t, root, tree{"/processing/bills.csv.sha256": "s", "/processing/bills.csv.control.json": "c"})
	}
}

func TestArchive(t *testing.T) {
	for _, c := range []struct {
		name     string
		before   tree
		rejected bool
		noCopy   bool
		path     string // "" = an error
		after    tree
	}{
		{"in processing", tree{"/processing/bills.csv": "abc", "/processing/bills.csv.sha256": "s"}, false, false,
			"/archive/bills.csv", tree{"/archive/bills.csv": "abc", "/archive/bills.csv.sha256": "s"}},
		{"rejected", tree{"/processing/bills.csv": "abc"}, true, false,
			"/rejected/bills.csv", tree{"/rejected/bills.csv": "abc"}},
		{"its name is taken", tree{"/processing/bills.csv": "abc", "/archive/bills.csv": "old"}, false, false,
			"/archive/bills-01234567.csv", tree{"/archive/bills.csv": "old", "/archive/bills-01234567.csv": "abc"}},
		{"both names are taken", tree{"/processing/bills.csv": "abc", "/archive/bills.csv": "1", "/archive/bills-01234567.csv": "2"}, false, false,
			"", tree{"/processing/bills.csv": "abc", "/archive/bills.csv": "1", "/archive/bills-01234567.csv": "2"}},
		{"stopped after the rename", tree{"/archive/bills.csv": "abc", "/processing/bills.csv.sha256": "s"}, false, false,
			"/archive/bills.csv", tree{"/archive/bills.csv": "abc", "/archive/bills.csv.sha256": "s"}},
		{"taken away", tree{"/archive/bills.csv": "other"}, false, false,
			"/archive/bills-01234567.csv", tree{"/archive/bills.csv": "other", "/archive/bills-01234567.csv": "abc"}},
		{"taken away, refused unread", nil, true, true, "/rejected/bills-01234567.csv", nil},
		{"changed", tree{"/processing/bills.csv": "abcd"}, false, false,
			"/archive/bills-01234567.csv", tree{"/archive/bills-01234567.csv": "abc", "/archive/bills-01234567.changed.csv": "abcd"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, root := start(t, c.before)
			f := claimed()
			f.Rejected = c.rejected
			spooled := func() (io.ReadSeekCloser, error) {
				if c.noCopy {
					return nil, fs.ErrNotExist
				}
				return nopCloser{strings.NewReader("abc")}, nil
			}
			at, err := s.Archive(t.Context(), f, spooled)
			if at != c.path || (err == nil) != (c.path != "") {
				t.Errorf("%q, %v; want %q", at, err, c.path)
			}
			if advised := new(Error); err != nil && !(errors.As(err, &advised) && advised.Advice() != "") {
				t.Errorf("%v has no hint", err)
			}
			expect(t, root, c.after)
			if at == "" || c.noCopy {
				return
			}
			f.Path = at // and a retry leaves it there
			if again, err := s.Archive(t.Context(), f, spooled); again != at || err != nil {
				t.Errorf("again: %q, %v", again, err)
			}
			expect(t, root, c.after)
		})
	}
}

// What was written to the file after it was read counts, a time alone does not. A file whose size
// differs is not read once more.
func TestChanged(t *testing.T) {
	later := claimed().ModTime.Add(time.Hour)
	for _, c := range []struct {
		name  string
		do    func(path string) error
		fetch error // what reading it fails with
		want  bool
		reads int
	}{
		{"as it was", func(string) error { return nil }, nil, false, 0},
		{"longer", func(path string) error { return os.WriteFile(path, []byte("abcd"), 0o600) }, nil, true, 0},
		{"touched", func(path string) error { return os.Chtimes(path, later, later) }, nil, false, 1},
		{"as long", func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("abd"), 0o600), os.Chtimes(path, later, later))
		}, nil, true, 1},
		{"written to while it is read", func(path string) error { return os.Chtimes(path, later, later) }, inbox.ErrChanged, true, 1},
		{"unreadable", func(path string) error { return os.Chtimes(path, later, later) }, inbox.ErrPermission, false, 1},
		{"a link", func(path string) error { return errors.Join(os.Remove(path), os.Symlink("elsewhere", path)) }, nil, true, 0},
		{"a directory", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, nil, true, 0},
		{"gone", os.Remove, nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := claimed()
			s, root := start(t, tree{f.Path: "abc"})
			if err := c.do(filepath.Join(root, f.Path)); err != nil {
				t.Fatal(err)
			}
			reads := &reader{Remote: s.Remote, err: c.fetch}
			s.Remote = reads
			sum := sha256.Sum256([]byte("abc"))
			if got := s.Changed(t.Context(), f, hex.EncodeToString(sum[:])); got != c.want || reads.n != c.reads {
				t.Errorf("%t after reading it %d times, want %t and %d", got, reads.n, c.want, c.reads)
			}
		})
	}
}

// reader counts what is fetched, and fails if it is told to.
type reader struct {
	Remote
	err error
	n   int
}

func (r *reader) Fetch(ctx context.Context, path string, w io.Writer) (int64, error) {
	if r.n++; r.err != nil {
		return 0, r.err
	}
	return r.Remote.Fetch(ctx, path, w)
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func TestCompanion(t *testing.T) {
	s, _ := start(t, tree{
		"/processing/bills.csv.sha256": "", "/processing/bills.csv.control.json": strings.Repeat("x", CompanionLimit+1),
	})
	if b, err := s.Companion(t.Context(), claimed(), ChecksumSuffix); b == nil || len(b) != 0 || err != nil {
		t.Errorf("an empty companion: %v, %v; want one that is there", b, err)
	}
	if _, err := s.Companion(t.Context(), claimed(), ControlSuffix); !errors.Is(err, ErrUnusableCompanion) {
		t.Errorf("a companion over the limit: %v", err)
	}
	if b, err := s.Companion(t.Context(), claimed(), ".other"); b != nil || err != nil {
		t.Errorf("no companion: %v, %v", b, err)
	}
}

// An imported file stays where it is, and its reports are written, found and withdrawn in
// their directory.
func TestLocal(t *testing.T) {
	root := t.TempDir()
	write(t, root, "bills.csv", "abc")
	write(t, root, "bills.csv.sha256", "s")
	f := File{Name: "bills.csv", Path: filepath.Join(root, "bills.csv")}
	l := Local{Results: filepath.Join(root, "out")}
	var got bytes.Buffer
	if at, err := l.Fetch(t.Context(), f, &got); err != nil || !at.Equal(modTime) || got.String() != "abc" {
		t.Errorf("fetch: %q, %v, %v", got.String(), at, err)
	}
	if b, err := l.Companion(t.Context(), f, ChecksumSuffix); string(b) != "s" || err != nil {
		t.Errorf("companion: %q, %v", b, err)
	}
	longest := File{Name: strings.Repeat("n", 251) + ".csv"} // its companions' names would have more than the 255 bytes of most file systems
	longest.Path = filepath.Join(root, longest.Name)
	if b, err := l.Companion(t.Context(), longest, ControlSuffix); b != nil || err != nil {
		t.Errorf("companion of a file with the longest name: %q, %v", b, err)
	}
	reported := func() bool {
		ok, err := l.Reported(t.Context(), "r")
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	found := []bool{reported()}
	if err := l.Publish(t.Context(), "r", strings.NewReader("report")); err != nil {
		t.Error(err)
	}
	found = append(found, reported())
	for range 2 {
		if err := l.Withdraw(t.Context(), "r"); err != nil {
			t.Error(err)
		}
	}
	if found = append(found, reported()); !slices.Equal(found, []bool{false, true, false}) {
		t.Errorf("the report was found: %v", found)
	}
	if at, err := l.Archive(t.Context(), f, nil); at != f.Path || err != nil {
		t.Errorf("archive: %q, %v", at, err)
	}
	if _, err := l.Fetch(t.Context(), File{Name: "stdin"}, io.Discard); !errors.Is(err, ErrNoSource) {
		t.Errorf("fetch of standard input: %v", err)
	}
	if _, err := l.Fetch(t.Context(), File{Path: path.Join(root, "gone")}, io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("fetch of a file that is gone: %v", err)
	}
}
