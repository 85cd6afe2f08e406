package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"billdrop/ingest/ledger"
)

// Lead implements ledger.Payments.
func (p *Payments) Lead(ctx context.Context, s ledger.Scope, holder string, lasts time.Duration) (leads bool, err error) {
	err = p.tx(ctx, func(tx *sql.Tx) error {
		scope, err := addScope(tx, s)
		if err != nil {
			return err
		}
		now := time.Now()
		result, err := tx.Exec(`INSERT INTO leaders AS l (scope, holder, until) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE l.holder = excluded.holder OR l.until <= ?`,
			scope, holder, now.Add(lasts).UnixMicro(), now.UnixMicro())
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		leads = n > 0
		return err
	})
	return leads, err
}

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

// openReport returns the number of a report that is begun and not published. Once it is composed,
// only its publication is left.
func openReport(tx *sql.Tx, s ledger.Scope, name string, composed bool) (report, scope int64, err error) {
	if scope, err = addScope(tx, s); err != nil {
		return 0, 0, err
	}
	err = tx.QueryRow("SELECT id FROM reports WHERE scope = ? AND name = ? AND published IS NULL AND (sha256 = '' OR ?)", scope, name, composed).Scan(&report)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("report %s: %w", name, ledger.ErrNotFound)
	}
	return report, scope, err
}

// Settle implements ledger.Payments.
func (p *Payments) Settle(ctx context.Context, s ledger.Scope, report string, settled []ledger.Payment, accounts []ledger.BillAccount) error {
	return p.tx(ctx, func(tx *sql.Tx) error {
		number, scope, err := openReport(tx, s, report, false)
		if err != nil {
			return err
		}
		settle, err := tx.Prepare(`UPDATE payments SET report = ?, matched_by = ?, reference = ?, bill_id = ?, account_id = ?, customer_id = ?,
			bill_status = ?, due = ?, paid = ?, remaining = ? WHERE seq = ? AND scope = ? AND report IS NULL`)
		if err != nil {
			return err
		}
		defer settle.Close()
		for i := range settled {
			e := &settled[i]
			result, err := settle.Exec(number, string(e.MatchedBy), e.Reference, e.BillID, e.AccountID, e.CustomerID,
				e.State.Status, e.State.Due, e.State.Paid, e.State.Remaining, e.Seq, scope)
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
				scope, a.Reference, a.Accounted, a.Closed, micros(a.PaidAt))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ComposedReport implements ledger.Payments.
func (p *Payments) ComposedReport(ctx context.Context, s ledger.Scope, name, sha256 string, rows int) error {
	return p.tx(ctx, func(tx *sql.Tx) error {
		number, _, err := openReport(tx, s, name, false)
		if err != nil {
			return err
		}
		result, err := tx.Exec("UPDATE reports SET sha256 = ?1, row_count = ?2 WHERE id = ?3 AND ?2 = (SELECT count(*) FROM payments WHERE report = ?3)",
			sha256, rows, number)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("report %s has other payments than were composed: %w", name, ledger.ErrExists))
		}
		return nil
	})
}

// PublishedReport implements ledger.Payments.
func (p *Payments) PublishedReport(ctx context.Context, s ledger.Scope, name string, at time.Time) error {
	return p.tx(ctx, func(tx *sql.Tx) error {
		number, _, err := openReport(tx, s, name, true)
		if err == nil {
			_, err = tx.Exec("UPDATE reports SET published = ? WHERE id = ?", at.UnixMicro(), number)
		}
		return err
	})
}

// DropReport implements ledger.Payments.
func (p *Payments) DropReport(ctx context.Context, s ledger.Scope, name string) error {
	return p.tx(ctx, func(tx *sql.Tx) error {
		number, _, err := openReport(tx, s, name, true)
		if err != nil {
			return err
		}
		var payments int
		if err := tx.QueryRow("SELECT count(*) FROM payments WHERE report = ?", number).Scan(&payments); err != nil {
			return err
		}
		if payments > 0 {
			return fmt.Errorf("drop report %s: it has payments: %w", name, ledger.ErrExists)
		}
		_, err = tx.Exec("DELETE FROM reports WHERE id = ?", number)
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
