package postgres

import (
	"context"
	_ "embed" // the schema
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

//go:embed payments.sql
var paymentsSchema string

// receiveBatch is how many payments one commit covers at most.
const receiveBatch = 512

// Payments is a ledger.Payments in the database of a ledger. Any number of processes may have it
// open. One goroutine commits what was received, as much as has come meanwhile at a time.
type Payments struct {
	l        *Ledger
	readOnly bool
	incoming chan *received // nil when read-only
	ended    sync.WaitGroup

	closing   sync.RWMutex // held for reading while something is put into incoming
	closed    bool
	closeOnce sync.Once
	closeErr  error
}

var _ ledger.Payments = (*Payments)(nil)

// OpenPayments opens the payments in the database of a ledger, as Open opens the ledger, and makes both
// if there are none. With Options.ReadOnly it is ErrNotFound then.
func OpenPayments(ctx context.Context, url string, o Options) (*Payments, error) {
	l, err := Open(ctx, url, o)
	if err != nil {
		return nil, err
	}
	p := &Payments{l: l, readOnly: o.ReadOnly}
	err = l.patiently(ctx, p.prepare)
	if err != nil {
		if !errors.Is(err, ledger.ErrNotFound) {
			err = readError(ctx, "open payments in "+l.name, err)
		}
		return nil, errors.Join(err, l.Close())
	}
	if !o.ReadOnly {
		p.incoming = make(chan *received, receiveBatch)
		p.ended.Go(p.receiveAll)
	}
	return p, nil
}

// prepare makes the tables, one process at a time.
func (p *Payments) prepare(ctx context.Context) error {
	var there bool
	if err := p.l.pool.QueryRow(ctx, "SELECT to_regclass('payment_marks') IS NOT NULL").Scan(&there); err != nil || there {
		return err
	}
	if p.readOnly {
		return fmt.Errorf("open payments in %s: %w", p.l.name, ledger.ErrNotFound)
	}
	return pgx.BeginFunc(ctx, p.l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrateLock)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, paymentsSchema)
		return err
	})
}

// received is a payment that waits for its commit.
type received struct {
	scope     ledger.Scope
	webhookID string
	payment   ledger.Payment
	done      chan struct{} // closed once the rest is set
	repeated  bool
	err       error
}

// Receive implements ledger.Payments. A caller whose context ends goes without an answer, and the
// payment may be recorded all the same.
func (p *Payments) Receive(ctx context.Context, s ledger.Scope, webhookID string, payment ledger.Payment) (bool, error) {
	r := &received{scope: s, webhookID: webhookID, payment: payment, done: make(chan struct{})}
	if err := p.enqueue(ctx, r); err != nil {
		return false, fmt.Errorf("record payment: %w", err)
	}
	select {
	case <-r.done:
		return r.repeated, r.err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func (p *Payments) enqueue(ctx context.Context, r *received) error {
	p.closing.RLock()
	defer p.closing.RUnlock()
	if p.closed || p.incoming == nil {
		return unusable(errClosed)
	}
	select {
	case p.incoming <- r:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// receiveAll commits what is received until the queue is closed.
func (p *Payments) receiveAll() {
	for first := range p.incoming {
		batch := []*received{first}
		for more := true; more && len(batch) < receiveBatch; {
			select {
			case r, open := <-p.incoming:
				if more = open; open {
					batch = append(batch, r)
				}
			default:
				more = false
			}
		}
		// A commit without an answer is tried again; what it had recorded then counts as repeated.
		err := p.tx(context.Background(), func(ctx context.Context, tx pgx.Tx) error { return p.insert(ctx, tx, batch) })
		for _, r := range batch {
			if err != nil {
				r.err = fmt.Errorf("record payment: %w", err)
			}
			close(r.done)
		}
	}
}

// insert inserts a batch, and finds out which of it is repeated.
func (p *Payments) insert(ctx context.Context, tx pgx.Tx, batch []*received) error {
	var all pgx.Batch
	for _, r := range batch {
		scope, err := p.l.scope(ctx, r.scope)
		if err != nil {
			return err
		}
		e := &r.payment
		all.Queue(`INSERT INTO payments (scope, webhook_id, event_id, type, obligation_id, payment_id, currency, amount,
			bill_id, account_id, customer_id, received) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
			scope, r.webhookID, e.EventID, e.Type, e.ObligationID, e.PaymentID, e.Currency, e.Amount, e.BillID, e.AccountID, e.CustomerID,
			e.ReceivedAt.UnixMicro())
	}
	results := tx.SendBatch(ctx, &all)
	for _, r := range batch {
		tag, err := results.Exec()
		if err != nil {
			return errors.Join(err, results.Close())
		}
		r.repeated = tag.RowsAffected() == 0
	}
	return results.Close()
}

// tx runs do in a transaction that is durable when it returns nil. do may be run again.
func (p *Payments) tx(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	if p.readOnly {
		return unusable(errors.New("it was opened for reading only"))
	}
	err := p.l.patiently(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, p.l.pool, func(tx pgx.Tx) error { return do(ctx, tx) })
	})
	if err == nil || errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrNotFound) || ctx.Err() != nil {
		return err
	}
	return unusable(err)
}

// openReport returns the number of a report that is begun and not published, and locks it. Once it
// is composed, only its publication is left.
func (p *Payments) openReport(ctx context.Context, tx pgx.Tx, s ledger.Scope, name string, composed bool) (report, scope int64, err error) {
	if scope, err = p.l.scope(ctx, s); err != nil {
		return 0, 0, err
	}
	err = tx.QueryRow(ctx, `SELECT id FROM payment_reports WHERE scope = $1 AND name = $2 AND published IS NULL AND (sha256 = '' OR $3) FOR UPDATE`,
		scope, name, composed).Scan(&report)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("report %s: %w", name, ledger.ErrNotFound)
	}
	return report, scope, err
}

// Lead implements ledger.Payments.
func (p *Payments) Lead(ctx context.Context, s ledger.Scope, holder string, lasts time.Duration) (leads bool, err error) {
	err = p.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		scope, err := p.l.scope(ctx, s)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `INSERT INTO payment_leaders AS l (scope, holder, until) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 microsecond')
			ON CONFLICT (scope) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE l.holder = excluded.holder OR l.until <= clock_timestamp()`,
			scope, holder, lasts.Microseconds())
		leads = tag.RowsAffected() > 0
		return err
	})
	return leads, err
}

// BeginReport implements ledger.Payments.
func (p *Payments) BeginReport(ctx context.Context, s ledger.Scope, r ledger.PaymentReport) error {
	return p.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		scope, err := p.l.scope(ctx, s)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "INSERT INTO payment_reports (scope, name, up_to, begun) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			scope, r.Name, r.UpTo, micros(r.Begun))
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("begin report %s: %w", r.Name, ledger.ErrExists)
		}
		return err
	})
}

// Settle implements ledger.Payments.
func (p *Payments) Settle(ctx context.Context, s ledger.Scope, report string, settled []ledger.Payment, accounts []ledger.BillAccount) error {
	return p.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		number, scope, err := p.openReport(ctx, tx, s, report, false)
		if err != nil {
			return err
		}
		var all pgx.Batch
		for i := range settled {
			e := &settled[i]
			all.Queue(`UPDATE payments SET report = $1, matched_by = $2, reference = $3, bill_id = $4, account_id = $5, customer_id = $6,
				bill_status = $7, due = $8, paid = $9, remaining = $10 WHERE seq = $11 AND scope = $12 AND report IS NULL`,
				number, string(e.MatchedBy), e.Reference, e.BillID, e.AccountID, e.CustomerID, e.State.Status, e.State.Due, e.State.Paid, e.State.Remaining, e.Seq, scope)
		}
		for _, a := range accounts {
			all.Queue(`INSERT INTO payment_accounts (scope, reference, accounted, closed, paid_at) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (scope, reference) DO UPDATE SET accounted = excluded.accounted, closed = excluded.closed, paid_at = excluded.paid_at`,
				scope, a.Reference, a.Accounted, a.Closed, micros(a.PaidAt))
		}
		results := tx.SendBatch(ctx, &all)
		for i := range all.Len() {
			tag, err := results.Exec()
			if err == nil && i < len(settled) && tag.RowsAffected() != 1 {
				err = fmt.Errorf("payment %d is in a report already: %w", settled[i].Seq, ledger.ErrExists)
			}
			if err != nil {
				return errors.Join(err, results.Close())
			}
		}
		return results.Close()
	})
}

// ComposedReport implements ledger.Payments.
func (p *Payments) ComposedReport(ctx context.Context, s ledger.Scope, name, sha256 string, rows int) error {
	return p.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		number, _, err := p.openReport(ctx, tx, s, name, false)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "UPDATE payment_reports SET sha256 = $1, row_count = $2 WHERE id = $3 AND $2 = (SELECT count(*) FROM payments WHERE report = $3)",
			sha256, rows, number)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("report %s has other payments than were composed: %w", name, ledger.ErrExists)
		}
		return err
	})
}

// PublishedReport implements ledger.Payments.
func (p *Payments) PublishedReport(ctx context.Context, s ledger.Scope, name string, at time.Time) error {
	return p.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		number, _, err := p.openReport(ctx, tx, s, name, true)
		if err == nil {
			_, err = tx.Exec(ctx, "UPDATE payment_reports SET published = $1 WHERE id = $2", at.UnixMicro(), number)
		}
		return err
	})
}

// DropReport implements ledger.Payments.
func (p *Payments) DropReport(ctx context.Context, s ledger.Scope, name string) error {
	return p.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		number, _, err := p.openReport(ctx, tx, s, name, true)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "DELETE FROM payment_reports WHERE id = $1 AND NOT EXISTS (SELECT FROM payments WHERE report = $1)", number)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("drop report %s: it has payments: %w", name, ledger.ErrExists)
		}
		return err
	})
}

// AddPartyBills implements ledger.Payments.
func (p *Payments) AddPartyBills(ctx context.Context, s ledger.Scope, bills []ledger.PartyBill, file, mark string) error {
	parties, references := make([]string, len(bills)), make([]string, len(bills))
	for i, b := range bills {
		parties[i], references[i] = b.PartyID, b.Reference
	}
	return p.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		scope, err := p.l.scope(ctx, s)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO payment_bills (scope, party, reference) SELECT $1, v.party, v.reference
			FROM unnest($2::text[], $3::text[]) AS v (party, reference) ORDER BY 2, 3 ON CONFLICT DO NOTHING`, scope, parties, references)
		if err == nil && mark != "" {
			_, err = tx.Exec(ctx, "INSERT INTO payment_marks (scope, file, mark) VALUES ($1, $2, $3) ON CONFLICT (scope, file) DO UPDATE SET mark = excluded.mark",
				scope, file, mark)
		}
		return err
	})
}

// Close implements ledger.Payments.
func (p *Payments) Close() error {
	p.closeOnce.Do(func() {
		p.closing.Lock()
		p.closed = true
		if p.incoming != nil {
			close(p.incoming)
		}
		p.closing.Unlock()
		p.ended.Wait()
		p.closeErr = p.l.Close()
	})
	return p.closeErr
}
