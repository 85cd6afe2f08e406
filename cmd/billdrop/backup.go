package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
)

type backupCmd struct {
	File string `arg:"" name:"FILE" help:"New file for the copy; an existing file is never overwritten."`
}

func (backupCmd) Help() string {
	return `Copies the ledger as it is at one moment into a new file, and checks the copy. A worker may be running. The copy is a ledger itself: to restore it, stop billdrop, put the copy in the ledger's place, and start billdrop. It holds the same data as the ledger, so protect it in the same way. A ledger in PostgreSQL is backed up by pg_dump, or by the server's point-in-time recovery.

Example: billdrop backup /var/backups/ledger-2026-11-23.db`
}

// Run copies the ledger that the configuration names.
func (c *backupCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	to, err := filepath.Abs(c.File)
	if err != nil {
		return describe.Misused(err)
	}
	location, err := engine.Configured(conf, s.log)
	if err != nil {
		return err
	}
	size, err := location.Backup(ctx, to)
	switch {
	case errors.Is(err, engine.ErrNoBackup):
		return describe.Misused(err)
	case errors.Is(err, fs.ErrExist):
		return describe.Misused(describe.Advise(err, "name a file that does not exist yet"))
	case errors.Is(err, fs.ErrNotExist):
		return describe.Misused(describe.Advise(err, "make the directory, or name a file in another one"))
	case err != nil:
		return err
	}
	doc := map[string]any{"ledger": location.Place.String(), "file": to, "size": size}
	return s.print(doc, func() string {
		return fmt.Sprintf("%s: a copy of the ledger %s, %s, complete and checked\n", to, location.Place, humanize.IBytes(uint64(size)))
	})
}
