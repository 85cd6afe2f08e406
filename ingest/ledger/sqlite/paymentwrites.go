package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"billdrop/ingest/ledger"
)

// BeginReport implements ledger.Payments.
func (p *Payments) BeginReport(ctx context.Context, s ledger.Scope, r ledger.PaymentReport) error {
	return p.tx(ctx, func(tx *sql.Tx) error {
		scope, err := addScope(tx, s)
		if err != nil {
			return err
		}
		var open int
		err = tx.QueryRow("SELECT count(*) FROM reports WHERE scope = ? AND (published IS NULL OR name = ?)", scope, r.Name).Scan(&open)
		if err != nil {
			return err
		}
		if open > 0 {
			return fmt.Errorf("begin report %s: %w", r.Name, ledger.ErrExists)
		}
		_, err = tx.Exec("INSERT INTO reports (scope, name, up_to, begun) VALUES (?, ?, ?, ?)", scope, r.Name, r.UpTo, micros(r.Begun))
		return err
	})
}

// openReport is a report that is begun and not published.
type openReport struct {
	id, scope int64
	sha256    string // "" = not composed yet
}

// onReport runs do with a report that is begun and not published, in a transaction.
func (p *Payments) onReport(ctx context.Context, s ledger.Scope, name string, do func(*sql.Tx, openReport) error) error {
	return p.tx(ctx, func(tx *sql.Tx) error {
		scope, err := addScope(tx, s)
		if err != nil {
			return err
		}
		r := openReport{scope: scope}
		err = tx.QueryRow("SELECT id, sha256 FROM reports WHERE scope = ? AND name = ? AND published IS NULL", scope, name).Scan(&r.id, &r.sha256)
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("report %s: %w", name, ledger.ErrNotFound)
		}
		if err != nil {
			return err
		}
		return do(tx, r)
	})
}

// payments returns how many payments it has.
func (r openReport) payments(tx *sql.Tx) (n int, err error) {
	err = tx.QueryRow("SELECT count(*) FROM payments WHERE report = ?", r.id).Scan(&n)
	return n, err
}

// Settle implements ledger.Payments.
func (p *Payments) Settle(ctx context.Context, s ledger.Scope, report string, settled []ledger.Payment, accounts []ledger.BillAccount) error {
	return p.onReport(ctx, s, report, func(tx *sql.Tx, r openReport) error {
		if r.sha256 != "" {
			return fmt.Errorf("report %s is composed: %w", report, ledger.ErrNotFound)
		}
		settle, err := tx.Prepare(`UPDATE payments SET report = ?, matched_by = ?, reference = ?, bill_id = ?, account_id = ?, customer_id = ?,
			bill_status = ?, due = ?, paid = ?, remaining = ? WHERE seq = ? AND scope = ? AND report IS NULL`)
		if err != nil {
			return err
		}
		defer settle.Close()
		for i := range settled {
			e := &settled[i]
			result, err := settle.Exec(r.id, string(e.MatchedBy), e.Reference, e.BillID, e.AccountID, e.CustomerID,
				e.State.Status, e.State.Due, e.State.Paid, e.State.Remaining, e.Seq, r.scope)
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil || n != 1 {
				return errors.Join(err, fmt.Errorf("payment %d is in a report already: %w", e.Seq, ledger.ErrExists))
			}
		}
		for _, a := range accounts {
			_, err := tx.Exec(`INSERT INTO accounts (scope, reference, accounted, closed, paid_at) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET accounted = excluded.accounted, closed = excluded.closed, paid_at = excluded.paid_at`,
				r.scope, a.Reference, a.Accounted, a.Closed, micros(a.PaidAt))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ComposedReport implements ledger.Payments.
func (p *Payments) ComposedReport(ctx context.Context, s ledger.Scope, name, sha256 string, rows int) error {
	return p.onReport(ctx, s, name, func(tx *sql.Tx, r openReport) error {
		n, err := r.payments(tx)
		if err == nil && (n != rows || r.sha256 != "" && r.sha256 != sha256) {
			err = fmt.Errorf("report %s has other payments: %w", name, ledger.ErrExists)
		}
		if err == nil {
			_, err = tx.Exec("UPDATE reports SET sha256 = ?, row_count = ? WHERE id = ?", sha256, rows, r.id)
		}
		return err
	})
}

// PublishedReport implements ledger.Payments.
func (p *Payments) PublishedReport(ctx context.Context, s ledger.Scope, name string, at time.Time) error {
	return p.onReport(ctx, s, name, func(tx *sql.Tx, r openReport) error {
		_, err := tx.Exec("UPDATE reports SET published = ? WHERE id = ?", at.UnixMicro(), r.id)
		return err
	})
}

// DropReport implements ledger.Payments.
func (p *Payments) DropReport(ctx context.Context, s ledger.Scope, name string) error {
	return p.onReport(ctx, s, name, func(tx *sql.Tx, r openReport) error {
		n, err := r.payments(tx)
		if err == nil && n > 0 {
			err = fmt.Errorf("drop report %s: it has payments: %w", name, ledger.ErrExists)
		}
		if err == nil {
			_, err = tx.Exec("DELETE FROM reports WHERE id = ?", r.id)
		}
		return err
	})
}

// AddPartyBills implements ledger.Payments.
func (p *Payments) AddPartyBills(ctx context.Context, s ledger.Scope, bills []ledger.PartyBill, file, mark string) error {
	return p.tx(ctx, func(tx *sql.Tx) error {
		scope, err := addScope(tx, s)
		if err != nil {
			return err
		}
		add, err := tx.Prepare("INSERT INTO party_bills (scope, party, reference) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
		if err != nil {
			return err
		}
		defer add.Close()
		for _, b := range bills {
			if _, err := add.Exec(scope, b.PartyID, b.Reference); err != nil {
				return err
			}
		}
		if mark != "" {
			_, err = tx.Exec("INSERT INTO marks (scope, file, mark) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET mark = excluded.mark", scope, file, mark)
		}
		return err
	})
}
