package postgres

import (
	"errors"
	"time"

	"billdrop/ingest/ledger"
)

// ErrCrashed is what calls get that wait in a ledger when Crash ends it.
var ErrCrashed = errors.New("crashed")

// Crash ends l as a kill would end the process: the commit that is under way is made, what waits
// behind it is lost, connections are gone, and nobody leaves.
func Crash(l *Ledger) {
	l.queue.Fail(ErrCrashed)
	_ = l.closeQueue()
	l.release()
}

var _ ledger.Ledger = (*Ledger)(nil)

// Forget has l, which has written nothing yet, be careful only in the batch that failed, and take
// rows for new ones in the next.
func Forget(l *Ledger) { l.writer.carefulFor = time.Nanosecond }

// Freeze stops the heartbeat of l, and its writer within a transaction, until thaw is called.
func Freeze(l *Ledger) (thaw func()) {
	h := l.beating.Load()
	h.end()
	o := &stuck{begun: make(chan struct{}), on: make(chan struct{})}
	if err := l.queue.Add(h.l.writer.stopped, o); err != nil {
		panic(err)
	}
	l.queue.Wake()
	<-o.begun
	return func() { close(o.on) }
}

// stuck is an op that stops its batch.
type stuck struct {
	begun, on chan struct{}
	once      bool
}

func (o *stuck) apply(t *tx) error {
	if _, err := t.exec("SELECT 1"); err != nil {
		return err
	}
	if !o.once {
		o.once = true
		close(o.begun)
		<-o.on
	}
	_, err := t.exec("SELECT 1")
	return err
}

// InWords is how the operator is told that a call failed.
var InWords = inWords
