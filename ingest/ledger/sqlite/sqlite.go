// Package sqlite keeps a ledger in one SQLite file: the default engine, for one machine.
//
// One goroutine owns the only connection that writes. It takes whatever callers have
// queued, applies all of it in one transaction and commits that with one sync (group
// commit), so that a Begin costs a share of a sync. Reads run beside it on a few
// read-only connections, once the queued writes that concern them are committed.
//
// Tables are plain (migrations/00001_ledger.sql), and the views bill, outcome, attempt
// and file are made to be read by hand: sqlite3 -readonly ledger.db "SELECT * FROM bill
// WHERE reference = 'X'".
//
// The database is in WAL mode with synchronous=FULL: a commit that has returned survives
// kill -9 and power loss (https://www.sqlite.org/wal.html). Beside NAME there are
// NAME-wal and NAME-shm while it is in use, and after a crash: they belong to the ledger,
// and a copy without NAME-wal lacks its latest commits. One process at a time holds
// NAME.lock, and a lock of the file itself.
//
// Times are kept in microseconds, UTC.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/groupcommit"
)

// Errors of a ledger that is used against its state; both are faults of the program, not
// of the disk.
var (
	errClosed   = errors.New("it is closed")
	errReadOnly = errors.New("it was opened for reading only")
)

// Ledger is a ledger.Ledger in one SQLite file, made by Open or OpenReadOnly. Its methods
// may be called concurrently, Close too: calls that come after Close fail with
// ErrUnusable.
type Ledger struct {
	path string
	lock *lock // nil when read-only
	read *sql.DB

	bills, parties *sql.Stmt // look-ups, on read
	files          sync.Map  // number → id of a file, as far as it was needed; neither ever changes

	// Of the writing side; nil when read-only.
	write  *sql.DB // one connection, which writer has
	writer *writer // used by queue's goroutine
	queue  *groupcommit.Queue[op]

	// known holds the ids of files that were found to be recorded. A Record for another
	// file is refused where it is called, because it would fail a batch that holds other
	// callers' writes.
	known sync.Map

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
	if err := l.doNow(ctx, o); err != nil {
		return fmt.Errorf("%s file %s: %w", verb, f.ID, err)
	}
	if o.refused != nil {
		return fmt.Errorf("%s file %s: %w", verb, f.ID, o.refused)
	}
	l.known.Store(f.ID, true)
	return nil
}

// Begin implements ledger.Ledger. When ctx ends first, the send may or may not be
// recorded; it must not be made.
func (l *Ledger) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, _ ...ledger.PartyRef) error {
	err := l.writable()
	if err == nil {
		err = l.queue.Do(ctx, &begin{scope: s, bill: *b})
	}
	if err != nil {
		return fmt.Errorf("begin bill %q: %w", b.Reference, err)
	}
	return nil
}

// Record implements ledger.Ledger. ErrNotFound, and nothing recorded, when the file of an
// outcome or of a count is not in the ledger.
func (l *Ledger) Record(ctx context.Context, e ledger.Entry) error {
	if e.Outcome != nil || e.Counts() {
		if err := l.checkKnown(ctx, e.File); err != nil {
			return fmt.Errorf("record for file %s: %w", e.File, err)
		}
	}
	if err := l.add(ctx, newRecord(e)); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// checkKnown returns ErrNotFound when a file is not recorded.
func (l *Ledger) checkKnown(ctx context.Context, file string) error {
	if _, ok := l.known.Load(file); ok {
		return nil
	}
	if _, err := l.File(ctx, file); err != nil {
		return err
	}
	l.known.Store(file, true)
	return nil
}

// Flush implements ledger.Ledger.
func (l *Ledger) Flush(ctx context.Context) error {
	if err := l.settle(ctx, nil); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// Close implements ledger.Ledger. It returns the failure of an earlier write, if there
// was one; the lock is released in any case. Later calls of Close return what the first
// did.
func (l *Ledger) Close() error {
	l.closeOnce.Do(func() {
		var errs []error
		if l.queue != nil {
			errs = append(errs, l.queue.Close())
		}
		errs = append(errs, l.release())
		if err := errors.Join(errs...); err != nil {
			l.closeErr = fmt.Errorf("close ledger %q: %w", l.path, err)
		}
	})
	return l.closeErr
}

// release frees connections and lock. The read connections go first: the last one to go
// copies the WAL into the database and removes it, and only the writing one can.
func (l *Ledger) release() error {
	var errs []error
	if l.read != nil {
		errs = append(errs, l.read.Close())
	}
	if l.writer != nil {
		errs = append(errs, l.writer.close())
	}
	if l.write != nil {
		errs = append(errs, l.write.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.release())
	}
	return errors.Join(errs...)
}

// writable returns an error when l was opened for reading only.
func (l *Ledger) writable() error {
	if l.queue == nil {
		return fmt.Errorf("%w: %w", ledger.ErrUnusable, errReadOnly)
	}
	return nil
}

// add queues a write for which no caller waits.
func (l *Ledger) add(ctx context.Context, o op) error {
	if err := l.writable(); err != nil {
		return err
	}
	return l.queue.Add(ctx, o)
}

// doNow returns once o is durable. Its batch gathers no longer, because the caller has
// nothing else to do.
func (l *Ledger) doNow(ctx context.Context, o op) error {
	if err := l.writable(); err != nil {
		return err
	}
	return l.queue.DoNow(ctx, o)
}

// settle makes a read see every write that returned before it and for which about is
// true; a nil about is true of all.
func (l *Ledger) settle(ctx context.Context, about func(op) bool) error {
	if l.queue == nil {
		return ctx.Err()
	}
	if err := l.queue.Barrier(ctx, about); err != nil {
		return err
	}
	return l.queue.Err()
}

// BaseURL implements ledger.Ledger.
func (l *Ledger) BaseURL(ctx context.Context, s ledger.Scope) (url string, err error) {
	err = l.readTx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT base_url FROM scopes WHERE merchant = ? AND mode = ?", s.Merchant, s.Mode).Scan(&url)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", readError(ctx, "read the API's address", err)
	}
	return url, nil
}

// SetBaseURL implements ledger.Ledger.
func (l *Ledger) SetBaseURL(ctx context.Context, s ledger.Scope, url string) error {
	if err := l.doNow(ctx, &setBaseURL{s, url}); err != nil {
		return fmt.Errorf("record the API's address: %w", err)
	}
	return nil
}

type setBaseURL struct {
	scope ledger.Scope
	url   string
}

func (o *setBaseURL) apply(w *writer) error {
	scope, err := w.scope(o.scope)
	if err != nil {
		return err
	}
	return w.s.setBaseURL.exec(o.url, scope)
}
