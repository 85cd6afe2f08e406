package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/input"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
)

type approveCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the held file, as in its summary."`
}

func (approveCmd) Help() string {
	return `A file above one of the limits under hold, or with other totals than its control file, waits for approval. If a worker is running, it sends the approved file at its next poll.

Example: billdrop approve 20261123-053000-1f2e3d4c`
}

// approved is the JSON of `approve`.
type approved struct {
	FileID   string `json:"file_id"`
	File     string `json:"file"`
	Approved bool   `json:"approved"`
	Ordered  bool   `json:"ordered"` // a running worker sends it at its next poll
}

// Run approves one file.
func (c *approveCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	l, err := openLedger(ctx, s, conf)
	if errors.Is(err, ledger.ErrLocked) {
		return c.queue(ctx, s, conf)
	}
	if err != nil {
		return err
	}
	err = ingest.WithdrawOrders(ctx, l, conf.SpoolDir, c.FileID) // this order replaces them
	var f *ledger.File
	if err == nil {
		f, err = ingest.Approve(ctx, l, c.FileID)
	}
	left, closed := describe.LeftOrder(err), l.Close()
	if left != nil && closed == nil {
		return c.printOrdered(s, conf, left)
	}
	if err = errors.Join(err, closed); err != nil {
		return describe.AdviseOrder(c.FileID, err)
	}
	return s.print(approved{FileID: f.ID, File: f.Name, Approved: true}, func() string {
		next := "billdrop run --once"
		if f.Origin == ledger.FromLocal { // imported otherwise, it would be another file
			next = fmt.Sprintf("billdrop import --feed %s --out %s %s", f.Feed, config.ShellWord(f.Results), config.ShellWord(cmp.Or(f.Path, input.Stdin)))
		}
		return fmt.Sprintf("%s (%s) is approved; the next run sends it: %s\n", f.Name, f.ID, next)
	})
}

// queue leaves the approval to the billdrop that holds the ledger.
func (c *approveCmd) queue(ctx context.Context, s *session, conf *config.Config) error {
	left, err := leaveOrder(ctx, s, conf, ingest.OrderApprove, c.FileID)
	if err != nil {
		return describe.AdviseOrder(c.FileID, err)
	}
	return c.printOrdered(s, conf, left)
}

func (c *approveCmd) printOrdered(s *session, conf *config.Config, left *describe.Ordered) error {
	doc := approved{FileID: left.FileID, File: left.File, Approved: true, Ordered: true}
	return s.print(doc, func() string { return left.Text(pollText(conf)) })
}
