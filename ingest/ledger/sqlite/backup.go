package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"billdrop/ingest/durable"
)

// Backup writes the ledger as it is at one moment into a new file, readable by its owner
// alone, and returns its size in bytes. It changes nothing and delays no writer, not even
// one in another process. The copy is checked and synced before it gets its name, so a
// file of that name is whole. It is a ledger in one file, from which a worker can go on.
//
// fs.ErrExist when there is a file of that name already. A Backup that is killed leaves a
// hidden NAME.part beside it.
func (l *Ledger) Backup(ctx context.Context, to string) (size int64, err error) {
	if err := l.settle(ctx, nil); err != nil {
		return 0, fmt.Errorf("back up the ledger: %w", err)
	}
	if _, err := os.Lstat(to); err == nil {
		return 0, fmt.Errorf("back up the ledger into %s: %w", to, fs.ErrExist)
	}
	to, err = filepath.Abs(to)
	if err != nil {
		return 0, fmt.Errorf("back up the ledger: %w", err)
	}
	// SQLite takes an empty file for a new database, so the copy has these rights from
	// the beginning.
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*.part")
	if err != nil {
		return 0, fmt.Errorf("back up the ledger: %w", err)
	}
	err = f.Close()
	if err == nil {
		size, err = l.backupInto(ctx, f.Name(), to)
	}
	if err != nil {
		os.Remove(f.Name())
		return 0, fmt.Errorf("back up the ledger into %s: %w", to, err)
	}
	return size, nil
}

func (l *Ledger) backupInto(ctx context.Context, temporary, to string) (size int64, err error) {
	if err := l.vacuumInto(ctx, temporary); err != nil {
		return 0, err
	}
	if err := whole(ctx, temporary); err != nil {
		return 0, err
	}
	if size, err = durable.SyncFile(temporary); err != nil {
		return 0, err
	}
	if _, err := os.Lstat(to); err == nil {
		return 0, fs.ErrExist // created in the meantime
	}
	return size, durable.Rename(temporary, to)
}

// vacuumInto copies one consistent state. It opens the ledger read-only once more,
// because the query_only of the other readers would also keep SQLite from writing the
// copy.
func (l *Ledger) vacuumInto(ctx context.Context, to string) (err error) {
	db, err := sql.Open("sqlite", dataSource(l.path, url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", "temp_store(MEMORY)"}}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, to)
	return err
}

// whole checks that the file at path is a ledger of this version, and that nothing in it
// is damaged.
func whole(ctx context.Context, path string) (err error) {
	db, err := openReaders(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if version, err := schemaOf(ctx, db); err != nil {
		return err
	} else if version != schemaVersion {
		return fmt.Errorf("the copy is of schema version %d, and not %d", version, schemaVersion)
	}
	var found string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return advised("keep the ledger aside, and look at its disk", "the copy is damaged, and so may be the ledger: %s", found)
	}
	return nil
}
