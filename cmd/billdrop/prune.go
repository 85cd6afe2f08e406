package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/input"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
)

type pruneCmd struct {
	OlderThan input.Age `required:"" placeholder:"90d" help:"How long ago a file must have been finished: days (90d), weeks (12w) or years (7y)."`
	DryRun    bool      `help:"Only show what would be removed."`
}

func (pruneCmd) Help() string {
	return `Removes the records of finished files from the ledger, with their rows and earlier attempts, and the reports of imported files from this machine. What keeps bills unique stays for good: every bill reference with its latest request, and the ids of customers and accounts. Files that are held or not finished stay, and so does everything on the SFTP server. A pruned file cannot be retried, and why shows less about its bills.

Example: billdrop prune --older-than 90d`
}

// Run prunes the ledger that the configuration names.
func (c *pruneCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	var l ledger.Ledger
	if c.DryRun {
		l, err = readLedger(ctx, s, conf)
	} else {
		l, err = openLedger(ctx, s, conf)
	}
	if err != nil {
		return err
	}
	before := time.Now().Add(-time.Duration(c.OlderThan))
	pruned, err := ingest.Prune(ctx, l, before, c.DryRun)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	doc := struct {
		ingest.Pruned
		Before time.Time `json:"before"`
		DryRun bool      `json:"dry_run"`
	}{pruned, before.UTC().Truncate(time.Second), c.DryRun}
	return s.print(doc, func() string {
		verb := "pruned"
		if c.DryRun {
			verb = "would prune"
		}
		return fmt.Sprintf("%s: %s with %s, finished before %s; %s\n", verb, describe.Count(pruned.Files, "file"),
			describe.Count(pruned.Rows, "row"), before.Format(time.DateOnly), describe.Count(pruned.Reports, "local report file"))
	})
}
