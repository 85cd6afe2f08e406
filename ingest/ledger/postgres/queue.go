package postgres

import (
	"errors"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/groupcommit"
)

const (
	// maxBatch bounds what one transaction holds.
	maxBatch = 2048
	// gather is how long a write for which a caller waits gathers others to share its commit.
	// 10 ms cost the same processor time, and a fifth of the rate of 64 senders.
	gather = 4 * time.Millisecond
	// closePatience bounds how long Close tries to commit what is queued while the server is
	// out of reach.
	closePatience = 10 * time.Second
)

// op is one caller's write. apply runs in the writer's goroutine, and again when the batch is
// tried again. An error from apply fails the batch, so a refusal is kept in the op instead.
type op interface {
	apply(t *tx) error
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

// closeQueue commits what is queued, unless the server is out of reach for too long. It returns
// the failure of a write, if there was one. That a worker was taken for lost is none: its
// writes were refused to those that made them, and its work is with others.
func (l *Ledger) closeQueue() error {
	last := time.AfterFunc(closePatience, l.writer.stop)
	defer last.Stop()
	if err := l.queue.Close(); !errors.Is(err, ledger.ErrFenced) {
		return err
	}
	return nil
}
