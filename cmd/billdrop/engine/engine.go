// Package engine opens the ledger that a configuration names: a file of SQLite for one machine, a
// database of PostgreSQL for several.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

const (
	// ReadPatience is how long commands that only read wait for a server that does not answer. A
	// person waits for them.
	ReadPatience = 5 * time.Second
	// Forever is the patience of a worker that stays.
	Forever time.Duration = 0
)

// ErrNoBackup: Backup is for files.
var ErrNoBackup = errors.New("the ledger is in PostgreSQL, which has backups of its own")

// Ledger is a ledger that can be copied and verified, as those of both engines can.
type Ledger interface {
	ledger.Ledger
	ledger.Store
}

// Location is where a ledger is, and how to get into it.
type Location struct {
	Place    config.Place
	Password string // for a database; "" = that of its address, of PGPASSWORD or of a passfile
	// Patience is how long a server that does not answer is waited for, when the ledger is
	// opened and in each call later; 0 = as long as it takes. A file is not waited for.
	Patience time.Duration
	Log      *slog.Logger // is told why a server is waited for
}

// Configured returns the location of the ledger that c names.
func Configured(c *config.Config, log *slog.Logger) (Location, error) {
	password, err := c.LedgerPassword()
	return Location{Place: c.LedgerPlace(), Password: password, Patience: max(c.API.GiveUpAfter, time.Millisecond), Log: log}, err
}

// OpenConfigured opens the ledger that c names for writing.
func OpenConfigured(ctx context.Context, c *config.Config, log *slog.Logger) (ledger.Ledger, error) {
	l, err := Configured(c, log)
	if err != nil {
		return nil, err
	}
	return l.Open(ctx)
}

// ReadConfigured opens the ledger that c names for reading. That there is none is the error of
// Missing.
func ReadConfigured(ctx context.Context, c *config.Config, log *slog.Logger) (ledger.Ledger, error) {
	l, err := Configured(c, log)
	if err != nil {
		return nil, err
	}
	led, err := l.Read(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, l.Missing()
	}
	return led, err
}

// Named returns the location of the ledger that a person names: sqlite:PATH, a path, or the
// URL of a database. If c names the same database as its ledger, the password is that of c; c
// may be nil.
func Named(text string, c *config.Config, log *slog.Logger) (Location, error) {
	if !strings.Contains(text, ":") && text != "" {
		text = "sqlite:" + text // a path alone cannot be mistaken
	}
	place, err := config.ParsePlace(text)
	if err == nil && !place.Shared() {
		place.Path, err = filepath.Abs(place.Path)
	}
	if err != nil {
		return Location{}, err
	}
	if c != nil && c.LedgerPlace() == place {
		return Configured(c, log)
	}
	return Location{Place: place, Patience: ReadPatience, Log: log}, nil
}

// Open opens the ledger for writing, and makes it if there is none. It does not make the
// directory of a file: a disk that is not mounted must not look like a ledger without bills.
func (l Location) Open(ctx context.Context) (Ledger, error) {
	if l.Place.Shared() {
		return ledgerOrNil(l.openDatabase(ctx, false))
	}
	if err := l.checkDirectory(); err != nil {
		return nil, err
	}
	led, err := sqlite.Open(ctx, l.Place.Path)
	if err != nil {
		return nil, fmt.Errorf("open the ledger %s: %w", l.Place, err)
	}
	return led, nil
}

// checkDirectory fails if the directory of the ledger's file is missing.
func (l Location) checkDirectory() error {
	dir := filepath.Dir(l.Place.Path)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	return describe.Advise(fmt.Errorf("%w: there is no directory %s for it", ledger.ErrUnusable, dir),
		"make it (mkdir -p -m 700 %s), or mount the disk that it is on", config.ShellWord(dir))
}

// Read opens the ledger for reading, also while workers use it. It fails with ledger.ErrNotFound if
// there is none.
func (l Location) Read(ctx context.Context) (Ledger, error) {
	if l.Place.Shared() {
		l.Patience = ReadPatience
		return ledgerOrNil(l.openDatabase(ctx, true))
	}
	return ledgerOrNil(sqlite.OpenReadOnly(ctx, l.Place.Path))
}

// ledgerOrNil keeps a nil pointer out of the interface.
func ledgerOrNil[L Ledger](led L, err error) (Ledger, error) {
	if err != nil {
		return nil, err
	}
	return led, nil
}

// Missing is the error of a command that reads a ledger which is not there.
func (l Location) Missing() error {
	hint := "the first run makes it; if there was one, mount or restore the disk that it is on"
	if l.Place.Shared() {
		hint = "the first run makes it; if there was one, check the database's name"
	}
	return describe.Advise(fmt.Errorf("%w: there is no ledger %s", ledger.ErrUnusable, l.Place), "%s", hint)
}

// Backup copies the ledger into a new file; see sqlite.Ledger.Backup. A database has tools of
// its own.
func (l Location) Backup(ctx context.Context, to string) (size int64, err error) {
	if l.Place.Shared() {
		return 0, describe.Advise(fmt.Errorf("%w: %s", ErrNoBackup, l.Place),
			"use pg_dump, or the server's point-in-time recovery; docs/cluster.md says how, and what to heed when restoring")
	}
	led, err := sqlite.OpenReadOnly(ctx, l.Place.Path)
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, l.Missing()
	}
	if err != nil {
		return 0, err
	}
	size, err = led.Backup(ctx, to)
	return size, errors.Join(err, led.Close())
}

// Holder returns the id of the process that holds a ledger of SQLite; see sqlite.Holder.
// Nobody holds a database.
func (l Location) Holder() (pid int, seen bool) {
	if l.Place.Shared() {
		return 0, false
	}
	pid, seen, err := sqlite.Holder(l.Place.Path)
	return pid, seen && err == nil
}
