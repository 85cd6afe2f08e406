package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"billdrop/cmd/billdrop/config"
)

type backupCmd struct {
	File string `arg:"" name:"FILE" help:"File to be made; one that is there is never overwritten."`
}

func (backupCmd) Help() string {
	return `Copies the ledger as it is at one moment into a new file, and checks the copy. A worker may be running. The copy is a ledger itself: to restore it, stop billdrop, put the copy in the ledger's place, and start billdrop. It holds nothing personal that the ledger does not hold, and is to be guarded like it.

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
		return usageError{err}
	}
	led, err := lookIntoLedger(ctx, conf)
	if err != nil {
		return err
	}
	size, err := led.Backup(ctx, to)
	err = errors.Join(err, led.Close())
	switch {
	case errors.Is(err, fs.ErrExist):
		return usagef("%w; name a file that is not there yet", err)
	case errors.Is(err, fs.ErrNotExist):
		return usagef("%w; make the directory, or name a file in another one", err)
	case err != nil:
		return err
	}
	if s.json() {
		return writeJSON(s.stdout, struct {
			Ledger string `json:"ledger"`
			File   string `json:"file"`
			Size   int64  `json:"size"`
		}{conf.LedgerPath(), to, size})
	}
	_, err = fmt.Fprintf(s.stdout, "%s: a copy of the ledger %s, %s, whole and checked\n", to, conf.LedgerPath(), humanize.IBytes(uint64(size)))
	return err
}
