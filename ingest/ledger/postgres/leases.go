package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"billdrop/ingest/ledger"
)

// errLate: a statement came to the server after its caller had stopped waiting for it.
var errLate = fmt.Errorf("%w: it was late", errSilent)

// guard begins every statement of a worker. It locks the worker's row, if the worker is
// not lost, in a mode that holds no heartbeat up. A statement that comes so late that its
// caller has given it up does nothing: otherwise it could take a lease that nobody knows
// of.
const guard = `WITH me AS (SELECT id FROM workers WHERE id = $1 AND lost_at IS NULL AND heard_at + lost_after > clock_timestamp()
	AND ($2::timestamptz IS NULL OR clock_timestamp() < $2) FOR KEY SHARE), `

// guarded runs a statement of this worker: guard, then sql, which takes me into account
// and ends with the list of what is scanned into. Its arguments begin at $3.
func (l *Ledger) guarded(ctx context.Context, sql, selected string, args []any, into ...any) error {
	me, err := l.worker()
	if err != nil {
		return err
	}
	h := l.beating.Load()
	if h == nil || h.me != me {
		return errNotJoined
	}
	sql = guard + sql + " SELECT (SELECT count(*) FROM me), $2::timestamptz IS NOT NULL AND clock_timestamp() >= $2" + selected
	err = l.patiently(ctx, func(ctx context.Context) error {
		var deadline any
		end, _ := ctx.Deadline()
		if d, ok := h.deadline(time.Until(end)); ok {
			deadline = d
		}
		var live int
		var late bool
		switch err := l.pool.QueryRow(ctx, sql, append([]any{me.session, deadline}, args...)...).Scan(append([]any{&live, &late}, into...)...); {
		case err != nil:
			return err
		case live > 0:
			return nil
		case late:
			return errLate
		}
		h.lost.Store(true)
		if l.beating.Load() == h { // it has not joined anew
			l.queue.Fail(ledger.ErrFenced)
		}
		return ledger.ErrFenced
	})
	if err != nil && !errors.Is(err, ledger.ErrFenced) && ctx.Err() == nil {
		return unusable(err)
	}
	return err
}

// live is a condition: the worker of the row l is live.
const liveHolder = "EXISTS (SELECT FROM workers AS w WHERE w.id = l.worker AND w.lost_at IS NULL)"

// Acquire implements ledger.Shared.
func (l *Ledger) Acquire(ctx context.Context, lease string) (bool, error) {
	got, err := l.acquire(ctx, `got AS (INSERT INTO leases AS l (name, worker) SELECT $3, id FROM me
		ON CONFLICT (name) DO UPDATE SET worker = excluded.worker WHERE l.worker = excluded.worker OR NOT `+liveHolder+` RETURNING 1)`,
		", EXISTS (SELECT FROM got)", stored(lease))
	if err != nil {
		return false, fmt.Errorf("acquire %s: %w", lease, err)
	}
	return got, nil
}

// acquire runs a guarded statement that reports whether it got something. If not, it
// tries once more when workers are marked as lost that are.
func (l *Ledger) acquire(ctx context.Context, sql, selected string, args ...any) (got bool, err error) {
	if err := l.guarded(ctx, sql, selected, args, &got); err != nil || got {
		return got, err
	}
	if lost, err := l.markOverdue(ctx); err != nil || !lost {
		return false, err
	}
	err = l.guarded(ctx, sql, selected, args, &got)
	return got, err
}

// markOverdue marks workers as lost that were not heard of for too long, which heartbeats
// do, too, a little later. It reports whether there were any.
func (l *Ledger) markOverdue(ctx context.Context) (bool, error) {
	overdue := false
	err := l.patiently(ctx, func(ctx context.Context) error {
		err := l.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM workers WHERE lost_at IS NULL AND heard_at + lost_after <= clock_timestamp())").Scan(&overdue)
		if err == nil && overdue {
			_, err = l.pool.Exec(ctx, markLost)
		}
		return err
	})
	if err != nil {
		return false, readError(ctx, "mark lost workers", err)
	}
	return overdue, nil
}

// Release implements ledger.Shared. What was recorded before is durable when it returns nil.
func (l *Ledger) Release(ctx context.Context, lease string) error {
	err := l.queue.Barrier(ctx, nil)
	if err == nil {
		err = l.guarded(ctx, "gone AS (DELETE FROM leases AS l USING me WHERE l.name = $3 AND l.worker = me.id)", "", []any{stored(lease)})
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", lease, err)
	}
	return nil
}

// AddParts implements ledger.Shared.
func (l *Ledger) AddParts(ctx context.Context, file string, parts []ledger.Part) error {
	number, err := l.number(ctx, file)
	if err == nil {
		no, from, to := make([]int64, len(parts)), make([]int64, len(parts)), make([]int64, len(parts))
		for i, p := range parts {
			no[i], from[i], to[i] = int64(p.No), int64(p.From), int64(p.To)
		}
		// Two workers divide a file one after the other, because the lock makes the
		// second one wait and the insert of its first part then finds the other's.
		err = l.guarded(ctx, `file AS (SELECT n.number FROM file_numbers AS n, me WHERE n.number = $3 FOR UPDATE OF n),
			added AS (INSERT INTO parts (file, no, from_row, to_row, done)
				SELECT file.number, v.no, v.from_row, v.to_row, false FROM file, unnest($4::bigint[], $5::bigint[], $6::bigint[]) AS v (no, from_row, to_row)
				WHERE NOT divided(file.number) ORDER BY v.no)`, "", []any{number, no, from, to})
	}
	if err != nil {
		return fmt.Errorf("divide file %s: %w", file, err)
	}
	return nil
}

// Parts implements ledger.Shared.
func (l *Ledger) Parts(ctx context.Context, file string) ([]ledger.Part, error) {
	var list []ledger.Part
	err := l.query(ctx, `SELECT p.no, p.from_row, p.to_row, p.done, p.failed, p.reason, p.hint, p.setup, coalesce(w.name, '')
		FROM parts AS p LEFT JOIN workers AS w ON w.id = p.worker AND w.lost_at IS NULL
		WHERE p.file = (SELECT number FROM file_numbers WHERE id = $1) ORDER BY p.no`, []any{stored(file)}, func() { list = nil },
		func(row tableRow) error {
			var p ledger.Part
			var f ledger.PartFailure
			var failed bool
			err := row.Scan(&p.No, &p.From, &p.To, &p.Done, &failed, &f.Reason, &f.Hint, &f.Setup, &p.Worker)
			if failed {
				p.Failure = &f
			}
			list = append(list, p)
			return err
		})
	if err != nil {
		return nil, readError(ctx, "read the parts of file "+file, err)
	}
	return list, nil
}

// AcquirePart implements ledger.Shared. ErrNotFound when there is no such part.
func (l *Ledger) AcquirePart(ctx context.Context, file string, no int) (bool, error) {
	number, err := l.number(ctx, file)
	got := false
	if err == nil {
		got, err = l.acquire(ctx, `got AS (UPDATE parts AS l SET worker = me.id FROM me WHERE l.file = $3 AND l.no = $4 AND NOT l.done
			AND (l.worker IS NULL OR l.worker = me.id OR NOT `+liveHolder+`) RETURNING 1)`, ", EXISTS (SELECT FROM got)", number, no)
	}
	if err == nil && !got {
		err = l.checkPart(ctx, number, no)
	}
	if err != nil {
		return false, fmt.Errorf("acquire part %d of file %s: %w", no, file, err)
	}
	return got, nil
}

// checkPart returns ErrNotFound if there is no such part.
func (l *Ledger) checkPart(ctx context.Context, file int64, no int) error {
	var known bool
	err := l.patiently(ctx, func(ctx context.Context) error {
		return l.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM parts WHERE file = $1 AND no = $2)", file, no).Scan(&known)
	})
	if err != nil {
		return readError(ctx, "look for it", err)
	}
	if !known {
		return ledger.ErrNotFound
	}
	return nil
}

// ReleasePart implements ledger.Shared. What was recorded before is durable when it
// returns nil. A part that is not in this worker's hand stays as it is. ErrNotFound when
// there is no such part.
func (l *Ledger) ReleasePart(ctx context.Context, file string, no int, done bool, failure *ledger.PartFailure) error {
	err := l.queue.Barrier(ctx, nil)
	if err == nil {
		err = l.releasePart(ctx, file, no, done, failure)
	}
	if err != nil {
		return fmt.Errorf("release part %d of file %s: %w", no, file, err)
	}
	return nil
}

func (l *Ledger) releasePart(ctx context.Context, file string, no int, done bool, failure *ledger.PartFailure) error {
	number, err := l.number(ctx, file)
	if err != nil {
		return err
	}
	f := ledger.PartFailure{}
	if failure != nil {
		f = *failure
	}
	var from, to int
	err = l.guarded(ctx, `released AS (UPDATE parts AS l SET worker = NULL, done = $5, failed = $6, reason = $7, hint = $8, setup = $9
			FROM me WHERE l.file = $3 AND l.no = $4 AND l.worker = me.id RETURNING l.from_row, l.to_row)`,
		", coalesce((SELECT from_row FROM released), 0), coalesce((SELECT to_row FROM released), 0)",
		[]any{number, no, done, failure != nil, stored(f.Reason), stored(f.Hint), f.Setup}, &from, &to)
	if err != nil {
		return err
	}
	if to == 0 {
		return l.checkPart(ctx, number, no)
	}
	return l.endLeads(ctx, func(r rowKey) bool { return r.file == number && from <= r.row && r.row < to })
}

// endLeads gives back what this worker leads by sends of rows for which of is true.
func (l *Ledger) endLeads(ctx context.Context, of func(rowKey) bool) error {
	free := l.leads.endAll(of)
	if len(free) == 0 {
		return nil
	}
	digests := make([][]byte, len(free))
	for i := range free {
		digests[i] = free[i][:]
	}
	return l.guarded(ctx, `freed AS (UPDATE parties AS p SET lead_worker = NULL, lead_file = NULL, lead_row = NULL
		FROM me WHERE p.lead_worker = me.id AND p.id = '' AND p.digest = ANY ($3))`, "", []any{digests})
}

// DropParts implements ledger.Shared.
func (l *Ledger) DropParts(ctx context.Context, file string) error {
	number, err := l.number(ctx, file)
	if err == nil {
		err = l.guarded(ctx, "gone AS (DELETE FROM parts AS l USING me WHERE l.file = $3)", "", []any{number})
	}
	if err == nil {
		err = l.endLeads(ctx, func(r rowKey) bool { return r.file == number })
	}
	if err != nil {
		return fmt.Errorf("drop the parts of file %s: %w", file, err)
	}
	return nil
}

// LeaveOrder implements ledger.Shared.
func (l *Ledger) LeaveOrder(ctx context.Context, file, order string) error {
	return l.order(ctx, "leave an order on file "+file, `INSERT INTO orders (file, what, at) VALUES ($1, $2, clock_timestamp())
		ON CONFLICT (file) DO UPDATE SET what = excluded.what, at = excluded.at`, stored(file), stored(order))
}

// WithdrawOrders implements ledger.Shared.
func (l *Ledger) WithdrawOrders(ctx context.Context, file string) error {
	if me := l.self.Load(); me != nil && me.worker {
		err := l.guarded(ctx, "gone AS (DELETE FROM orders USING me WHERE orders.file = $3)", "", []any{stored(file)})
		if err != nil {
			return fmt.Errorf("withdraw the orders on file %s: %w", file, err)
		}
		return nil
	}
	return l.order(ctx, "withdraw the orders on file "+file, "DELETE FROM orders WHERE file = $1", stored(file))
}

// RemoveOrder implements ledger.Shared.
func (l *Ledger) RemoveOrder(ctx context.Context, o ledger.LeftOrder) (there bool, err error) {
	err = l.guarded(ctx, "gone AS (DELETE FROM orders USING me WHERE orders.file = $3 AND orders.what = $4 AND orders.at = $5 RETURNING 1)",
		", EXISTS (SELECT FROM gone)", []any{stored(o.File), stored(o.Order), o.At}, &there)
	if err != nil {
		return false, fmt.Errorf("remove an order on file %s: %w", o.File, err)
	}
	return there, nil
}

func (l *Ledger) order(ctx context.Context, what, sql string, args ...any) error {
	err := l.patiently(ctx, func(ctx context.Context) error {
		_, err := l.pool.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		return readError(ctx, what, err)
	}
	return nil
}

// Orders implements ledger.Shared.
func (l *Ledger) Orders(ctx context.Context, file string) ([]ledger.LeftOrder, error) {
	var list []ledger.LeftOrder
	err := l.query(ctx, "SELECT file, what, at FROM orders WHERE $1 = '' OR file = $1 ORDER BY at, file", []any{stored(file)}, func() { list = nil },
		func(row tableRow) error {
			var o ledger.LeftOrder
			err := row.Scan(&o.File, &o.Order, (*serverTime)(&o.At))
			list = append(list, o)
			return err
		})
	if err != nil {
		return nil, readError(ctx, "read orders", err)
	}
	return list, nil
}

// Reserve implements ledger.Shared. The duration counts from the moment at which the
// server granted the places, so they are a little later than granted, never earlier.
func (l *Ledger) Reserve(ctx context.Context, s ledger.Scope, perSecond float64, n int) (time.Duration, error) {
	var micros int64
	scope, err := l.scope(ctx, s)
	if err == nil {
		err = l.patiently(ctx, func(ctx context.Context) error {
			return l.pool.QueryRow(ctx, `INSERT INTO paces AS p (scope, next) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
				ON CONFLICT (scope) DO UPDATE SET next = greatest(p.next, clock_timestamp()) + make_interval(secs => $2)
				RETURNING (extract(epoch FROM next - make_interval(secs => $2) - clock_timestamp()) * 1000000)::bigint`,
				scope, float64(n)/perSecond).Scan(&micros)
		})
	}
	if err != nil {
		return 0, readError(ctx, "reserve requests", err)
	}
	return max(0, time.Duration(micros)*time.Microsecond), nil
}

// Pause implements ledger.Shared.
func (l *Ledger) Pause(ctx context.Context, s ledger.Scope, d time.Duration) error {
	l.pauses.own(s, time.Now().Add(d))
	scope, err := l.scope(ctx, s)
	if err == nil {
		err = l.patiently(ctx, func(ctx context.Context) error {
			_, err := l.pool.Exec(ctx, `INSERT INTO paces AS p (scope, paused) VALUES ($1, clock_timestamp() + $2::bigint * interval '1 microsecond')
				ON CONFLICT (scope) DO UPDATE SET paused = greatest(p.paused, excluded.paused)`, scope, d.Microseconds())
			return err
		})
	}
	if err != nil {
		return readError(ctx, "pause", err)
	}
	return nil
}

// Paused implements ledger.Shared.
func (l *Ledger) Paused(s ledger.Scope) time.Duration { return l.pauses.left(s, time.Now()) }

// pauses are until when each scope is paused, by this machine's clock.
type pauses struct {
	mu           sync.Mutex
	theirs, mine map[ledger.Scope]time.Time // fetched by the heartbeat; begun by this handle
}

func (p *pauses) fetched(left map[ledger.Scope]time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.theirs = make(map[ledger.Scope]time.Time, len(left))
	for s, d := range left {
		p.theirs[s] = now.Add(d)
	}
}

func (p *pauses) own(s ledger.Scope, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mine == nil {
		p.mine = map[ledger.Scope]time.Time{}
	}
	if until.After(p.mine[s]) {
		p.mine[s] = until
	}
}

func (p *pauses) left(s ledger.Scope, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.theirs[s].Sub(now), p.mine[s].Sub(now))
}
