package postgres

import (
	"encoding/json"
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

// refusal is why an op was refused, nil if it was not. Nothing was written then, and the batch
// goes on.
type refusal struct{ refused error }

// refusals are the words for a refusal in a batch's results.
var refusals = map[string]error{"taken": ledger.ErrTaken, "exists": ledger.ErrExists, "unknown": ledger.ErrNotFound, "changed": ledger.ErrChanged,
	"unfinished": ledger.ErrUnfinished}

// word is "" if there is no refusal.
func (r *refusal) word() string {
	for word, err := range refusals {
		if errors.Is(r.refused, err) {
			return word
		}
	}
	return ""
}

func (r *refusal) result() any {
	if r.refused == nil {
		return nil
	}
	return r.word()
}

func (r *refusal) restore(b json.RawMessage) error {
	r.refused = nil
	if b == nil {
		return nil
	}
	var word string
	err := json.Unmarshal(b, &word)
	r.refused = refusals[word]
	return err
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
