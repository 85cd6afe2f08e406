// Package postgres keeps a ledger in PostgreSQL, for several workers on several machines.
//
// Each handle has one goroutine that writes. It takes whatever callers have queued,
// applies all of it in one transaction, many rows a statement, and commits that (group
// commit). Reads run beside it on a pool of connections, once the queued writes that
// concern them are committed. A third connection carries the heartbeat of a handle that
// has joined.
//
// Workers are kept apart by rows that they lock. A batch of a worker first locks the
// worker's row, in a mode that heartbeats do not conflict with; marking a worker as lost
// takes a lock that does conflict. So a batch is either committed before its worker is
// lost, or refused. A bill is changed only if its revision is the one that the caller
// read. The server's clock alone counts.
//
// A batch whose commit got no answer is sent again under its number. The transaction
// itself recorded that number and what became of each operation (table sessions), so it
// takes effect once.
//
// Tables are plain (migrations/00001_ledger.sql), and the views bill, outcome, attempt
// and file are made to be read by hand:
//
//	psql -c "SELECT * FROM bill WHERE reference = 'X'" DATABASE
//
// The URL must lead to the server itself, or to a pooler that gives each client a session
// of its own.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/groupcommit"
)

var (
	errClosed    = errors.New("it is closed")
	errNotJoined = fmt.Errorf("%w: it has not joined", ledger.ErrFenced)
)

// Ledger is a ledger.Shared in one PostgreSQL database, made by Open. Its methods may be called
// concurrently, Close too: calls that come after Close fail with ErrUnusable.
type Ledger struct {
	name     string // its address, without a password
	patience time.Duration
	outage   outage
	config   *pgx.ConnConfig
	pool     *pgxpool.Pool

	writer *writer // used by queue's goroutine
	queue  *groupcommit.Queue[op]

	// known holds the ids of files that were found to be recorded. A Record for another file is
	// refused where it is called, because it would fail a batch that holds other callers' writes.
	known sync.Map
	// numbers are those of scopes and of file ids, which never change.
	scopes, files sync.Map

	self     atomic.Pointer[identity] // nil before the first write
	selfMu   sync.Mutex               // held while self is made or replaced
	pauses   pauses
	beating  atomic.Pointer[heartbeat] // nil when not joined; selfMu is held to change it
	leads    leads                     // of this worker
	closing  chan struct{}             // closed by Close
	closeErr error
	closed   sync.Once
}

// identity is under which session a handle writes.
type identity struct {
	session int64
	worker  bool // it has joined
	stamps  atomic.Uint32
}

// stamp is a new revision: no other state of any bill or file has it.
func (i *identity) stamp() int64 { return i.session<<32 | int64(i.stamps.Add(1)) }

// Pool is the pool of connections to the ledger's database, for a queue of work that is kept in
// the same one. It is closed with the ledger.
func (l *Ledger) Pool() *pgxpool.Pool { return l.pool }

// Name is the ledger's address, without a password.
func (l *Ledger) Name() string { return l.name }

// identity returns the session under which l writes, and makes one before the first write.
func (l *Ledger) identity(ctx context.Context) (*identity, error) {
	if me := l.self.Load(); me != nil {
		return me, nil
	}
	l.selfMu.Lock()
	defer l.selfMu.Unlock()
	if me := l.self.Load(); me != nil {
		return me, nil
	}
	me := &identity{}
	err := l.patiently(ctx, func(ctx context.Context) error {
		return l.pool.QueryRow(ctx, "INSERT INTO sessions DEFAULT VALUES RETURNING id").Scan(&me.session)
	})
	if err != nil {
		return nil, readError(ctx, "begin a session", err)
	}
	l.self.Store(me)
	return me, nil
}

// worker returns the session under which l writes as a worker.
func (l *Ledger) worker() (*identity, error) {
	if err := l.queue.Err(); err != nil {
		return nil, err
	}
	if me := l.self.Load(); me != nil && me.worker {
		return me, nil
	}
	return nil, errNotJoined
}

// AddFile implements ledger.Ledger. It sets f.Revision.
func (l *Ledger) AddFile(ctx context.Context, f *ledger.File) error {
	return l.putFile(ctx, "add", f, true)
}

// SaveFile implements ledger.Ledger.
func (l *Ledger) SaveFile(ctx context.Context, f *ledger.File) error {
	return l.putFile(ctx, "save", f, false)
}

func (l *Ledger) putFile(ctx context.Context, verb string, f *ledger.File, isNew bool) error {
	err := l.savingFile(ctx, f, isNew)
	if err != nil {
		return fmt.Errorf("%s file %s: %w", verb, f.ID, err)
	}
	l.known.Store(f.ID, true)
	return nil
}

func (l *Ledger) savingFile(ctx context.Context, f *ledger.File, isNew bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	me, err := l.identity(ctx)
	if err != nil {
		return err
	}
	o := &putFile{file: *f, isNew: isNew, revision: me.stamp()}
	if o.scope, err = l.scope(ctx, f.Scope); err != nil {
		return err
	}
	if o.number, err = l.number(ctx, f.ID); err != nil {
		return err
	}
	if err := errors.Join(l.queue.DoNow(ctx, o), o.refused); err != nil {
		return err
	}
	f.Revision = o.revision
	return nil
}

// Begin implements ledger.Ledger. When ctx ends first, the send may or may not be recorded; it must
// not be made.
//
// The row for which a bill is sent is in hand while its part is, or, of a file that is
// not divided, while the lease file/ID is. Besides what ledger.Shared says, a lead that
// another send has made known since is refused with ErrTaken, unless b only sends again
// what was sent under the same key.
func (l *Ledger) Begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, leads ...ledger.PartyRef) error {
	if err := l.begin(ctx, s, b, leads); err != nil {
		return fmt.Errorf("begin bill %q: %w", b.Reference, err)
	}
	return nil
}

func (l *Ledger) begin(ctx context.Context, s ledger.Scope, b *ledger.Bill, leads []ledger.PartyRef) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	me, err := l.worker()
	if err != nil {
		return err
	}
	o := &begin{put: put{bill: *b, ref: s, replaced: b.Revision, revision: me.stamp()}}
	if err := l.numbered(ctx, &o.put); err != nil {
		return err
	}
	for _, ref := range leads {
		o.leads = append(o.leads, lead{ref.Digest(s), ref.Kind})
	}
	if err := l.queue.Do(ctx, o); err != nil {
		return err
	}
	if o.refused != nil {
		return o.refused
	}
	b.Revision, b.Held = o.revision, false
	l.leads.note(rowKey{o.file, b.Send.Row}, o.leads)
	return nil
}

// Record implements ledger.Ledger. ErrNotFound, and nothing recorded, when the file of an
// outcome or of a count is not in the ledger. A bill that is not as this worker left it,
// or read it, stays as it is; the rest of the entry is recorded.
func (l *Ledger) Record(ctx context.Context, e ledger.Entry) error {
	if err := l.record(ctx, e); err != nil {
		if e.File != "" {
			return fmt.Errorf("record for file %s: %w", e.File, err)
		}
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

func (l *Ledger) record(ctx context.Context, e ledger.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	me, err := l.worker()
	if err != nil {
		return err
	}
	if e.Outcome != nil || e.Counts() {
		if err := l.checkKnown(ctx, e.File); err != nil {
			return err
		}
	}
	r, err := l.newRecord(ctx, me, e)
	if err != nil {
		return err
	}
	if err := l.queue.Add(ctx, r); err != nil {
		return err
	}
	if e.Bill != nil {
		e.Bill.Revision, e.Bill.Held = r.revision, false
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
	err := l.queue.Barrier(ctx, nil)
	if err == nil {
		err = l.queue.Err()
	}
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// Close implements ledger.Ledger. It leaves, where the handle has joined, and returns the
// failure of an earlier write, if there was one. Later calls of Close return what the
// first did.
func (l *Ledger) Close() error {
	l.closed.Do(func() {
		err := l.closeQueue()
		ctx, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		l.selfMu.Lock()
		err = errors.Join(err, l.leave(ctx))
		l.selfMu.Unlock()
		l.release()
		if err != nil {
			l.closeErr = fmt.Errorf("close ledger %s: %w", l.name, err)
		}
	})
	return l.closeErr
}

// release frees all connections. The queue's goroutine has ended.
func (l *Ledger) release() {
	if h := l.beating.Swap(nil); h != nil {
		h.end()
	}
	close(l.closing)
	l.writer.close()
	l.pool.Close()
}

// scope returns the number of s, which is added where it is new.
func (l *Ledger) scope(ctx context.Context, s ledger.Scope) (int64, error) {
	if n, ok := l.scopes.Load(s); ok {
		return n.(int64), nil
	}
	n, err := l.numberOf(ctx, "scopes", `INSERT INTO scopes (merchant, mode) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		`SELECT id::bigint FROM scopes WHERE merchant = $1 AND mode = $2`, stored(s.Merchant), stored(s.Mode))
	if err == nil {
		l.scopes.Store(s, n)
	}
	return n, err
}

// number returns the number of a file id, which is added where it is new. The file need not be
// recorded.
func (l *Ledger) number(ctx context.Context, file string) (int64, error) {
	if n, ok := l.files.Load(file); ok {
		return n.(int64), nil
	}
	n, err := l.numberOf(ctx, "files", `INSERT INTO file_numbers (id) VALUES ($1) ON CONFLICT DO NOTHING`,
		`SELECT number FROM file_numbers WHERE id = $1`, stored(file))
	if err == nil {
		l.files.Store(file, n)
	}
	return n, err
}

// numberOf finds the number of a key, after adding the key where it is new. That is a
// transaction of its own: a number says nothing about what it is for.
func (l *Ledger) numberOf(ctx context.Context, what, add, find string, key ...any) (n int64, err error) {
	err = l.patiently(ctx, func(ctx context.Context) error {
		err := l.pool.QueryRow(ctx, find, key...).Scan(&n)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if _, err := l.pool.Exec(ctx, add, key...); err != nil {
			return err
		}
		return l.pool.QueryRow(ctx, find, key...).Scan(&n)
	})
	if err != nil {
		return 0, readError(ctx, "number "+what, err)
	}
	return n, nil
}

// numbered fills in the numbers of a bill's scope and file.
func (l *Ledger) numbered(ctx context.Context, p *put) (err error) {
	if p.scope, err = l.scope(ctx, p.ref); err != nil || p.bill.Send == (ledger.Send{}) {
		return err
	}
	p.file, err = l.number(ctx, p.bill.Send.File)
	return err
}
