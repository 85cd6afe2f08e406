// Package sqlite keeps a ledger in one SQLite file: the default engine, for one machine.
//
// One goroutine owns the only connection that writes. It takes whatever callers have queued, applies all of it
// in one transaction and commits that with one sync (group commit), so that a Begin costs a share of a sync and
// not a sync. Reads run beside it on a few read-only connections, after what was queued before them is committed.
//
// The database is in WAL mode with synchronous=FULL: a commit that has returned survives kill -9 and power loss.
// Beside NAME there are NAME-wal and NAME-shm while it is in use (and after a crash: they belong to the
// ledger, a copy without NAME-wal lacks its latest commits), and NAME.lock, which one process at a time holds.
//
// Times are kept in microseconds, UTC.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/gofrs/flock"

	"billdrop/ingest/ledger"
)

// Errors of a ledger that is used against its state; both are faults of the program, not of the disk.
var (
	errClosed   = errors.New("it is closed")
	errReadOnly = errors.New("it was opened for reading only")
)

// Ledger is a ledger.Ledger in one SQLite file. Made by Open or OpenReadOnly; its methods may be called
// concurrently, Close too: calls that come after it fail with ErrUnusable.
type Ledger struct {
	path string
	lock *flock.Flock // nil when read-only
	read *sql.DB

	// Of the writing side; nil when read-only.
	write  *sql.DB // one connection, which writer has
	writer *writer // used by queue's goroutine
	queue  *queue

	// known holds the scope of every file of which this process knows that it is recorded, so that a Record
	// for no such file is refused where it is called instead of failing a batch that holds others' writes.
	known sync.Map // file id → ledger.Scope

	ids sync.Map // file number → id, of those that were asked for

	lookUps *lookUps
	lag     partyLag

	closeOnce sync.Once
	closeErr  error
}

var _ ledger.Ledger = (*Ledger)(nil)

// AddFile implements ledger.Ledger.
func (l *Ledger) AddFile(ctx context.Context, f *ledger.File) error {
	return l.putFile(ctx, "add", f, true)
}

// SaveFile implements ledger.Ledger.
func (l *Ledger) SaveFile(ctx context.Context, f *ledger.File) error {
	return l.putFile(ctx, "save", f, false)
}

func (l *Ledger) putFile(ctx context.Context, verb string, f *ledger.File, isNew bool) error {
	o := &putFile{file: *f, isNew: isNew}
	if err := l.submit(ctx, o, atOnce); err != nil {
		return fmt.Errorf("%s file %s: %w", verb, f.ID, err)
	}
	if o.refused != nil {
		return fmt.Errorf("%s file %s: %w", verb, f.ID, o.refused)
	}
	l.known.Store(f.ID, f.Scope)
	return nil
}

// Begin implements ledger.Ledger. When ctx ends first the send may or may not be recorded; it must not be made.
func (l *Ledger) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill) error {
	if err := l.submit(ctx, &begin{scope: s, bill: *b}, shared); err != nil {
		return fmt.Errorf("begin bill %q: %w", b.Reference, err)
	}
	return nil
}

// Record implements ledger.Ledger. ErrNotFound, and nothing recorded, when the file of an outcome or of a
// count is not in the ledger.
func (l *Ledger) Record(ctx context.Context, e ledger.Entry) error {
	o := newRecord(e)
	if e.Outcome != nil || e.Gets != 0 || e.Throttled != 0 {
		scope, err := l.scopeOf(ctx, e.File)
		if err != nil {
			return fmt.Errorf("record for file %s: %w", e.File, err)
		}
		// Only then will the bill's sends lead History to the outcome; see outcomes_unsent.
		o.sent = e.Bill != nil && e.Outcome != nil && scope == e.Scope && e.Bill.Reference == e.Outcome.Reference &&
			e.Bill.Send.File == e.File && e.Bill.Send.Row == e.Outcome.Row
	}
	if err := l.submit(ctx, o, eventually); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// Flush implements ledger.Ledger.
func (l *Ledger) Flush(ctx context.Context) error {
	if l.queue == nil {
		return nil
	}
	if err := l.queue.barrier(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	l.queue.rest()
	return nil
}

// Close implements ledger.Ledger. It returns the failure of an earlier write, if there was one; the lock is released
// in any case. Later calls of Close return what the first did.
func (l *Ledger) Close() error {
	l.closeOnce.Do(func() {
		var errs []error
		if l.queue != nil {
			err := l.queue.close()
			if err == nil {
				err = l.writer.finish()
			}
			errs = append(errs, err)
		}
		errs = append(errs, l.release())
		if err := errors.Join(errs...); err != nil {
			l.closeErr = fmt.Errorf("close ledger %q: %w", l.path, err)
		}
	})
	return l.closeErr
}

// release frees connections and lock. The read connections go first: the last one to go copies the WAL into the
// database and removes it, and only the writing one can.
func (l *Ledger) release() error {
	var errs []error
	if l.read != nil {
		l.lookUps.close()
		errs = append(errs, l.read.Close())
	}
	if l.writer != nil {
		errs = append(errs, l.writer.close())
	}
	if l.write != nil {
		errs = append(errs, l.write.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

func (l *Ledger) submit(ctx context.Context, o op, h haste) error {
	if l.queue == nil {
		return fmt.Errorf("%w: %w", ledger.ErrUnusable, errReadOnly)
	}
	return l.queue.submit(ctx, o, h)
}

// scopeOf returns the scope of a recorded file.
func (l *Ledger) scopeOf(ctx context.Context, file string) (ledger.Scope, error) {
	if s, ok := l.known.Load(file); ok {
		return s.(ledger.Scope), nil
	}
	f, err := l.File(ctx, file)
	if err != nil {
		return ledger.Scope{}, err
	}
	l.known.Store(file, f.Scope)
	return f.Scope, nil
}

// settle makes a read see every write that returned before it; with keys, every such write that is about one of them.
func (l *Ledger) settle(ctx context.Context, keys ...touch) error {
	if l.queue == nil {
		return ctx.Err()
	}
	return l.queue.barrierFor(ctx, keys)
}
