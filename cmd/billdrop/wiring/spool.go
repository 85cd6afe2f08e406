package wiring

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/gofrs/flock"

	"billdrop/cmd/billdrop/describe"
)

// ErrSpoolTaken: another worker of this machine has the spool. With a ledger that several workers
// share, nothing else keeps two of them from writing the same copy.
var ErrSpoolTaken = errors.New("another worker on this machine uses spool_dir")

// Spool is a spool that one worker has for itself, among those that share a ledger. Commands
// that use it for a moment have files of their own.
type Spool struct{ lock *flock.Flock }

// TakeSpool takes a spool, whose directory exists.
func TakeSpool(dir string) (*Spool, error) {
	lock := flock.New(filepath.Join(dir, "worker.lock"), flock.SetPermissions(0o600))
	taken, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("take the spool %s: %w", dir, err), lock.Close())
	case !taken:
		err := describe.Misused(fmt.Errorf("%w: %s", ErrSpoolTaken, dir)).Hint("give each worker of a machine a spool_dir of its own")
		return nil, errors.Join(err, lock.Close())
	}
	return &Spool{lock}, nil
}

// Release gives a spool back. Release of a nil Spool does nothing.
func (s *Spool) Release() error {
	if s == nil {
		return nil
	}
	return s.lock.Close()
}
