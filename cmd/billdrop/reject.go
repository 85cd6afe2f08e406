package main

import (
	"context"
	"errors"

	"billdrop/ingest"
)

type rejectCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the held file, as in its summary."`
}

func (rejectCmd) Help() string {
	return `Gives up a held file: none of it is sent, it goes to the feed's rejected directory (an imported file stays where it is), and its reports say so. The rejects file holds all rows, so the corrected file completes the job. If a worker is running, it does this at its next poll.

Example: billdrop reject 20261123-053000-1f2e3d4c`
}

// Run rejects one file. A rejected file was asked for, so it needs no attention.
func (c *rejectCmd) Run(ctx context.Context, s *session) error {
	if err := order(ctx, s, ingest.OrderReject, c.FileID); !errors.Is(err, errAttention) {
		return err
	}
	return nil
}
