package sqlite

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"billdrop/ingest/ledger"
)

const selectPayments = `SELECT p.seq, p.received, p.event_id, p.type, p.obligation_id, p.payment_id, p.currency, p.amount, p.bill_id, p.account_id,
	p.customer_id, p.matched_by, p.reference, p.bill_status, p.due, p.paid, p.remaining, coalesce(r.name, '')`

const fromPayments = " FROM payments AS p LEFT JOIN reports AS r ON r.id = p.report"

// readPayment reads what selectPayments selects.
func readPayment(r *row) ledger.Payment {
	return ledger.Payment{Seq: r.number(), ReceivedAt: r.time(), EventID: r.text(), Type: r.text(), ObligationID: r.text(), PaymentID: r.text(),
		Currency: r.text(), Amount: r.number(), BillID: r.text(), AccountID: r.text(), CustomerID: r.text(),
		MatchedBy: ledger.MatchedBy(r.text()), Reference: r.text(),
		State:  ledger.BillMoney{Status: r.text(), Due: r.optional(), Paid: r.optional(), Remaining: r.optional()},
		Report: r.text()}
}

// readReport reads the columns of a report, from name on.
func readReport(r *row) ledger.PaymentReport {
	return ledger.PaymentReport{Name: r.text(), UpTo: r.number(), SHA256: r.text(), Rows: r.int(), Begun: r.time(), Published: r.time()}
}

// readAccount reads the columns of an account, from reference on.
func readAccount(r *row) ledger.BillAccount {
	return ledger.BillAccount{Reference: r.text(), Accounted: r.number(), Closed: r.flag(), PaidAt: r.time()}
}

// each runs a query about a scope, unless nothing was recorded of that, and hands each row of its
// result to scan. ?1 is the number of the scope.
func (p *Payments) each(ctx context.Context, s ledger.Scope, query string, args []any, scan func(*row)) error {
	scope, err := p.scope(ctx, s)
	if err != nil || scope == 0 {
		return err
	}
	err = eachRow(ctx, p.read, query, append([]any{scope}, args...), func(r *row) error {
		scan(r)
		return nil
	})
	if err != nil {
		return unusable(err)
	}
	return nil
}

// list returns the payments that are found with a condition.
func (p *Payments) list(ctx context.Context, s ledger.Scope, condition string, args ...any) ([]ledger.Payment, error) {
	var found []ledger.Payment
	err := p.each(ctx, s, selectPayments+fromPayments+condition, args, func(r *row) { found = append(found, readPayment(r)) })
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Unsettled implements ledger.Payments.
func (p *Payments) Unsettled(ctx context.Context, s ledger.Scope, after, upTo int64, limit int) ([]ledger.Payment, error) {
	return p.list(ctx, s, " WHERE p.scope = ? AND p.report IS NULL AND p.seq > ? AND p.seq <= ? ORDER BY p.seq LIMIT ?", after, upTo, limit)
}

// Reported implements ledger.Payments.
func (p *Payments) Reported(ctx context.Context, s ledger.Scope, name string, after int64, limit int) ([]ledger.Payment, error) {
	return p.list(ctx, s, ` WHERE p.report = (SELECT id FROM reports WHERE scope = ? AND name = ?) AND p.seq > ? ORDER BY p.seq LIMIT ?`,
		name, after, limit)
}

// List implements ledger.Payments.
func (p *Payments) List(ctx context.Context, s ledger.Scope, q ledger.PaymentQuery) ([]ledger.Payment, error) {
	condition, args := " WHERE p.scope = ?", []any{}
	if q.Reference != "" {
		condition, args = condition+" AND p.reference = ?", append(args, q.Reference)
	}
	if !q.Since.IsZero() {
		condition, args = condition+" AND p.received >= ?", append(args, q.Since.UnixMicro())
	}
	limit := q.Limit
	if limit == 0 {
		limit = math.MaxInt32
	}
	return p.list(ctx, s, condition+" ORDER BY p.seq DESC LIMIT ?", append(args, limit)...)
}

// Last implements ledger.Payments.
func (p *Payments) Last(ctx context.Context, s ledger.Scope) (last int64, err error) {
	// Those in no report alone: others are of no use to a caller.
	err = p.each(ctx, s, "SELECT coalesce(max(seq), 0) FROM payments WHERE scope = ? AND report IS NULL", nil, func(r *row) { last = r.number() })
	return last, err
}

// LastReport implements ledger.Payments.
func (p *Payments) LastReport(ctx context.Context, s ledger.Scope) (last *ledger.PaymentReport, err error) {
	err = p.each(ctx, s, "SELECT name, up_to, sha256, row_count, begun, published FROM reports WHERE scope = ? ORDER BY id DESC LIMIT 1", nil,
		func(r *row) {
			report := readReport(r)
			last = &report
		})
	return last, err
}

// Accounts implements ledger.Payments.
func (p *Payments) Accounts(ctx context.Context, s ledger.Scope, references []string) (map[string]ledger.BillAccount, error) {
	known := make(map[string]ledger.BillAccount)
	if len(references) == 0 {
		return known, nil
	}
	list, err := json.Marshal(references)
	if err == nil {
		err = p.each(ctx, s, `SELECT reference, accounted, closed, paid_at FROM accounts
			WHERE scope = ? AND reference IN (SELECT value FROM json_each(?))`, []any{string(list)}, func(r *row) {
			a := readAccount(r)
			known[a.Reference] = a
		})
	}
	return known, err
}

// PartyBills implements ledger.Payments.
func (p *Payments) PartyBills(ctx context.Context, s ledger.Scope, party string, limit int) (open []string, last string, err error) {
	err = p.each(ctx, s, `SELECT b.reference FROM party_bills AS b LEFT JOIN accounts AS a ON a.scope = b.scope AND a.reference = b.reference
		WHERE b.scope = ? AND b.party = ? AND coalesce(a.closed, 0) = 0 ORDER BY b.reference LIMIT ?`, []any{party, limit},
		func(r *row) { open = append(open, r.text()) })
	if err == nil {
		err = p.each(ctx, s, `SELECT a.reference FROM party_bills AS b JOIN accounts AS a ON a.scope = b.scope AND a.reference = b.reference
			WHERE b.scope = ? AND b.party = ? AND a.closed AND a.paid_at IS NOT NULL ORDER BY a.paid_at DESC, a.reference DESC LIMIT 1`, []any{party},
			func(r *row) { last = r.text() })
	}
	return open, last, err
}

// Mark implements ledger.Payments.
func (p *Payments) Mark(ctx context.Context, s ledger.Scope, file string) (mark string, err error) {
	err = p.each(ctx, s, "SELECT mark FROM marks WHERE scope = ? AND file = ?", []any{file}, func(r *row) { mark = r.text() })
	return mark, err
}

// Sums implements ledger.Payments.
func (p *Payments) Sums(ctx context.Context, s ledger.Scope) (ledger.PaymentSums, error) {
	sums := ledger.PaymentSums{By: make(map[ledger.MatchedBy]int), Amounts: make(map[string]int64)}
	err := p.each(ctx, s, `SELECT p.matched_by, p.currency, r.published IS NOT NULL, count(*), sum(p.amount), min(p.received)
		FROM payments AS p LEFT JOIN reports AS r ON r.id = p.report WHERE p.scope = ? GROUP BY 1, 2, 3`, nil, func(r *row) {
		sums.Add(ledger.MatchedBy(r.text()), r.text(), r.flag(), r.int(), r.number(), r.time())
	})
	return sums, err
}

// quarter is a quarter of an hour in microseconds.
const quarter = 15 * 60 * 1_000_000

// PaidSince implements ledger.Payments.
func (p *Payments) PaidSince(ctx context.Context, s ledger.Scope, after int64, since time.Time) (sums []ledger.PaidSum, last int64, err error) {
	last = after
	err = p.each(ctx, s, "SELECT (SELECT coalesce(max(seq), 0) FROM payments) FROM scopes WHERE id = ?", nil, func(r *row) { last = r.number() })
	if err == nil {
		err = p.each(ctx, s, `SELECT received / ?5, currency, count(*), sum(amount) FROM payments
			WHERE seq > ?2 AND seq <= ?3 AND scope = ?1 AND received >= ?4 GROUP BY 1, 2 ORDER BY 1, 2`,
			[]any{after, last, since.UnixMicro(), int64(quarter)}, func(r *row) {
				sums = append(sums, ledger.PaidSum{At: time.UnixMicro(r.number() * quarter).UTC(), Currency: r.text(), Payments: r.int(), Amount: r.number()})
			})
	}
	if err != nil {
		return nil, after, err
	}
	return sums, last, nil
}
