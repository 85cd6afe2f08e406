package sqlite

import (
	"time"

	"billdrop/ingest/ledger/groupcommit"
)

const (
	// maxBatch bounds what one transaction holds: about 30 ms of work.
	maxBatch = 1024
	// gather is how long a write for which a caller waits gathers others to share its
	// commit. The pages that rows have in common are written once a commit.
	gather = 10 * time.Millisecond
)

// op is one caller's write. apply runs in the writer's goroutine, within the batch's
// transaction. An error from apply fails the ledger, so a refusal (ErrExists) is kept in
// the op instead.
type op interface {
	apply(w *writer) error
}

func newQueue(w *writer) *groupcommit.Queue[op] {
	return groupcommit.New(groupcommit.Config[op]{
		Commit: w.commit, Max: maxBatch, Gather: gather, Awaited: awaited,
		Closed: unusable(errClosed),
	})
}

// awaited reports whether a caller waits for o.
func awaited(o op) bool {
	_, isRecord := o.(*record)
	return !isRecord
}
