package main

import (
	"context"

	"billdrop/ingest"
)

type retryCmd struct {
	FileID string `arg:"" name:"FILE_ID" help:"Id of the file, as in its summary and its ack."`
}

func (retryCmd) Help() string {
	return `Reads the file again from the archive, or from its local path, checks its hash, and sends the rows that failed or are unknown. Rows that have their bill are not sent again. The reports are published anew under the same names. If a worker is running, it does this at its next poll.

Example: billdrop retry 20261123-053000-1f2e3d4c`
}

// Run retries one file.
func (c *retryCmd) Run(ctx context.Context, s *session) error {
	return order(ctx, s, ingest.OrderRetry, c.FileID)
}
