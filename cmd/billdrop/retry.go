package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
)

type retryCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the file, as its summary and its ack say it."`
}

func (retryCmd) Help() string {
	return `The file is read again from where it rests, checked by its hash, and its reports are published anew under the same names. Rows that have their bill are not sent again.

Example: billdrop retry 20261123-053000-1f2e3d4c`
}

// Run retries one file.
func (c *retryCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{Key: true, OnFinish: true})
	if err != nil {
		return err
	}
	remote := conf.SFTP.Address != ""
	m, err := assemble(ctx, s, conf, remote)
	if err != nil {
		return err
	}
	summary, err := m.worker.Retry(ctx, c.FileID)
	files := []finished{{Summary: summary, where: resultsOf(m.feeds, summary)}}
	if f, ferr := m.ledger.File(ctx, c.FileID); ferr == nil {
		files[0].where = f.Results
	}
	err = errors.Join(err, m.close())
	switch {
	case errors.Is(err, ingest.ErrNothingToDo):
		s.log.Info(err.Error())
		return showFiles(s, nil, nil)
	case errors.Is(err, ledger.ErrNotFound):
		return unknownFile(c.FileID, err)
	case err != nil:
		return showFiles(s, nil, err)
	}
	return showFiles(s, files, nil)
}

func unknownFile(id string, err error) error {
	return fmt.Errorf("%w\nhint: the id of a file stands in its ack.json and summary.json as file_id, such as 20261123-053000-1f2e3d4c; %q is none that this ledger knows", err, id)
}

type approveCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the held file, as its summary says it."`
}

func (approveCmd) Help() string {
	return `A file over one of the limits under hold, or with other totals than its control file, waits until somebody has looked at it.

Example: billdrop approve 20261123-053000-1f2e3d4c`
}

// Run approves one file.
func (c *approveCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	l, err := openLedger(ctx, conf.LedgerPath())
	if err != nil {
		return err
	}
	f, err := ingest.Approve(ctx, l, c.FileID)
	if err = errors.Join(err, l.Close()); err != nil {
		if errors.Is(err, ledger.ErrNotFound) {
			return unknownFile(c.FileID, err)
		}
		if errors.Is(err, ingest.ErrNotApplicable) {
			err = fmt.Errorf("%w\nhint: billdrop status %s tells how the file stands", err, c.FileID)
		}
		return err
	}
	if s.json() {
		return writeJSON(s.stdout, map[string]any{"file_id": f.ID, "file": f.Name, "approved": true})
	}
	next := "billdrop run --once"
	if f.Origin == ledger.FromLocal {
		// As it was imported: with other reports, or by another feed, it would be another file.
		next = fmt.Sprintf("billdrop import --feed %s --out %s %s", f.Feed, shellWord(f.Results), shellWord(cmp.Or(f.Path, "-")))
	}
	fmt.Fprintf(s.stdout, "%s (%s) is approved; the next run sends it: %s\n", f.Name, f.ID, next)
	return nil
}
