package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

// write runs do in a transaction until it is committed, or refused. again is set once an earlier
// commit got no answer, so that it may have taken effect.
func (p *Payments) write(ctx context.Context, what string, s ledger.Scope, do func(ctx context.Context, tx pgx.Tx, scope int64, again bool) error) error {
	scope, err := p.l.scope(ctx, s)
	if err != nil {
		return err
	}
	again := false
	err = p.l.patiently(ctx, func(ctx context.Context) error {
		err := pgx.BeginFunc(ctx, p.l.pool, func(tx pgx.Tx) error { return do(ctx, tx, scope, again) })
		again = true
		return err
	})
	if errors.Is(err, ledger.ErrExists) || errors.Is(err, ledger.ErrNotFound) {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err != nil {
		return readError(ctx, what, err)
	}
	return nil
}

// BeginReport implements ledger.Payments. The same one again, at the same moment, is not an error.
func (p *Payments) BeginReport(ctx context.Context, s ledger.Scope, r ledger.PaymentReport) error {
	return p.write(ctx, "begin report "+r.Name, s, func(ctx context.Context, tx pgx.Tx, scope int64, _ bool) error {
		// A conflict with the name, or with the report that is begun.
		added, err := tx.Exec(ctx, "INSERT INTO payment_reports (scope, name, up_to, begun) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			scope, stored(r.Name), r.UpTo, micros(r.Begun))
		if err != nil || added.RowsAffected() == 1 {
			return err
		}
		var same bool
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM payment_reports WHERE scope = $1 AND name = $2 AND published IS NULL AND up_to = $3 AND begun = $4)`,
			scope, stored(r.Name), r.UpTo, micros(r.Begun)).Scan(&same)
		if err == nil && !same {
			err = ledger.ErrExists
		}
		return err
	})
}

// openReport locks a report that is begun and not published, and returns its number and digest.
func openReport(ctx context.Context, tx pgx.Tx, scope int64, name string) (report int64, sha256 string, err error) {
	err = tx.QueryRow(ctx, "SELECT id, sha256 FROM payment_reports WHERE scope = $1 AND name = $2 AND published IS NULL FOR UPDATE", scope, stored(name)).
		Scan(&report, &sha256)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ledger.ErrNotFound
	}
	return report, sha256, err
}

// settlePayments sets what a report has of its payments, of those that are in none.
const settlePayments = `UPDATE payments AS p SET report = $1, matched_by = v.matched_by, reference = v.reference, bill_id = v.bill_id,
		account_id = v.account_id, customer_id = v.customer_id, bill_status = v.bill_status, due = v.due, paid = v.paid, remaining = v.remaining
	FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[])
		AS v (seq, matched_by, reference, bill_id, account_id, customer_id, bill_status, due, paid, remaining)
	WHERE p.seq = v.seq AND p.scope = $2 AND p.report IS NULL`

// settledValues are what a report has of a payment.
func settledValues(e *ledger.Payment) []any {
	return []any{e.Seq, string(e.MatchedBy), e.Reference, e.BillID, e.AccountID, e.CustomerID, e.State.Status, e.State.Due, e.State.Paid, e.State.Remaining}
}

// Settle implements ledger.Payments.
func (p *Payments) Settle(ctx context.Context, s ledger.Scope, report string, settled []ledger.Payment, accounts []ledger.BillAccount) error {
	var rows given
	var numbers []int64
	for i := range settled {
		rows.add(settledValues(&settled[i]))
		numbers = append(numbers, settled[i].Seq)
	}
	return p.write(ctx, "settle payments in report "+report, s, func(ctx context.Context, tx pgx.Tx, scope int64, again bool) error {
		number, sha256, err := openReport(ctx, tx, scope, report)
		if err != nil {
			return err
		}
		if sha256 != "" {
			return fmt.Errorf("it is composed: %w", ledger.ErrNotFound)
		}
		if len(settled) > 0 {
			changed, err := tx.Exec(ctx, settlePayments, append([]any{number, scope}, rows.args()...)...)
			if err != nil {
				return err
			}
			if n := changed.RowsAffected(); n != int64(len(settled)) {
				var there int64
				err := tx.QueryRow(ctx, "SELECT count(*) FROM payments WHERE report = $1 AND seq = ANY ($2)", number, numbers).Scan(&there)
				if err == nil && !(again && n == 0 && there == int64(len(settled))) {
					err = fmt.Errorf("a payment is in a report already: %w", ledger.ErrExists)
				}
				return err
			}
		}
		var changes given
		for i := range accounts {
			changes.add(accountValues(scope, &accounts[i]))
		}
		return putAccounts(ctx, tx, changes)
	})
}

// accountValues are what putAccounts puts.
func accountValues(scope int64, a *ledger.BillAccount) []any {
	return []any{scope, a.Reference, a.Accounted, a.Closed, micros(a.PaidAt)}
}

func putAccounts(ctx context.Context, tx pgx.Tx, rows given) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO bill_accounts (scope, reference, accounted, closed, paid_at)
		SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::boolean[], $5::bigint[])
		ON CONFLICT (scope, reference) DO UPDATE SET accounted = excluded.accounted, closed = excluded.closed, paid_at = excluded.paid_at`, rows.args()...)
	return err
}

// ComposedReport implements ledger.Payments.
func (p *Payments) ComposedReport(ctx context.Context, s ledger.Scope, name, sha256 string, rows int) error {
	return p.write(ctx, "compose report "+name, s, func(ctx context.Context, tx pgx.Tx, scope int64, _ bool) error {
		number, before, err := openReport(ctx, tx, scope, name)
		if err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM payments WHERE report = $1", number).Scan(&n); err != nil {
			return err
		}
		if n != rows || before != "" && before != sha256 {
			return fmt.Errorf("it has other payments: %w", ledger.ErrExists)
		}
		_, err = tx.Exec(ctx, "UPDATE payment_reports SET sha256 = $2, row_count = $3 WHERE id = $1", number, stored(sha256), rows)
		return err
	})
}

// PublishedReport implements ledger.Payments.
func (p *Payments) PublishedReport(ctx context.Context, s ledger.Scope, name string, at time.Time) error {
	return p.write(ctx, "publish report "+name, s, func(ctx context.Context, tx pgx.Tx, scope int64, again bool) error {
		number, _, err := openReport(ctx, tx, scope, name)
		if again && errors.Is(err, ledger.ErrNotFound) {
			return nil // nothing else removes one that is composed
		}
		if err == nil {
			_, err = tx.Exec(ctx, "UPDATE payment_reports SET published = $2 WHERE id = $1", number, at.UnixMicro())
		}
		return err
	})
}

// DropReport implements ledger.Payments.
func (p *Payments) DropReport(ctx context.Context, s ledger.Scope, name string) error {
	return p.write(ctx, "drop report "+name, s, func(ctx context.Context, tx pgx.Tx, scope int64, again bool) error {
		number, _, err := openReport(ctx, tx, scope, name)
		if again && errors.Is(err, ledger.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		gone, err := tx.Exec(ctx, "DELETE FROM payment_reports WHERE id = $1 AND NOT EXISTS (SELECT FROM payments WHERE report = $1)", number)
		if err == nil && gone.RowsAffected() == 0 {
			err = fmt.Errorf("it has payments: %w", ledger.ErrExists)
		}
		return err
	})
}

// AddPartyBills implements ledger.Payments.
func (p *Payments) AddPartyBills(ctx context.Context, s ledger.Scope, bills []ledger.PartyBill, file, mark string) error {
	return p.write(ctx, "record bills of parties", s, func(ctx context.Context, tx pgx.Tx, scope int64, _ bool) error {
		var rows given
		for _, b := range bills {
			rows.add([]any{scope, b.PartyID, b.Reference})
		}
		err := putPartyBills(ctx, tx, rows)
		if err == nil && mark != "" {
			err = putMark(ctx, tx, scope, file, mark)
		}
		return err
	})
}

// putPartyBills adds them in one order, so that two that add the same ones do not wait for
// each other.
func putPartyBills(ctx context.Context, tx pgx.Tx, rows given) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO party_bills (scope, party, reference) SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) ORDER BY 2, 3
		ON CONFLICT DO NOTHING`, rows.args()...)
	return err
}

func putMark(ctx context.Context, tx pgx.Tx, scope int64, file, mark string) error {
	_, err := tx.Exec(ctx, `INSERT INTO party_bills_read (scope, file, mark) VALUES ($1, $2, $3)
		ON CONFLICT (scope, file) DO UPDATE SET mark = excluded.mark`, scope, stored(file), stored(mark))
	return err
}
