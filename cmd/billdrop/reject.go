package main

import (
	"context"
	"errors"

	"billdrop/ingest"
)

type rejectCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the file, as in its summary or in billdrop status."`
}

func (rejectCmd) Help() string {
	return `Ends a file that is held, or that was begun and cannot go on. No further row of it is sent; rows that were sent are looked up. The file goes to the feed's rejected directory (an imported file stays where it is), and its reports say what became of every row. The rejects file holds the rows that were not sent, so the corrected file completes the job. If a worker is running, it does this at its next poll.

Example: billdrop reject 20261123-053000-1f2e3d4c`
}

// Run rejects one file. A rejected file was asked for, so it needs no attention.
func (c *rejectCmd) Run(ctx context.Context, s *session) error {
	if err := order(ctx, s, ingest.OrderReject, c.FileID); !errors.Is(err, errAttention) {
		return err
	}
	return nil
}
