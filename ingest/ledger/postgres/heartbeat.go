package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

const (
	// beatEvery is the longest time between two heartbeats.
	beatEvery = 500 * time.Millisecond
	// beatTimeout is the longest that one may take.
	beatTimeout = 2 * time.Second
	// freshFor is the longest that a worker sends requests after the beginning of its
	// latest heartbeat.
	freshFor = 3 * time.Second
)

// heartbeat has a worker heard of, on a connection of its own, until it ends or the
// worker is lost. It also marks others as lost, and fetches the pauses.
type heartbeat struct {
	l      *Ledger
	me     *identity
	member ledger.Member
	conn   *pgx.Conn

	fresh     time.Duration
	confirmed atomic.Pointer[time.Time] // when the latest one that was confirmed began
	lost      atomic.Bool
	clock     atomic.Pointer[clock]

	ctx  context.Context
	stop context.CancelFunc
	done chan struct{} // closed when run has returned
}

// clock is what the server's clock showed at the latest at a moment of this machine.
type clock struct{ server, here time.Time }

func newHeartbeat(l *Ledger, me *identity, m ledger.Member, began time.Time) *heartbeat {
	h := &heartbeat{l: l, me: me, member: m, fresh: min(freshFor, m.LostAfter/2), done: make(chan struct{})}
	h.confirmed.Store(&began)
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// end ends the heartbeat, and waits for that.
func (h *heartbeat) end() {
	h.stop()
	<-h.done
}

// current returns nil if the worker is certain not to be taken for lost. Of the two clocks, the
// monotonic one may stand while the machine sleeps, and the wall clock may be set.
func (h *heartbeat) current(now time.Time) error {
	if h.lost.Load() {
		return ledger.ErrFenced
	}
	began := *h.confirmed.Load()
	if age := max(now.Sub(began), now.Round(0).Sub(began.Round(0))); age >= h.fresh {
		return fmt.Errorf("%w: no heartbeat was confirmed for %v", ledger.ErrUnreachable, age.Round(time.Millisecond))
	}
	return nil
}

func (h *heartbeat) run() {
	defer close(h.done)
	defer hangUp(&h.conn)
	every := min(beatEvery, h.member.LostAfter/4)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := h.beat(min(beatTimeout, h.member.LostAfter/2)); err != nil {
			hangUp(&h.conn)
		}
		if h.lost.Load() {
			h.l.queue.Fail(ledger.ErrFenced)
			return
		}
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
	}
}

func (h *heartbeat) beat(timeout time.Duration) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(h.ctx, timeout)
	defer cancel()
	if h.conn == nil {
		config := h.l.config.Copy()
		config.RuntimeParams["application_name"] += " heartbeat"
		c, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		h.conn = c
		if err := setSession(ctx, c); err != nil {
			return err
		}
	}
	inFlight := 0
	if h.member.InFlight != nil {
		inFlight = h.member.InFlight()
	}
	var server time.Time
	var overdue bool
	paused := map[ledger.Scope]time.Duration{}
	b := &pgx.Batch{}
	b.Queue(`UPDATE workers SET heard_at = clock_timestamp(), in_flight = $2
		WHERE id = $1 AND lost_at IS NULL AND heard_at + lost_after > clock_timestamp() RETURNING heard_at`, h.me.session, inFlight).
		QueryRow(func(row pgx.Row) error { return row.Scan(&server) })
	b.Queue(`SELECT s.merchant, s.mode, (extract(epoch FROM p.paused - clock_timestamp()) * 1000000)::bigint
		FROM paces AS p JOIN scopes AS s ON s.id = p.scope WHERE p.paused > clock_timestamp()`).Query(func(rows pgx.Rows) error {
		var s ledger.Scope
		var micros int64
		_, err := pgx.ForEachRow(rows, []any{&s.Merchant, &s.Mode, &micros}, func() error {
			paused[ledger.Scope{Merchant: read(s.Merchant), Mode: read(s.Mode)}] = time.Duration(micros) * time.Microsecond
			return nil
		})
		return err
	})
	b.Queue("SELECT EXISTS (SELECT FROM workers WHERE lost_at IS NULL AND heard_at + lost_after <= clock_timestamp())").
		QueryRow(func(row pgx.Row) error { return row.Scan(&overdue) })
	err := h.conn.SendBatch(ctx, b).Close()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		h.lost.Store(true)
		return err
	case err != nil:
		return err
	}
	now := time.Now()
	h.confirmed.Store(&began)
	h.clock.Store(&clock{server, now})
	h.l.pauses.fetched(paused, now)
	if overdue {
		return h.sweep(ctx)
	}
	return nil
}

// sweep marks other workers as lost.
func (h *heartbeat) sweep(ctx context.Context) error {
	for _, sql := range []string{markLost, breakOff} {
		if _, err := h.conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// deadline is a moment of the server's clock that is not later than this machine's now
// and d; false if none is known.
func (h *heartbeat) deadline(d time.Duration) (time.Time, bool) {
	c := h.clock.Load()
	if c == nil {
		return time.Time{}, false
	}
	return c.server.Add(time.Since(c.here) + d), true
}
