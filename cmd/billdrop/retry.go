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
	return `The file is read again from where it rests, checked by its hash, and its reports are published anew under the same names. Rows that have their bill are not sent again. A worker that is running does it at its next poll.

Example: billdrop retry 20261123-053000-1f2e3d4c`
}

// Run retries one file.
func (c *retryCmd) Run(ctx context.Context, s *session) error {
	return again(ctx, s, ingest.OrderRetry, c.FileID)
}

type rejectCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the held file, as its summary says it."`
}

func (rejectCmd) Help() string {
	return `Gives a held file up: nothing of it is sent, it goes to the feed's rejected directory (an imported file stays where it is), and its reports say so. The rejects hold all its rows, so that the corrected file completes the job. A worker that is running does it at its next poll.

Example: billdrop reject 20261123-053000-1f2e3d4c`
}

// Run rejects one file. That it was rejected is what was asked for, and no cause for attention.
func (c *rejectCmd) Run(ctx context.Context, s *session) error {
	if err := again(ctx, s, ingest.OrderReject, c.FileID); !errors.Is(err, errAttention) {
		return err
	}
	return nil
}

type approveCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the held file, as its summary says it."`
}

func (approveCmd) Help() string {
	return `A file over one of the limits under hold, or with other totals than its control file, waits until somebody has looked at it. A worker that is running sends it at its next poll.

Example: billdrop approve 20261123-053000-1f2e3d4c`
}

// Run approves one file.
func (c *approveCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	l, err := openLedger(ctx, conf.LedgerPath())
	if errors.Is(err, ledger.ErrLocked) {
		return c.leave(ctx, s, conf)
	}
	if err != nil {
		return err
	}
	err = ingest.WithdrawOrders(conf.SpoolDir, c.FileID) // this is the last word
	var f *ledger.File
	if err == nil {
		f, err = ingest.Approve(ctx, l, c.FileID)
	}
	if err = errors.Join(err, l.Close()); err != nil {
		return notFor(c.FileID, err)
	}
	if s.json() {
		return writeJSON(s.stdout, approved{FileID: f.ID, File: f.Name, Approved: true})
	}
	next := "billdrop run --once"
	if f.Origin == ledger.FromLocal {
		// As it was imported: with other reports, or by another feed, it would be another file.
		next = fmt.Sprintf("billdrop import --feed %s --out %s %s", f.Feed, shellWord(f.Results), shellWord(cmp.Or(f.Path, "-")))
	}
	fmt.Fprintf(s.stdout, "%s (%s) is approved; the next run sends it: %s\n", f.Name, f.ID, next)
	return nil
}

// leave leaves the approval for the billdrop that has the ledger.
func (c *approveCmd) leave(ctx context.Context, s *session, conf *config.Config) error {
	left, err := leaveOrder(ctx, conf, ingest.OrderApprove, c.FileID)
	if err != nil {
		return notFor(c.FileID, err)
	}
	if s.json() {
		return writeJSON(s.stdout, approved{FileID: left.FileID, File: left.File, Approved: true, Ordered: true})
	}
	_, err = fmt.Fprint(s.stdout, left.words(conf))
	return err
}

// approved is what `approve` prints as JSON.
type approved struct {
	FileID   string `json:"file_id"`
	File     string `json:"file"`
	Approved bool   `json:"approved"`
	Ordered  bool   `json:"ordered"` // a running worker takes it up at its next poll
}
