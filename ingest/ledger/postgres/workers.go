package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

const (
	// joinLock is the advisory lock under which one worker at a time joins.
	joinLock = 0x62647270_00000002
	// shortestLoss is the shortest Member.LostAfter.
	shortestLoss = 2 * time.Second
)

var _ ledger.Shared = (*Ledger)(nil)

// Join implements ledger.Shared.
func (l *Ledger) Join(ctx context.Context, m ledger.Member) error {
	if m.LostAfter < shortestLoss {
		return fmt.Errorf("join as worker %s: it cannot be taken for lost after less than %v", m.Name, shortestLoss)
	}
	l.selfMu.Lock()
	defer l.selfMu.Unlock()
	if err := l.join(ctx, m); err != nil {
		return fmt.Errorf("join as worker %s: %w", m.Name, err)
	}
	return nil
}

// join is Join. l.selfMu is held.
func (l *Ledger) join(ctx context.Context, m ledger.Member) error {
	if l.beating.Load() != nil {
		// What was recorded under the earlier Join is written, unless that is lost.
		if err := l.queue.Barrier(ctx, nil); err != nil && !errors.Is(err, ledger.ErrFenced) {
			return err
		}
	}
	if old := l.beating.Swap(nil); old != nil {
		old.end()
	}
	if known := l.self.Load(); known == nil || !known.worker {
		if err := l.checkSession(ctx); err != nil {
			return err
		}
	}
	token := uuid.NewString()
	var me *identity
	var began time.Time
	err := l.patiently(ctx, func(ctx context.Context) (err error) {
		began = time.Now()
		me, err = l.enter(ctx, m, token)
		return err
	})
	if err != nil {
		return joinError(ctx, err)
	}
	l.self.Store(me)
	l.leads.endAll(func(rowKey) bool { return true })
	if err := l.queue.Renew(ctx, ledger.ErrFenced); err != nil {
		return err
	}
	h := newHeartbeat(l, me, m, began)
	l.beating.Store(h)
	go h.run()
	return nil
}

// joinError leaves refusals as they are.
func joinError(ctx context.Context, err error) error {
	var differ *ledger.FormatsDiffer
	if errors.Is(err, ledger.ErrNameTaken) || errors.As(err, &differ) {
		return err
	}
	return readError(ctx, "record the worker", err)
}

// enter records a worker, unless one that is live has its name or differs from it, and
// ends what this handle was before. token shows that an earlier try, whose answer was
// lost, has done so.
func (l *Ledger) enter(ctx context.Context, m ledger.Member, token string) (*identity, error) {
	me := &identity{worker: true}
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(joinLock)); err != nil {
			return err
		}
		if err := checkWhole(ctx, tx); err != nil {
			return err
		}
		if old := l.self.Load(); old != nil && old.worker {
			if _, err := tx.Exec(ctx, expel, old.session); err != nil {
				return err
			}
		}
		for _, sql := range []string{markLost, purgeWorkers, purgeSessions} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, "SELECT id FROM workers WHERE token = $1 AND lost_at IS NULL", token).Scan(&me.session); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err := admit(ctx, tx, m); err != nil {
			return err
		}
		formats := m.Formats
		if formats == nil {
			formats = map[string]map[string]string{}
		}
		b, err := json.Marshal(formats)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `WITH s AS (INSERT INTO sessions DEFAULT VALUES RETURNING id)
			INSERT INTO workers (id, name, machine, role, token, lost_after, formats)
			SELECT id, $1, $2, $3, $4, $5::bigint * interval '1 microsecond', $6 FROM s RETURNING id`,
			stored(m.Name), stored(m.Machine), stored(m.Role), token, m.LostAfter.Microseconds(), b).Scan(&me.session)
	})
	return me, err
}

// admit returns why a worker may not join those that are live.
func admit(ctx context.Context, tx pgx.Tx, m ledger.Member) error {
	return eachRow(ctx, tx, "SELECT name, formats FROM workers WHERE lost_at IS NULL ORDER BY name", nil, func(row tableRow) error {
		var name string
		var b []byte
		if err := row.Scan(&name, &b); err != nil {
			return err
		}
		if name == m.Name {
			return ledger.ErrNameTaken
		}
		var formats map[string]map[string]string
		if err := json.Unmarshal(b, &formats); err != nil {
			return err
		}
		return m.DiffersFrom(name, formats)
	})
}

const (
	// markLost marks the workers that were not heard of for too long, and takes all they had
	// from them. Every worker does it with each heartbeat, and when it is refused what another
	// one has.
	//
	// One whose batch is being committed is left for the next time. If it is frozen within,
	// breakOff ends the batch 2 s later. So all is taken from it within 3 s: 2 s, a heartbeat
	// to break off, another one to mark it.
	markLost = `WITH gone AS (SELECT id FROM workers WHERE lost_at IS NULL AND heard_at + lost_after <= clock_timestamp() FOR UPDATE SKIP LOCKED),
			marked AS (UPDATE workers SET lost_at = clock_timestamp() FROM gone WHERE workers.id = gone.id),
			freed AS (UPDATE parts SET worker = NULL FROM gone WHERE parts.worker = gone.id)
		DELETE FROM leases USING gone WHERE leases.worker = gone.id`
	// expel removes a worker that leaves. It waits for the end of the worker's batch.
	expel = `WITH gone AS (SELECT id FROM workers WHERE id = $1 AND lost_at IS NULL FOR UPDATE),
			removed AS (DELETE FROM workers USING gone WHERE workers.id = gone.id),
			freed AS (UPDATE parts SET worker = NULL FROM gone WHERE parts.worker = gone.id)
		DELETE FROM leases USING gone WHERE leases.worker = gone.id`
	// breakOff ends the batch of a worker that is long lost, which is frozen within it or cut off:
	// otherwise it would hold up those who take its work over.
	breakOff = `SELECT pg_terminate_backend(a.pid) FROM workers AS w JOIN pg_stat_activity AS a ON a.pid = w.backend AND a.backend_start = w.backend_start
		WHERE w.lost_at IS NULL AND w.heard_at + w.lost_after + interval '2 seconds' <= clock_timestamp()`
	purgeWorkers = `DELETE FROM workers WHERE lost_at < clock_timestamp() - interval '7 days'`
	// purgeSessions removes those that nobody can go on with. What they counted is kept
	// by a new one.
	purgeSessions = `WITH gone AS (DELETE FROM sessions WHERE at < clock_timestamp() - interval '60 days' AND id NOT IN (SELECT id FROM workers) RETURNING bills)
		INSERT INTO sessions (bills) SELECT sum(bills) FROM gone HAVING sum(bills) > 0`
)

// Leave implements ledger.Shared. What was recorded is durable when it returns nil.
func (l *Ledger) Leave(ctx context.Context) error {
	err := l.queue.Barrier(ctx, nil)
	l.selfMu.Lock()
	defer l.selfMu.Unlock()
	if err = errors.Join(err, l.leave(ctx)); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// leave is Leave, when nothing is left to be written. l.selfMu is held.
func (l *Ledger) leave(ctx context.Context) error {
	h := l.beating.Swap(nil)
	if h == nil {
		return nil
	}
	h.end()
	l.self.Store(nil)
	err := l.patiently(ctx, func(ctx context.Context) error {
		_, err := l.pool.Exec(ctx, expel, h.me.session)
		return err
	})
	if err != nil {
		return readError(ctx, "give back what worker "+h.member.Name+" had", err)
	}
	return nil
}

// fenced notes that this worker is lost, and returns the error that says so.
func (l *Ledger) fenced(why error) error {
	if h := l.beating.Load(); h != nil {
		h.lost.Store(true)
	}
	if why != nil {
		return fmt.Errorf("%w: %w", ledger.ErrFenced, why)
	}
	return ledger.ErrFenced
}

// Current implements ledger.Shared.
func (l *Ledger) Current() error {
	h := l.beating.Load()
	if h == nil {
		return errNotJoined
	}
	return h.current(time.Now())
}

// Workers implements ledger.Shared.
func (l *Ledger) Workers(ctx context.Context) ([]ledger.Colleague, error) {
	if l.beating.Load() != nil {
		// Whoever is not among them has nothing in hand either.
		if _, err := l.markOverdue(ctx); err != nil {
			return nil, fmt.Errorf("list workers: %w", err)
		}
	}
	var list []ledger.Colleague
	err := l.query(ctx, `SELECT name, machine, role, since, heard_at, in_flight, ARRAY(SELECT jsonb_object_keys(formats))
		FROM workers WHERE lost_at IS NULL AND heard_at + lost_after > clock_timestamp() ORDER BY name COLLATE "C"`, nil, func() { list = nil },
		func(row tableRow) error {
			var c ledger.Colleague
			err := row.Scan(&c.Name, &c.Machine, &c.Role, (*serverTime)(&c.Since), (*serverTime)(&c.HeardAt), &c.InFlight, &c.Feeds)
			slices.Sort(c.Feeds)
			list = append(list, c)
			return err
		})
	if err != nil {
		return nil, readError(ctx, "list workers", err)
	}
	return list, nil
}
