package postgres

import (
	"errors"

	"billdrop/ingest/ledger"
)

// ErrCrashed is what calls get that wait in a ledger when Crash ends it.
var ErrCrashed = errors.New("crashed")

// Crash ends l as a kill would end the process: the commit that is under way is made, what waits
// behind it is lost, connections are gone, and nobody leaves.
func Crash(l *Ledger) {
	q := l.queue
	q.mu.Lock()
	lost := q.open
	q.open = newBatch()
	q.closed = true
	lost.err = ErrCrashed
	close(lost.taken)
	close(lost.done)
	q.mu.Unlock()
	_ = q.close(l.writer.stop)
	l.release()
}

var _ ledger.Ledger = (*Ledger)(nil)
