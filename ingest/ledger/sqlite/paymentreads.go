package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"time"

	"billdrop/ingest/ledger"
)

const paymentColumns = `p.seq, p.received, p.event_id, p.type, p.obligation_id, p.payment_id, p.currency, p.amount, p.bill_id, p.account_id,
	p.customer_id, p.matched_by, p.reference, p.bill_status, p.due, p.paid, p.remaining, coalesce(r.name, '')`

const fromPayments = " FROM payments AS p LEFT JOIN reports AS r ON r.id = p.report"

// scanPayment reads paymentColumns, and what follows them.
func scanPayment(rows *sql.Rows, more ...any) (e ledger.Payment, err error) {
	var received int64
	err = rows.Scan(append([]any{&e.Seq, &received, &e.EventID, &e.Type, &e.ObligationID, &e.PaymentID, &e.Currency, &e.Amount, &e.BillID, &e.AccountID,
		&e.CustomerID, &e.MatchedBy, &e.Reference, &e.State.Status, &e.State.Due, &e.State.Paid, &e.State.Remaining, &e.Report}, more...)...)
	e.ReceivedAt = time.UnixMicro(received).UTC()
	return e, err
}

// list runs a query of paymentColumns.
func (p *Payments) list(ctx context.Context, query string, args ...any) ([]ledger.Payment, error) {
	rows, err := p.read.QueryContext(ctx, "SELECT "+paymentColumns+fromPayments+query, args...)
	if err != nil {
		return nil, unusable(err)
	}
	defer rows.Close()
	var found []ledger.Payment
	for rows.Next() {
		e, err := scanPayment(rows)
		if err != nil {
			return nil, unusable(err)
		}
		found = append(found, e)
	}
	if err := rows.Err(); err != nil {
		return nil, unusable(err)
	}
	return found, nil
}

// Unsettled implements ledger.Payments.
func (p *Payments) Unsettled(ctx context.Context, s ledger.Scope, after, upTo int64, limit int) ([]ledger.Payment, error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return nil, err
	}
	return p.list(ctx, " WHERE p.scope = ? AND p.report IS NULL AND p.seq > ? AND p.seq <= ? ORDER BY p.seq LIMIT ?", scope, after, upTo, limit)
}

// Reported implements ledger.Payments.
func (p *Payments) Reported(ctx context.Context, s ledger.Scope, name string, after int64, limit int) ([]ledger.Payment, error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return nil, err
	}
	return p.list(ctx, ` WHERE p.report = (SELECT id FROM reports WHERE scope = ? AND name = ?) AND p.seq > ? ORDER BY p.seq LIMIT ?`,
		scope, name, after, limit)
}

// List implements ledger.Payments.
func (p *Payments) List(ctx context.Context, s ledger.Scope, q ledger.PaymentQuery) ([]ledger.Payment, error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return nil, err
	}
	query, args := " WHERE p.scope = ?", []any{scope}
	if q.Reference != "" {
		query, args = query+" AND p.reference = ?", append(args, q.Reference)
	}
	if !q.Since.IsZero() {
		query, args = query+" AND p.received >= ?", append(args, q.Since.UnixMicro())
	}
	limit := q.Limit
	if limit == 0 {
		limit = math.MaxInt32
	}
	return p.list(ctx, query+" ORDER BY p.seq DESC LIMIT ?", append(args, limit)...)
}

// Last implements ledger.Payments.
func (p *Payments) Last(ctx context.Context, s ledger.Scope) (last int64, err error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return 0, err
	}
	// Those in no report alone: others are of no use to a caller.
	err = p.read.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM payments WHERE scope = ? AND report IS NULL", scope).Scan(&last)
	if err != nil {
		return 0, unusable(err)
	}
	return last, nil
}

// LastReport implements ledger.Payments.
func (p *Payments) LastReport(ctx context.Context, s ledger.Scope) (*ledger.PaymentReport, error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return nil, err
	}
	var r ledger.PaymentReport
	var begun, published sql.NullInt64
	err = p.read.QueryRowContext(ctx, "SELECT name, up_to, sha256, row_count, begun, published FROM reports WHERE scope = ? ORDER BY id DESC LIMIT 1", scope).
		Scan(&r.Name, &r.UpTo, &r.SHA256, &r.Rows, &begun, &published)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, unusable(err)
	}
	r.Begun, r.Published = timeOf(begun), timeOf(published)
	return &r, nil
}

func timeOf(micros sql.NullInt64) time.Time {
	if !micros.Valid {
		return time.Time{}
	}
	return time.UnixMicro(micros.Int64).UTC()
}

// Accounts implements ledger.Payments.
func (p *Payments) Accounts(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.BillAccount, error) {
	known := make(map[string]ledger.BillAccount)
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 || len(references) == 0 {
		return known, err
	}
	list, err := json.Marshal(references)
	if err != nil {
		return nil, err
	}
	rows, err := p.read.QueryContext(ctx, `SELECT reference, accounted, closed, paid_at FROM accounts
		WHERE scope = ? AND reference IN (SELECT value FROM json_each(?))`, scope, string(list))
	if err != nil {
		return nil, unusable(err)
	}
	defer rows.Close()
	for rows.Next() {
		var a ledger.BillAccount
		var paidAt sql.NullInt64
		if err := rows.Scan(&a.Reference, &a.Accounted, &a.Closed, &paidAt); err != nil {
			return nil, unusable(err)
		}
		a.PaidAt = timeOf(paidAt)
		known[a.Reference] = a
	}
	if err := rows.Err(); err != nil {
		return nil, unusable(err)
	}
	return known, nil
}

// PartyBills implements ledger.Payments.
func (p *Payments) PartyBills(ctx context.Context, s ledger.Scope, party string, limit int) (open []string, last string, err error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return nil, "", err
	}
	rows, err := p.read.QueryContext(ctx, `SELECT b.reference FROM party_bills AS b LEFT JOIN accounts AS a ON a.scope = b.scope AND a.reference = b.reference
		WHERE b.scope = ? AND b.party = ? AND coalesce(a.closed, 0) = 0 ORDER BY b.reference LIMIT ?`, scope, party, limit)
	if err != nil {
		return nil, "", unusable(err)
	}
	defer rows.Close()
	for rows.Next() {
		var reference string
		if err := rows.Scan(&reference); err != nil {
			return nil, "", unusable(err)
		}
		open = append(open, reference)
	}
	if err := rows.Err(); err != nil {
		return nil, "", unusable(err)
	}
	err = p.read.QueryRowContext(ctx, `SELECT a.reference FROM party_bills AS b JOIN accounts AS a ON a.scope = b.scope AND a.reference = b.reference
		WHERE b.scope = ? AND b.party = ? AND a.closed AND a.paid_at IS NOT NULL ORDER BY a.paid_at DESC, a.reference DESC LIMIT 1`, scope, party).Scan(&last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, "", unusable(err)
	}
	return open, last, nil
}

// Mark implements ledger.Payments.
func (p *Payments) Mark(ctx context.Context, s ledger.Scope, file string) (mark string, err error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return "", err
	}
	err = p.read.QueryRowContext(ctx, "SELECT mark FROM marks WHERE scope = ? AND file = ?", scope, file).Scan(&mark)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", unusable(err)
	}
	return mark, nil
}

// Sums implements ledger.Payments.
func (p *Payments) Sums(ctx context.Context, s ledger.Scope) (ledger.PaymentSums, error) {
	sums := ledger.PaymentSums{By: make(map[ledger.MatchedBy]int), Amounts: make(map[string]int64)}
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return sums, err
	}
	rows, err := p.read.QueryContext(ctx, `SELECT p.matched_by, p.currency, r.published IS NOT NULL, count(*), sum(p.amount), min(p.received)
		FROM payments AS p LEFT JOIN reports AS r ON r.id = p.report WHERE p.scope = ? GROUP BY 1, 2, 3`, scope)
	if err != nil {
		return sums, unusable(err)
	}
	defer rows.Close()
	for rows.Next() {
		var by ledger.MatchedBy
		var currency string
		var published bool
		var n int
		var amount, oldest int64
		if err := rows.Scan(&by, &currency, &published, &n, &amount, &oldest); err != nil {
			return sums, unusable(err)
		}
		sums.Amounts[currency] += amount
		if by != "" {
			sums.By[by] += n
		}
		if published {
			continue
		}
		sums.Unreported += n
		if at := time.UnixMicro(oldest).UTC(); sums.Oldest.IsZero() || at.Before(sums.Oldest) {
			sums.Oldest = at
		}
	}
	if err := rows.Err(); err != nil {
		return sums, unusable(err)
	}
	return sums, nil
}

// quarter is a quarter of an hour in microseconds.
const quarter = 15 * 60 * 1_000_000

// PaidSince implements ledger.Payments.
func (p *Payments) PaidSince(ctx context.Context, s ledger.Scope, after int64, since time.Time) (sums []ledger.PaidSum, last int64, err error) {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return nil, after, err
	}
	if err := p.read.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM payments").Scan(&last); err != nil {
		return nil, after, unusable(err)
	}
	rows, err := p.read.QueryContext(ctx, `SELECT received / ?, currency, count(*), sum(amount) FROM payments
		WHERE seq > ? AND seq <= ? AND scope = ? AND received >= ? GROUP BY 1, 2 ORDER BY 1, 2`, int64(quarter), after, last, scope, since.UnixMicro())
	if err != nil {
		return nil, after, unusable(err)
	}
	defer rows.Close()
	for rows.Next() {
		var sum ledger.PaidSum
		var at int64
		if err := rows.Scan(&at, &sum.Currency, &sum.Payments, &sum.Amount); err != nil {
			return nil, after, unusable(err)
		}
		sum.At = time.UnixMicro(at * quarter).UTC()
		sums = append(sums, sum)
	}
	if err := rows.Err(); err != nil {
		return nil, after, unusable(err)
	}
	return sums, last, nil
}
