package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"billdrop/ingest/ledger"
)

const paymentColumns = `p.seq, p.received, p.event_id, p.type, p.obligation_id, p.payment_id, p.currency, p.amount, p.bill_id, p.account_id,
	p.customer_id, p.matched_by, p.reference, p.bill_status, p.due, p.paid, p.remaining, coalesce(r.name, '')
	FROM payments AS p JOIN scopes AS s ON s.id = p.scope AND s.merchant = $1 AND s.mode = $2 LEFT JOIN payment_reports AS r ON r.id = p.report`

// list runs a query of paymentColumns, whose arguments begin at $3.
func (p *Payments) list(ctx context.Context, s ledger.Scope, query string, args ...any) ([]ledger.Payment, error) {
	var found []ledger.Payment
	err := p.l.query(ctx, "SELECT "+paymentColumns+query, append([]any{s.Merchant, s.Mode}, args...), func() { found = nil }, func(rows pgx.Rows) error {
		var e ledger.Payment
		var received int64
		var by string
		err := rows.Scan(&e.Seq, &received, &e.EventID, &e.Type, &e.ObligationID, &e.PaymentID, &e.Currency, &e.Amount, &e.BillID, &e.AccountID,
			&e.CustomerID, &by, &e.Reference, &e.State.Status, &e.State.Due, &e.State.Paid, &e.State.Remaining, &e.Report)
		e.MatchedBy, e.ReceivedAt = ledger.MatchedBy(by), time.UnixMicro(received).UTC()
		found = append(found, e)
		return err
	})
	if err != nil {
		return nil, readError(ctx, "read payments", err)
	}
	return found, nil
}

// Unsettled implements ledger.Payments.
func (p *Payments) Unsettled(ctx context.Context, s ledger.Scope, after, upTo int64, limit int) ([]ledger.Payment, error) {
	return p.list(ctx, s, " WHERE p.report IS NULL AND p.seq > $3 AND p.seq <= $4 ORDER BY p.seq LIMIT $5", after, upTo, limit)
}

// Reported implements ledger.Payments.
func (p *Payments) Reported(ctx context.Context, s ledger.Scope, name string, after int64, limit int) ([]ledger.Payment, error) {
	return p.list(ctx, s, " WHERE r.name = $3 AND p.seq > $4 ORDER BY p.seq LIMIT $5", name, after, limit)
}

// List implements ledger.Payments.
func (p *Payments) List(ctx context.Context, s ledger.Scope, q ledger.PaymentQuery) ([]ledger.Payment, error) {
	limit, since := q.Limit, int64(math.MinInt64)
	if limit == 0 {
		limit = math.MaxInt32
	}
	if !q.Since.IsZero() {
		since = q.Since.UnixMicro()
	}
	if q.Reference != "" {
		return p.list(ctx, s, " WHERE p.reference = $3 AND p.received >= $4 ORDER BY p.seq DESC LIMIT $5", q.Reference, since, limit)
	}
	return p.list(ctx, s, " WHERE p.received >= $3 ORDER BY p.seq DESC LIMIT $4", since, limit)
}

// one runs a query that returns one row at most, whose arguments begin at $3. It returns false if there is none.
func (p *Payments) one(ctx context.Context, s ledger.Scope, query string, args []any, into ...any) (found bool, err error) {
	err = p.l.patiently(ctx, func(ctx context.Context) error {
		err := p.l.pool.QueryRow(ctx, "WITH s AS (SELECT id FROM scopes WHERE merchant = $1 AND mode = $2) "+query,
			append([]any{s.Merchant, s.Mode}, args...)...).Scan(into...)
		found = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return false, readError(ctx, "read payments", err)
	}
	return found, nil
}

// Last implements ledger.Payments.
func (p *Payments) Last(ctx context.Context, s ledger.Scope) (last int64, err error) {
	// Those in no report alone: others are of no use to a caller.
	_, err = p.one(ctx, s, "SELECT coalesce(max(p.seq), 0) FROM payments AS p JOIN s ON s.id = p.scope WHERE p.report IS NULL", nil, &last)
	return last, err
}

// LastReport implements ledger.Payments.
func (p *Payments) LastReport(ctx context.Context, s ledger.Scope) (*ledger.PaymentReport, error) {
	var r ledger.PaymentReport
	var begun, published pgtype.Int8
	found, err := p.one(ctx, s, `SELECT r.name, r.up_to, r.sha256, r.row_count, r.begun, r.published FROM payment_reports AS r JOIN s ON s.id = r.scope
		ORDER BY r.id DESC LIMIT 1`, nil, &r.Name, &r.UpTo, &r.SHA256, &r.Rows, &begun, &published)
	if err != nil || !found {
		return nil, err
	}
	r.Begun, r.Published = timeOf(begun), timeOf(published)
	return &r, nil
}

// Accounts implements ledger.Payments.
func (p *Payments) Accounts(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.BillAccount, error) {
	known := make(map[string]ledger.BillAccount)
	if len(references) == 0 {
		return known, nil
	}
	err := p.l.query(ctx, `SELECT a.reference, a.accounted, a.closed, a.paid_at FROM payment_accounts AS a
		JOIN scopes AS s ON s.id = a.scope AND s.merchant = $1 AND s.mode = $2 WHERE a.reference = ANY ($3)`,
		[]any{s.Merchant, s.Mode, references}, func() { clear(known) }, func(rows pgx.Rows) error {
			var a ledger.BillAccount
			var paidAt pgtype.Int8
			err := rows.Scan(&a.Reference, &a.Accounted, &a.Closed, &paidAt)
			a.PaidAt = timeOf(paidAt)
			known[a.Reference] = a
			return err
		})
	if err != nil {
		return nil, readError(ctx, "read payments", err)
	}
	return known, nil
}

// PartyBills implements ledger.Payments.
func (p *Payments) PartyBills(ctx context.Context, s ledger.Scope, party string, limit int) (open []string, last string, err error) {
	err = p.l.query(ctx, `SELECT b.reference FROM payment_bills AS b JOIN scopes AS s ON s.id = b.scope AND s.merchant = $1 AND s.mode = $2
		LEFT JOIN payment_accounts AS a ON a.scope = b.scope AND a.reference = b.reference
		WHERE b.party = $3 AND NOT coalesce(a.closed, false) ORDER BY b.reference LIMIT $4`,
		[]any{s.Merchant, s.Mode, party, limit}, func() { open = nil }, func(rows pgx.Rows) error {
			var reference string
			err := rows.Scan(&reference)
			open = append(open, reference)
			return err
		})
	if err != nil {
		return nil, "", readError(ctx, "read payments", err)
	}
	_, err = p.one(ctx, s, `SELECT a.reference FROM payment_bills AS b JOIN s ON s.id = b.scope
		JOIN payment_accounts AS a ON a.scope = b.scope AND a.reference = b.reference
		WHERE b.party = $3 AND a.closed AND a.paid_at IS NOT NULL ORDER BY a.paid_at DESC, a.reference DESC LIMIT 1`, []any{party}, &last)
	return open, last, err
}

// Mark implements ledger.Payments.
func (p *Payments) Mark(ctx context.Context, s ledger.Scope, file string) (mark string, err error) {
	_, err = p.one(ctx, s, "SELECT m.mark FROM payment_marks AS m JOIN s ON s.id = m.scope WHERE m.file = $3", []any{file}, &mark)
	return mark, err
}

// Sums implements ledger.Payments.
func (p *Payments) Sums(ctx context.Context, s ledger.Scope) (ledger.PaymentSums, error) {
	var sums ledger.PaymentSums
	begin := func() {
		sums = ledger.PaymentSums{By: make(map[ledger.MatchedBy]int), Amounts: make(map[string]int64)}
	}
	begin()
	err := p.l.query(ctx, `SELECT p.matched_by, p.currency, r.published IS NOT NULL, count(*), sum(p.amount)::bigint, min(p.received)
		FROM payments AS p JOIN scopes AS s ON s.id = p.scope AND s.merchant = $1 AND s.mode = $2
		LEFT JOIN payment_reports AS r ON r.id = p.report GROUP BY 1, 2, 3`, []any{s.Merchant, s.Mode}, begin, func(rows pgx.Rows) error {
		var by, currency string
		var published bool
		var n, amount, oldest int64
		if err := rows.Scan(&by, &currency, &published, &n, &amount, &oldest); err != nil {
			return err
		}
		sums.Amounts[currency] += amount
		if by != "" {
			sums.By[ledger.MatchedBy(by)] += int(n)
		}
		if published {
			return nil
		}
		sums.Unreported += int(n)
		if at := time.UnixMicro(oldest).UTC(); sums.Oldest.IsZero() || at.Before(sums.Oldest) {
			sums.Oldest = at
		}
		return nil
	})
	if err != nil {
		return sums, fmt.Errorf("add payments up: %w", readError(ctx, "read payments", err))
	}
	return sums, nil
}
