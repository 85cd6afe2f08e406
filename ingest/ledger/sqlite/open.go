package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"billdrop/ingest/durable"
	"billdrop/ingest/ledger"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is the number of the latest migration: what this program reads and
	// writes.
	schemaVersion = 5
	// applicationID marks a SQLite file as a billdrop ledger; set by the first migration.
	applicationID = 0x62647270
	// checkpointPages is how long the WAL may grow (32 MiB) before its pages are copied
	// into the database. A page that many commits change is copied once. Replaying the
	// WAL after a crash takes a fraction of a second.
	checkpointPages = 8192
	// readers bounds the connections, and so the memory, that reads take beside the
	// writer.
	readers = 4
	// writerCache is in KiB: the upper levels of every tree, and the pages that a batch
	// changes. More saves little, because the leaves of the parties are met at random;
	// the system keeps those. A page takes 8 KiB: modernc.org/memory rounds up to a
	// power of two, and SQLite keeps some bytes beside each 4 KiB.
	writerCache = 8 << 10
	readerCache = 1 << 10 // KiB
)

// Open opens the ledger in the file at path, for this process alone, and makes it when
// there is none (its directory must exist). An older ledger is brought up to date. The
// file is locked whatever path, symbolic or hard link leads to it.
//
// Errors wrap ErrLocked when another process (or another Open in this one) holds it,
// ErrLinked when the file has hard links, else
// ErrUnusable: no directory, no right, no ledger, a ledger of a newer billdrop, a disk
// that fails. The lock dies with the process.
func Open(ctx context.Context, path string) (*Ledger, error) {
	l := &Ledger{path: path}
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(openError(ctx, path, err), l.release())
	}
	return l, nil
}

// OpenReadOnly opens the ledger at path for reading: it takes no lock, changes nothing,
// and works beside a running worker, after a crashed one, and when there is none. It
// needs the right to write all the same, because SQLite keeps its readers' marks in a
// file beside the ledger. Methods that write fail.
//
// Errors wrap ErrNotFound when there is no such file, ErrLinked when it has hard links, else
// ErrUnusable.
func OpenReadOnly(ctx context.Context, path string) (*Ledger, error) {
	l := &Ledger{path: path}
	if err := l.openReadOnly(ctx); err != nil {
		return nil, errors.Join(openError(ctx, path, err), l.release())
	}
	return l, nil
}

func (l *Ledger) open(ctx context.Context) error {
	if err := checkDirectory(l.path); err != nil {
		return err
	}
	var err error
	if l.path, err = realPath(l.path); err != nil {
		return err
	}
	if l.lock, err = takeName(l.path); err != nil {
		return err
	}
	if err := create(l.path); err != nil {
		return err
	}
	if err := l.lock.takeFile(l.path); err != nil {
		return err
	}
	info, err := os.Stat(l.path)
	if err == nil {
		err = checkLinks(l.path, info)
	}
	if err != nil {
		return err
	}
	// A connection that cannot change the file looks whose it is: opening it for writing
	// would change it.
	if l.read, err = openReaders(l.path); err != nil {
		return err
	}
	version, err := schemaOf(ctx, l.read)
	if err != nil {
		return err
	}
	if version > schemaVersion {
		return newerError(version)
	}
	if l.write, err = openWriter(l.path); err != nil {
		return err
	}
	if version < schemaVersion {
		if err := migrate(ctx, l.write); err != nil {
			return err
		}
	}
	if err := checkWhole(ctx, l.read); err != nil {
		return err
	}
	if l.writer, err = newWriter(ctx, l.write); err != nil {
		return err
	}
	l.queue = newQueue(l.writer)
	return l.prepareLookUps(ctx)
}

// prepareLookUps prepares the queries that are run for every few rows.
func (l *Ledger) prepareLookUps(ctx context.Context) (err error) {
	if l.bills, err = l.read.PrepareContext(ctx, billsByReference); err != nil {
		return err
	}
	l.parties, err = l.read.PrepareContext(ctx, partiesByDigest)
	return err
}

func (l *Ledger) openReadOnly(ctx context.Context) error {
	switch info, err := os.Stat(l.path); {
	case errors.Is(err, fs.ErrNotExist):
		return &ledger.Error{Err: fmt.Errorf("%w: there is no such file", ledger.ErrNotFound), Hint: "the first run makes it"}
	case err != nil:
		return err
	case info.IsDir():
		return advised("name a file in it", "it is a directory")
	default:
		if err := checkLinks(l.path, info); err != nil {
			return err
		}
	}
	var err error
	if l.read, err = openReaders(l.path); err != nil {
		return err
	}
	version, err := schemaOf(ctx, l.read)
	switch {
	case err != nil:
		return err
	case version > schemaVersion:
		return newerError(version)
	case version < schemaVersion:
		return advised("the next run brings it up to date", "its schema is version %d, older than this billdrop's %d", version, schemaVersion)
	}
	if err := checkWhole(ctx, l.read); err != nil {
		return err
	}
	return l.prepareLookUps(ctx)
}

// checkDirectory checks what path is in, and that it is not a directory itself.
func checkDirectory(path string) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return advised("make it: mkdir -p -m 700 "+dir, "its directory does not exist")
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return advised("name a file in it", "it is a directory")
	}
	return nil
}

// create makes an empty file at path if there is none, readable by its owner only (SQLite
// gives the files beside it the same rights). An existing one is not opened, because
// closing it would drop the locks that this process holds on it.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// openWriter opens the one connection that writes.
func openWriter(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dataSource(path, url.Values{
		"_pragma": {
			"busy_timeout(10000)",
			"journal_mode(WAL)",
			"synchronous(FULL)",
			"fullfsync(ON)", // on macOS a plain fsync leaves data in the drive's cache
			"secure_delete(ON)",
			fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
			"journal_size_limit(67108864)",
			fmt.Sprintf("cache_size(-%d)", writerCache),
			"temp_store(MEMORY)",
		},
		"_txlock": {"immediate"},
	}))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// openReaders opens the pool that reads.
func openReaders(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dataSource(path, url.Values{
		"mode": {"ro"},
		"_pragma": {
			"busy_timeout(10000)",
			"query_only(ON)",
			fmt.Sprintf("cache_size(-%d)", readerCache),
			"temp_store(MEMORY)",
		},
	}))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db, nil
}

// dataSource is path as an absolute URI for the driver, in which every character of path
// stands for itself.
func dataSource(path string, q url.Values) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/…
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// migrate brings the schema up to date, each step in a transaction of its own.
func migrate(ctx context.Context, db *sql.DB) error {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// Without WithVerbose, goose prints nothing.
	p, err := goose.NewProvider(goose.DialectSQLite3, db, steps, goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(goose.NewGoMigration(sumsVersion, &goose.GoFunc{RunTx: sumRows}, nil)))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring its schema up to date: %w", err)
	}
	return nil
}

// schemaOf returns the number of the last migration that was applied to the database, 0
// for a new one. A database of another program is an error.
func schemaOf(ctx context.Context, db *sql.DB) (int, error) {
	var id, others, versions int
	err := db.QueryRowContext(ctx, `SELECT a.application_id,
		(SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\' AND tbl_name <> 'goose_db_version'),
		(SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version')
		FROM pragma_application_id AS a`).Scan(&id, &others, &versions)
	switch {
	case err != nil:
		return 0, err
	case id != applicationID && (id != 0 || others > 0):
		return 0, advised("name another file", "it is a SQLite database, but not a billdrop ledger")
	case versions == 0:
		return 0, nil
	}
	var version int
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	if err != nil || version != 1 {
		return version, err
	}
	// Before its first release the first version had another form.
	var whole bool
	err = db.QueryRowContext(ctx, "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'view' AND name = 'bill'").Scan(&whole)
	if err == nil && !whole {
		err = advised("keep it aside, and name a new file; bills that exist are found at the API again",
			"it was written before the first release, in a form that is not read any more")
	}
	return version, err
}

func newerError(version int) error {
	return advised("use that one", "its schema is version %d, written by a newer billdrop (this one knows %d)", version, schemaVersion)
}

// advised is an error and what to do about it.
func advised(hint, format string, args ...any) error {
	return &ledger.Error{Err: fmt.Errorf(format, args...), Hint: hint}
}

// openError says what could not be opened.
func openError(ctx context.Context, path string, err error) error {
	switch {
	case errors.Is(err, ledger.ErrLocked), errors.Is(err, ledger.ErrLinked), errors.Is(err, ledger.ErrNotFound):
		return fmt.Errorf("open ledger %q: %w", path, err)
	case ctx.Err() != nil:
		return fmt.Errorf("open ledger %q: %w", path, ctx.Err())
	}
	return fmt.Errorf("open ledger %q: %w", path, unusable(err))
}

// unusable marks a failure of the engine, with what to do about those that a person can
// mend.
func unusable(err error) error {
	if errors.Is(err, ledger.ErrUnusable) {
		return err
	}
	marked := fmt.Errorf("%w: %w", ledger.ErrUnusable, err)
	if hint := hintFor(err); hint != "" {
		return &ledger.Error{Err: marked, Hint: hint}
	}
	return marked
}

func hintFor(err error) string {
	var e *driver.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code() & 0xff { // the primary code
	case codes.SQLITE_FULL:
		return "make room on its disk, then run again"
	case codes.SQLITE_IOERR:
		return "look at its disk (space, quota, health), then run again"
	case codes.SQLITE_NOTADB:
		return "the file is not a ledger; name another one"
	case codes.SQLITE_CORRUPT:
		return "the file is damaged; keep it aside, and restore the ledger from a backup"
	case codes.SQLITE_READONLY, codes.SQLITE_CANTOPEN, codes.SQLITE_PERM:
		return "give this user the right to write the file and its directory"
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return "another program has it open for writing; end that one"
	}
	return ""
}
