package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"billdrop/ingest/ledger"
)

// carefulFor is how long inserts into a table stay careful after one that was not has failed.
// Such a failure seldom comes alone: another worker is at the same parties, or rows of a file
// end again.
const carefulFor = 10 * time.Second

// writer commits batches, on a connection of its own. It is used by the queue's goroutine alone.
type writer struct {
	l *Ledger

	conn    *pgx.Conn // nil when there is none
	backend backend   // of conn, or of the latest one
	stale   bool      // backend may still be at work for a batch whose answer was lost
	told    int64     // session that was told of conn's backend

	session int64 // whose batches are counted
	last    int64 // the latest batch of session

	began      time.Time            // when the batch at hand was tried first
	careful    map[string]time.Time // by table: until when inserts into it expect rows that are there already
	carefulFor time.Duration

	stopped context.Context // ends when batches are to be given up
	stop    context.CancelFunc
}

// backend is a process of the server. started differs from that of a later one of the same number.
type backend struct {
	pid     int
	started time.Time
}

func newWriter(l *Ledger) *writer {
	w := &writer{l: l, careful: map[string]time.Time{}, carefulFor: carefulFor}
	w.stopped, w.stop = context.WithCancel(context.Background())
	return w
}

// close ends the connection. The queue's goroutine has ended.
func (w *writer) close() {
	w.stop()
	hangUp(&w.conn)
}

// hangUp closes a connection, if there is one, that is of no more use.
func hangUp(c **pgx.Conn) {
	if *c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = (*c).Close(ctx) // whatever becomes of it
	*c = nil
}

// commit applies ops in one transaction and makes that durable, however long it takes.
// After an error none of them is applied, and no other batch may follow.
func (w *writer) commit(ops []op) error {
	me := w.l.self.Load() // made before the first op was queued
	if me == nil {
		return w.l.fenced(errors.New("no session"))
	}
	if me.session != w.session {
		w.session, w.last = me.session, 0
	}
	w.began = time.Now()
	a := attempts{l: w.l}
	defer a.over()
	for {
		err := w.try(a.timeout(), me, ops)
		switch {
		case err == nil:
			w.last++
			w.l.queue.Outage(nil)
			return nil
		case errors.Is(err, ledger.ErrFenced):
			return err
		case isConflict(err) && w.stopped.Err() == nil:
			continue // the other one goes first
		case w.beCareful(err):
			continue
		case w.stopped.Err() != nil:
			return fmt.Errorf("write ledger: %w", w.l.unreachable(err))
		case !w.l.passing(err):
			hangUp(&w.conn)
			return fmt.Errorf("write ledger: %w", unusable(err))
		}
		hangUp(&w.conn)
		pause := time.NewTimer(a.failed(err))
		if a.hopeless() {
			w.l.queue.Outage(w.l.unreachable(err))
		}
		select {
		case <-pause.C:
		case <-w.stopped.Done():
			pause.Stop()
		}
	}
}

// isConflict reports whether the server broke a transaction off for the sake of another one.
func isConflict(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "55P03")
}

// beCareful reports whether the server broke a transaction off because a row was there already
// that the transaction took for new. The batch will expect that when it is tried again, and so will
// those that begin soon.
func (w *writer) beCareful(err error) bool {
	var pg *pgconn.PgError
	if w.stopped.Err() != nil || !errors.As(err, &pg) || pg.Code != "23505" || w.isCareful(pg.TableName) {
		return false
	}
	w.careful[pg.TableName] = time.Now().Add(w.carefulFor)
	return true
}

// isCareful reports whether inserts into a table expect rows that are there already. It goes by the
// time when the batch began: so it is the same in all of a transaction, and true once the batch has
// failed by that table, however long its tries take.
func (w *writer) isCareful(table string) bool { return w.began.Before(w.careful[table]) }

// try is one transaction.
func (w *writer) try(timeout time.Duration, me *identity, ops []op) error {
	ctx, cancel := context.WithTimeout(w.stopped, timeout)
	defer cancel()
	if err := w.connect(ctx, me); err != nil {
		return err
	}
	t := &tx{w: w, ctx: ctx, conn: w.conn, me: me, batch: w.last + 1, results: map[string]json.RawMessage{}}
	err := t.run(ops)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errReplayed):
		if err := t.rollback(); err != nil {
			hangUp(&w.conn) // what it replays is known all the same
		}
		return t.replay(ops)
	}
	w.stale = true
	if w.conn.IsClosed() {
		w.conn = nil
	} else if e := t.rollback(); e != nil {
		hangUp(&w.conn)
	} else {
		w.stale = false
	}
	if ctx.Err() != nil && w.stopped.Err() == nil {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	return err
}

// connect makes the connection where there is none. What the connection before it may
// still be at work on is ended first, so that the batch does not wait for itself.
func (w *writer) connect(ctx context.Context, me *identity) error {
	if w.conn != nil && w.conn.IsClosed() {
		w.conn = nil
	}
	if w.conn == nil {
		c, err := pgx.ConnectConfig(ctx, w.l.config.Copy())
		if err != nil {
			return err
		}
		if err := w.adopt(ctx, c); err != nil {
			_ = c.Close(ctx)
			return err
		}
	}
	if me.worker && w.told != me.session {
		if _, err := w.conn.Exec(ctx, "UPDATE workers SET backend = $1, backend_start = $2 WHERE id = $3", w.backend.pid, w.backend.started, me.session); err != nil {
			return err
		}
		w.told = me.session
	}
	return nil
}

func (w *writer) adopt(ctx context.Context, c *pgx.Conn) error {
	if err := setSession(ctx, c); err != nil {
		return err
	}
	// Its statements find each row by an index, however large or small the tables are, so
	// one plan serves.
	if _, err := c.Exec(ctx, `SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
		set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false), set_config('enable_bitmapscan', 'off', false)`); err != nil {
		return err
	}
	if w.stale {
		_, err := c.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2", w.backend.pid, w.backend.started)
		if err != nil {
			return err
		}
		w.stale = false
	}
	var b backend
	err := c.QueryRow(ctx, "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()").Scan(&b.pid, &b.started)
	if err != nil {
		return err
	}
	w.conn, w.backend, w.told = c, b, 0
	return nil
}

// careful is writer.isCareful. What is careful costs the server a tenth more.
func (t *tx) careful(table string) bool { return t.w.isCareful(table) }

// errReplayed: the batch was committed by an earlier try, whose answer was lost.
var errReplayed = errors.New("this batch was committed before")

// tx is a transaction that applies one batch.
type tx struct {
	w     *writer
	ctx   context.Context
	conn  *pgx.Conn
	me    *identity
	batch int64

	index   int // of the op that is being applied
	begun   bool
	added   int64 // rows to bills
	seg     segment
	results map[string]json.RawMessage // by the number of an op
}

// replayed is implemented by ops that have a result: what a caller is told beyond that the op is
// durable.
type replayed interface {
	result() any // nil = what most ops of this kind have
	restore(json.RawMessage) error
}

// run applies ops and commits.
func (t *tx) run(ops []op) error {
	for i, o := range ops {
		t.index = i
		if err := o.apply(t); err != nil {
			return err
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	for i, o := range ops {
		r, ok := o.(replayed)
		if !ok {
			continue
		}
		if v := r.result(); v != nil {
			b, err := json.Marshal(v)
			if err != nil {
				return err
			}
			t.results[strconv.Itoa(i)] = b
		}
	}
	return t.commit()
}

// open begins the transaction at the head of b: it takes the batch's number, unless an
// earlier try has, and locks the row of the worker that it is for, unless that is lost.
// The lock does not hold the heartbeat up.
func (t *tx) open(b *pgx.Batch) {
	t.begun = true
	b.Queue("BEGIN")
	b.Queue("SELECT last, results FROM sessions WHERE id = $1 FOR UPDATE", t.me.session).QueryRow(func(row pgx.Row) error {
		var last int64
		var results []byte
		switch err := row.Scan(&last, &results); {
		case errors.Is(err, pgx.ErrNoRows):
			return t.w.l.fenced(errors.New("its session was removed"))
		case err != nil:
			return err
		case last == t.batch:
			t.results = nil
			if err := json.Unmarshal(results, &t.results); err != nil {
				return err
			}
			return errReplayed
		case last > t.batch:
			return t.w.l.fenced(errors.New("its session is used by another process"))
		}
		return nil
	})
	if !t.me.worker {
		return
	}
	b.Queue("SELECT heard_at + lost_after > clock_timestamp() FROM workers WHERE id = $1 AND lost_at IS NULL FOR KEY SHARE", t.me.session).
		QueryRow(func(row pgx.Row) error {
			var live bool
			err := row.Scan(&live)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			if !live {
				return t.w.l.fenced(nil)
			}
			return nil
		})
}

// send runs b, opening the transaction before it where that was not done.
func (t *tx) send(queue func(b *pgx.Batch)) error {
	b := &pgx.Batch{}
	if !t.begun {
		t.open(b)
	}
	queue(b)
	return t.conn.SendBatch(t.ctx, b).Close()
}

// one runs a query of one row at most, within the transaction.
func (t *tx) one(sql string, args []any, scan func(pgx.Row) error) (found bool, err error) {
	err = t.send(func(b *pgx.Batch) {
		b.Queue(sql, args...).QueryRow(func(row pgx.Row) error {
			err := scan(row)
			found = err == nil
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		})
	})
	return found, err
}

// exec runs a statement within the transaction, and returns how many rows it changed.
func (t *tx) exec(sql string, args ...any) (changed int, err error) {
	err = t.send(func(b *pgx.Batch) {
		b.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
			changed = int(tag.RowsAffected())
			return nil
		})
	})
	return changed, err
}

func (t *tx) commit() error {
	results, err := json.Marshal(t.results)
	if err != nil {
		return err
	}
	return t.send(func(b *pgx.Batch) {
		b.Queue("UPDATE sessions SET last = $2, results = $3, bills = bills + $4, at = clock_timestamp() WHERE id = $1",
			t.me.session, t.batch, results, t.added)
		b.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
			if tag.String() != "COMMIT" {
				return errors.New("the transaction was rolled back")
			}
			return nil
		})
	})
}

func (t *tx) rollback() error {
	if !t.begun {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := t.conn.Exec(ctx, "ROLLBACK")
	return err
}

// replay gives ops the results that they had when the batch was committed.
func (t *tx) replay(ops []op) error {
	for i, o := range ops {
		if r, ok := o.(replayed); ok {
			if err := r.restore(t.results[strconv.Itoa(i)]); err != nil {
				return err
			}
		}
	}
	return nil
}
