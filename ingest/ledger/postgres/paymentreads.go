package postgres

import (
	"context"
	"math"
	"time"

	"billdrop/ingest/ledger"
)

const paymentColumns = `p.seq, p.received, p.event_id, p.type, p.obligation_id, p.payment_id, p.currency, p.amount, p.bill_id, p.account_id,
	p.customer_id, p.matched_by, p.reference, p.bill_status, p.due, p.paid, p.remaining, coalesce(r.name, '')`

const fromPayments = " FROM payments AS p LEFT JOIN payment_reports AS r ON r.id = p.report"

// scanPayment reads paymentColumns, and what follows them.
func scanPayment(row tableRow, more ...any) (e ledger.Payment, err error) {
	err = row.Scan(append([]any{&e.Seq, &e.ReceivedAt, &e.EventID, &e.Type, &e.ObligationID, &e.PaymentID, &e.Currency, &e.Amount, &e.BillID, &e.AccountID,
		&e.CustomerID, (*string)(&e.MatchedBy), &e.Reference, &e.State.Status, &e.State.Due, &e.State.Paid, &e.State.Remaining, &e.Report}, more...)...)
	return e, err
}

// read runs a query about a scope, unless nothing was recorded of that. $1 is its number.
func (p *Payments) read(ctx context.Context, s ledger.Scope, sql string, args []any, reset func(), scan func(tableRow) error) error {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return err
	}
	if err := p.l.query(ctx, sql, append([]any{scope}, args...), reset, scan); err != nil {
		return readError(ctx, "read payments", err)
	}
	return nil
}

// list returns the payments that are found with a condition.
func (p *Payments) list(ctx context.Context, s ledger.Scope, condition string, args ...any) (found []ledger.Payment, err error) {
	err = p.read(ctx, s, "SELECT "+paymentColumns+fromPayments+condition, args, func() { found = nil }, func(row tableRow) error {
		e, err := scanPayment(row)
		found = append(found, e)
		return err
	})
	return found, err
}

// Unsettled implements ledger.Payments.
func (p *Payments) Unsettled(ctx context.Context, s ledger.Scope, after, upTo int64, limit int) ([]ledger.Payment, error) {
	return p.list(ctx, s, " WHERE p.scope = $1 AND p.report IS NULL AND p.seq > $2 AND p.seq <= $3 ORDER BY p.seq LIMIT $4", after, upTo, limit)
}

// Reported implements ledger.Payments.
func (p *Payments) Reported(ctx context.Context, s ledger.Scope, name string, after int64, limit int) ([]ledger.Payment, error) {
	return p.list(ctx, s, ` WHERE p.report = (SELECT id FROM payment_reports WHERE scope = $1 AND name = $2) AND p.seq > $3 ORDER BY p.seq LIMIT $4`,
		stored(name), after, limit)
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
	return p.list(ctx, s, " WHERE p.scope = $1 AND ($2 = '' OR p.reference = $2 AND p.reference <> '') AND p.received >= $3 ORDER BY p.seq DESC LIMIT $4",
		stored(q.Reference), since, limit)
}

// Last implements ledger.Payments.
func (p *Payments) Last(ctx context.Context, s ledger.Scope) (last int64, err error) {
	err = p.read(ctx, s, "SELECT coalesce(max(seq), 0) FROM payments WHERE scope = $1 AND report IS NULL", nil, func() { last = 0 },
		func(row tableRow) error { return row.Scan(&last) })
	return last, err
}

// LastReport implements ledger.Payments.
func (p *Payments) LastReport(ctx context.Context, s ledger.Scope) (last *ledger.PaymentReport, err error) {
	err = p.read(ctx, s, "SELECT name, up_to, sha256, row_count, begun, published FROM payment_reports WHERE scope = $1 ORDER BY id DESC LIMIT 1", nil,
		func() { last = nil }, func(row tableRow) error {
			last = &ledger.PaymentReport{}
			err := row.Scan(&last.Name, &last.UpTo, &last.SHA256, &last.Rows, &last.Begun, &last.Published)
			return err
		})
	return last, err
}

// Accounts implements ledger.Payments.
func (p *Payments) Accounts(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.BillAccount, error) {
	known := make(map[string]ledger.BillAccount)
	if len(references) == 0 {
		return known, nil
	}
	err := p.read(ctx, s, "SELECT reference, accounted, closed, paid_at FROM bill_accounts WHERE scope = $1 AND reference = ANY ($2)", []any{allStored(references)},
		func() { clear(known) }, func(row tableRow) error {
			var a ledger.BillAccount
			err := row.Scan(&a.Reference, &a.Accounted, &a.Closed, &a.PaidAt)
			known[a.Reference] = a
			return err
		})
	return known, err
}

// PartyBills implements ledger.Payments.
func (p *Payments) PartyBills(ctx context.Context, s ledger.Scope, party string, limit int) (open []string, last string, err error) {
	err = p.read(ctx, s, `SELECT b.reference FROM party_bills AS b LEFT JOIN bill_accounts AS a ON a.scope = b.scope AND a.reference = b.reference
		WHERE b.scope = $1 AND b.party = $2 AND NOT coalesce(a.closed, false) ORDER BY b.reference LIMIT $3`, []any{stored(party), limit},
		func() { open = nil }, func(row tableRow) error {
			var reference string
			err := row.Scan(&reference)
			open = append(open, reference)
			return err
		})
	if err != nil {
		return nil, "", err
	}
	err = p.read(ctx, s, `SELECT a.reference FROM party_bills AS b JOIN bill_accounts AS a ON a.scope = b.scope AND a.reference = b.reference
		WHERE b.scope = $1 AND b.party = $2 AND a.closed AND a.paid_at IS NOT NULL ORDER BY a.paid_at DESC, a.reference DESC LIMIT 1`, []any{stored(party)},
		func() { last = "" }, func(row tableRow) error {
			return row.Scan(&last)
		})
	return open, last, err
}

// Mark implements ledger.Payments.
func (p *Payments) Mark(ctx context.Context, s ledger.Scope, file string) (mark string, err error) {
	err = p.read(ctx, s, "SELECT mark FROM party_bills_read WHERE scope = $1 AND file = $2", []any{stored(file)}, func() { mark = "" },
		func(row tableRow) error {
			return row.Scan(&mark)
		})
	return mark, err
}

// Sums implements ledger.Payments.
func (p *Payments) Sums(ctx context.Context, s ledger.Scope) (ledger.PaymentSums, error) {
	var sums ledger.PaymentSums
	reset := func() {
		sums = ledger.PaymentSums{By: make(map[ledger.MatchedBy]int), Amounts: make(map[string]int64)}
	}
	reset()
	err := p.read(ctx, s, `SELECT p.matched_by, p.currency, r.published IS NOT NULL, count(*), sum(p.amount)::bigint, min(p.received)
		FROM payments AS p LEFT JOIN payment_reports AS r ON r.id = p.report WHERE p.scope = $1 GROUP BY 1, 2, 3`, nil, reset, func(row tableRow) error {
		var by, currency string
		var published bool
		var n int
		var amount int64
		var oldest time.Time
		if err := row.Scan(&by, &currency, &published, &n, &amount, &oldest); err != nil {
			return err
		}
		sums.Add(ledger.MatchedBy(by), currency, published, n, amount, oldest)
		return nil
	})
	return sums, err
}

// quarter is a quarter of an hour in microseconds.
const quarter = 15 * 60 * 1_000_000

// PaidSince implements ledger.Payments.
func (p *Payments) PaidSince(ctx context.Context, s ledger.Scope, after int64, since time.Time) (sums []ledger.PaidSum, last int64, err error) {
	err = p.read(ctx, s, "SELECT coalesce(max(seq), 0) FROM payments WHERE $1::bigint IS NOT NULL", nil, func() { last = 0 },
		func(row tableRow) error { return row.Scan(&last) })
	if err == nil && last > after {
		err = p.read(ctx, s, `SELECT received / $5, currency, count(*), sum(amount)::bigint FROM payments
			WHERE seq > $2 AND seq <= $3 AND scope = $1 AND received >= $4 GROUP BY 1, 2 ORDER BY 1, 2`,
			[]any{after, last, since.UnixMicro(), int64(quarter)}, func() { sums = nil }, func(row tableRow) error {
				var sum ledger.PaidSum
				var at int64
				err := row.Scan(&at, &sum.Currency, &sum.Payments, &sum.Amount)
				sum.At = time.UnixMicro(at * quarter).UTC()
				sums = append(sums, sum)
				return err
			})
	}
	if err != nil {
		return nil, after, err
	}
	return sums, max(last, after), nil
}
