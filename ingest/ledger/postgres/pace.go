package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

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
		func(rows pgx.Rows) error {
			var o ledger.LeftOrder
			err := rows.Scan(&o.File, &o.Order, &o.At)
			read(&o.File, &o.Order)
			o.At = o.At.UTC()
			list = append(list, o)
			return err
		})
	if err != nil {
		return nil, readError(ctx, "read orders", err)
	}
	return list, nil
}

// Reserve implements ledger.Shared. The duration counts from the moment at which the server granted the
// places, so they are a little later than granted, never earlier.
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
