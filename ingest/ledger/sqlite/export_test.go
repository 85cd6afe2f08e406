package sqlite

import (
	"errors"
	"fmt"

	"billdrop/ingest/ledger"
)

// ErrCrashed is what calls get that wait in a ledger when Crash ends it.
var ErrCrashed = errors.New("crashed")

// Crash ends l as a kill would end the process: the commit that is under way is made,
// what waits behind it is lost, connections and lock are gone. (A kill within a commit
// needs a process of its own: see TestKill.)
func Crash(l *Ledger) error {
	l.queue.Fail(ErrCrashed)
	if err := l.queue.Close(); !errors.Is(err, ErrCrashed) {
		return errors.Join(err, l.release())
	}
	return l.release()
}

// Printed is err as a person reads it: what is wrong, and what to do about it.
func Printed(err error) string {
	var advised *ledger.Error
	if errors.As(err, &advised) {
		return fmt.Sprintf("error: %v\nhint: %s", err, advised.Advice())
	}
	return fmt.Sprintf("error: %v", err)
}
