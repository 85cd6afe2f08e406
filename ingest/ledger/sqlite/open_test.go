package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

func TestOpenMakesPrivateFiles(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "ledger.db"))
	defer l.Close()
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f"}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", e.Name(), info.Mode())
		}
	}
	if want := "ledger.db ledger.db-shm ledger.db-wal ledger.db.lock"; strings.Join(names, " ") != want {
		t.Errorf("files %v, want %s", names, want)
	}
}

// A path may hold what a URI or a shell would read as something else.
func TestOpenOddPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b%20?x=1#ä&mode=memory")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "led ger?.db")
	l := open(t, path)
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the ledger is elsewhere: %v", err)
	}
	l = open(t, path)
	defer l.Close()
	if _, err := l.File(t.Context(), "f"); err != nil {
		t.Error(err)
	}
}

// A relative path works, and goes on working for the connections that are made later.
func TestOpenRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	l := open(t, "ledger.db")
	defer l.Close()
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f"}); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if _, err := l.File(t.Context(), "f"); err != nil {
		t.Error(err)
	}
}

func TestOpenLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path)
	for range 2 { // a refused Open must not take the lock away
		if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, ledger.ErrLocked) {
			t.Fatalf("second Open: %v, want ErrLocked", err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
}

// One ledger has one lock, whatever path leads to it, and a refused Open does not take
// SQLite's own locks away.
func TestOpenLockedByAnyName(t *testing.T) {
	links := map[string]func(old, new string) error{"symbolic link": os.Symlink}
	if runtime.GOOS == "linux" {
		links["hard link"] = os.Link
	}
	for name, link := range links {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, other := filepath.Join(dir, "ledger.db"), filepath.Join(t.TempDir(), "other.db")
			if err := open(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			for _, order := range [][2]string{{path, other}, {other, path}} {
				if name == "symbolic link" {
					remake(t, link, path, other)
				}
				l := open(t, order[0])
				if name == "hard link" { // made while it is in use: see TestOpenHardLinks
					remake(t, link, order[0], order[1])
				}
				for range 2 {
					if _, err := sqlite.Open(t.Context(), order[1]); !errors.Is(err, ledger.ErrLocked) {
						t.Fatalf("Open of %s beside %s: %v, want ErrLocked", order[1], order[0], err)
					}
				}
				if err := l.AddFile(t.Context(), &ledger.File{ID: filepath.Base(order[0])}); err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if name == "hard link" {
					if err := os.Remove(order[0]); err != nil {
						t.Fatal(err)
					}
				}
				if err := open(t, order[1]).Close(); err != nil {
					t.Fatalf("after Close: %v", err)
				}
			}
		})
	}
}

// remake makes a link in place of one that may be there.
func remake(t *testing.T, link func(old, new string) error, old, new string) {
	t.Helper()
	if err := os.Remove(new); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := link(old, new); err != nil {
		t.Fatal(err)
	}
}

// After a crash the latest commits are in NAME-wal, which another name of the file does not
// have. So a file with several names is opened under none of them.
func TestOpenHardLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("hard links are not counted on Windows")
	}
	running, dir := filepath.Join(t.TempDir(), "ledger.db"), t.TempDir()
	path, other := filepath.Join(dir, "ledger.db"), filepath.Join(t.TempDir(), "other.db")
	l := open(t, running)
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f"}); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} { // what a crash would leave
		b, err := os.ReadFile(running + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	for how, openIt := range map[string]func(context.Context, string) (*sqlite.Ledger, error){"Open": sqlite.Open, "OpenReadOnly": sqlite.OpenReadOnly} {
		for name, hint := range map[string]string{path: "keep this one, because", other: "keep this one only if"} {
			l, err := openIt(t.Context(), name)
			if !errors.Is(err, ledger.ErrLinked) || !strings.Contains(sqlite.Printed(err), "it has 2 names\nhint: ") || !strings.Contains(sqlite.Printed(err), hint) {
				t.Errorf("%s of %s: %s", how, filepath.Base(name), sqlite.Printed(err))
			}
			if err == nil {
				if _, err := l.File(t.Context(), "f"); err != nil {
					t.Errorf("and under %s: %v", name, err)
				}
				l.Close()
			}
		}
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	l = open(t, path)
	defer l.Close()
	if _, err := l.File(t.Context(), "f"); err != nil {
		t.Error(err)
	}
}

// A restored backup under the name of a ledger in use is refused too.
func TestOpenLockedExchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path)
	defer l.Close()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Skipf("an open file cannot be renamed here: %v", err)
	}
	if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("Open: %v, want ErrLocked", err)
	}
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
}

// sqlExec changes a database that is not open as a ledger.
func sqlExec(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// What cannot be a ledger is refused, each in its own words, and is left as it was.
func TestOpenUnusable(t *testing.T) {
	defer goleak.VerifyNone(t)
	newer := func(t *testing.T, path string) {
		t.Helper()
		if err := open(t, path).Close(); err != nil {
			t.Fatal(err)
		}
		sqlExec(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	}
	for _, c := range []struct {
		name   string
		path   string // below the test's directory
		before func(t *testing.T, path string)
		want   string
	}{
		{"no directory", "missing/ledger.db", nil, "hint: make it: mkdir -p"},
		{"a file for a directory", "file/ledger.db", func(t *testing.T, path string) {
			if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
		{"a directory", "dir", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "it is a directory"},
		{"no database", "notes.txt", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("bill_reference,amount_due\n", 100)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "hint: the file is not a ledger"},
		{"a database of something else", "cookies.db", func(t *testing.T, path string) {
			sqlExec(t, path, "CREATE TABLE cookies (a)")
		}, "not a billdrop ledger"},
		{"a database that something else has marked as its own", "app.db", func(t *testing.T, path string) {
			sqlExec(t, path, "PRAGMA application_id = 7")
		}, "not a billdrop ledger"},
		{"a ledger of a newer billdrop", "newer.db", newer, "newer billdrop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.path)
			if c.before != nil {
				c.before(t, path)
			}
			before, _ := os.ReadFile(path) // none in some cases: then none is wanted afterwards
			for how, openIt := range map[string]func(context.Context, string) (*sqlite.Ledger, error){"Open": sqlite.Open, "OpenReadOnly": sqlite.OpenReadOnly} {
				if how == "OpenReadOnly" && strings.Contains(path, "/ledger.db") {
					continue // says that there is none: TestOpenReadOnlyMissing
				}
				_, err := openIt(t.Context(), path)
				if !errors.Is(err, ledger.ErrUnusable) || !strings.Contains(sqlite.Printed(err), c.want) {
					t.Errorf("%s: %s, want ErrUnusable and %q", how, sqlite.Printed(err), c.want)
				}
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

// A start that was cut off between two steps of making a ledger is made good by the next.
func TestOpenHalfMade(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, path string){
		"empty file": func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"table of versions only": func(t *testing.T, path string) {
			sqlExec(t, path, `CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL,
				is_applied INTEGER NOT NULL, tstamp TIMESTAMP DEFAULT (datetime('now')));
				INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1)`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			make(t, path)
			l := open(t, path)
			defer l.Close()
			if err := l.AddFile(t.Context(), &ledger.File{ID: "f"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenReadOnlyMissing(t *testing.T) {
	dir := t.TempDir()
	_, err := sqlite.OpenReadOnly(t.Context(), filepath.Join(dir, "ledger.db"))
	if !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("OpenReadOnly of nothing: %v, want ErrNotFound", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
}

func TestOpenReadOnly(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	worker := open(t, path)
	add := func(l ledger.Ledger, id string) error {
		return l.AddFile(t.Context(), &ledger.File{ID: id, Scope: scope})
	}
	check := func(when string, want int) {
		t.Helper()
		l, err := sqlite.OpenReadOnly(t.Context(), path)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}()
		files, err := l.Files(t.Context(), ledger.Query{})
		if err != nil || len(files) != want {
			t.Errorf("%s: %d files, %v, want %d", when, len(files), err, want)
		}
		if err := add(l, "x"); !errors.Is(err, ledger.ErrUnusable) {
			t.Errorf("%s: AddFile: %v, want a refusal", when, err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Errorf("%s: Flush of nothing: %v", when, err)
		}
	}
	if err := add(worker, "a"); err != nil {
		t.Fatal(err)
	}
	check("beside a running worker", 1)
	if err := add(worker, "b"); err != nil {
		t.Fatal(err)
	}
	check("beside a running worker, again", 2)
	if err := worker.Close(); err != nil {
		t.Fatal(err)
	}
	check("without a worker", 2)
	worker = open(t, path) // a reader that was there must not keep a worker out
	if err := add(worker, "c"); err != nil {
		t.Fatal(err)
	}
	if err := worker.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ledger.db-wal"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left after Close: %v", name, err)
		}
	}
}

// TestBeforeFirstRelease: a ledger of the form that was never released is refused in
// words.
func TestBeforeFirstRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "DROP VIEW bill; DELETE FROM goose_db_version WHERE version_id > 1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(context.Context, string) (*sqlite.Ledger, error){"Open": sqlite.Open, "OpenReadOnly": sqlite.OpenReadOnly} {
		if _, err := open(t.Context(), path); !errors.Is(err, ledger.ErrUnusable) || !strings.Contains(err.Error(), "before the first release") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
