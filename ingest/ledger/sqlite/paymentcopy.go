package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"billdrop/ingest/ledger"
)

var _ ledger.PaymentStore = (*Payments)(nil)

// State implements ledger.PaymentStore.
func (p *Payments) State(ctx context.Context) (state string, err error) {
	err = p.read.QueryRowContext(ctx, `SELECT (SELECT coalesce(max(seq), 0) FROM payments) || ' ' || (SELECT count(*) FROM payments WHERE report IS NULL)
		|| ' ' || (SELECT count(*) FROM reports WHERE published IS NOT NULL)`).Scan(&state)
	if err != nil {
		return "", unusable(err)
	}
	return state, nil
}

// Export implements ledger.PaymentStore.
func (p *Payments) Export(ctx context.Context, put func(ledger.Row) error) error {
	tx, err := p.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return unusable(err)
	}
	defer tx.Rollback()
	for _, t := range paymentExports {
		if err := exportPayments(ctx, tx, t.query, t.scan, put); err != nil {
			return fmt.Errorf("read all payments of %q: %w", p.path, err)
		}
	}
	return nil
}

func exportPayments(ctx context.Context, tx *sql.Tx, query string, scan func(*sql.Rows) (ledger.Row, error), put func(ledger.Row) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return unusable(err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return unusable(err)
		}
		if err := put(r); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return unusable(err)
	}
	return nil
}

// paymentExports are the queries that read each table, and what makes rows of their results.
var paymentExports = []struct {
	query string
	scan  func(rows *sql.Rows) (ledger.Row, error)
}{
	{"SELECT s.merchant, s.mode, r.name, r.up_to, r.sha256, r.row_count, r.begun, r.published FROM reports AS r JOIN scopes AS s ON s.id = r.scope ORDER BY r.id",
		func(rows *sql.Rows) (ledger.Row, error) {
			var r ledger.PaymentReportRow
			var begun, published sql.NullInt64
			err := rows.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Report.Name, &r.Report.UpTo, &r.Report.SHA256, &r.Report.Rows, &begun, &published)
			r.Report.Begun, r.Report.Published = timeOf(begun), timeOf(published)
			return r, err
		}},
	{"SELECT " + paymentColumns + ", p.webhook_id, s.merchant, s.mode" + fromPayments + " JOIN scopes AS s ON s.id = p.scope ORDER BY p.seq",
		func(rows *sql.Rows) (ledger.Row, error) {
			var r ledger.PaymentRow
			var err error
			r.Payment, err = scanPayment(rows, &r.WebhookID, &r.Scope.Merchant, &r.Scope.Mode)
			return r, err
		}},
	{"SELECT s.merchant, s.mode, a.reference, a.accounted, a.closed, a.paid_at FROM accounts AS a JOIN scopes AS s ON s.id = a.scope",
		func(rows *sql.Rows) (ledger.Row, error) {
			var r ledger.BillAccountRow
			var paidAt sql.NullInt64
			err := rows.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Account.Reference, &r.Account.Accounted, &r.Account.Closed, &paidAt)
			r.Account.PaidAt = timeOf(paidAt)
			return r, err
		}},
	{"SELECT s.merchant, s.mode, b.party, b.reference FROM party_bills AS b JOIN scopes AS s ON s.id = b.scope",
		func(rows *sql.Rows) (ledger.Row, error) {
			var r ledger.PartyBillRow
			err := rows.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Bill.PartyID, &r.Bill.Reference)
			return r, err
		}},
	{"SELECT s.merchant, s.mode, m.file, m.mark FROM marks AS m JOIN scopes AS s ON s.id = m.scope",
		func(rows *sql.Rows) (ledger.Row, error) {
			var r ledger.PartyReadRow
			err := rows.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.File, &r.Mark)
			return r, err
		}},
}

// Import implements ledger.PaymentStore. It is done, or not done at all.
func (p *Payments) Import(ctx context.Context, export func(put func(ledger.Row) error) error) error {
	err := p.tx(ctx, func(tx *sql.Tx) error {
		var used bool
		err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM payments) OR EXISTS (SELECT 1 FROM reports) OR EXISTS (SELECT 1 FROM accounts)
			OR EXISTS (SELECT 1 FROM party_bills) OR EXISTS (SELECT 1 FROM marks)`).Scan(&used)
		if err == nil && used {
			err = ledger.PaymentsExist()
		}
		if err != nil {
			return err
		}
		return export(func(r ledger.Row) error { return importPayments(tx, r) })
	})
	if err != nil {
		return fmt.Errorf("fill payments %q: %w", p.path, err)
	}
	return nil
}

// importPayments puts one row.
func importPayments(tx *sql.Tx, row ledger.Row) error {
	var s ledger.Scope
	var query string
	var args []any // but for the scope's number, which is the first one
	switch r := row.(type) {
	case ledger.PaymentReportRow:
		s, query = r.Scope, "INSERT INTO reports (scope, name, up_to, sha256, row_count, begun, published) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
		args = []any{r.Report.Name, r.Report.UpTo, r.Report.SHA256, r.Report.Rows, micros(r.Report.Begun), micros(r.Report.Published)}
	case ledger.PaymentRow:
		e := &r.Payment
		s, query = r.Scope, `INSERT INTO payments (scope, seq, webhook_id, event_id, type, obligation_id, payment_id, currency, amount, bill_id, account_id,
				customer_id, received, report, matched_by, reference, bill_status, due, paid, remaining)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, (SELECT id FROM reports WHERE scope = ?1 AND name = ?14), ?15, ?16, ?17, ?18, ?19, ?20)`
		args = []any{e.Seq, r.WebhookID, e.EventID, e.Type, e.ObligationID, e.PaymentID, e.Currency, e.Amount, e.BillID, e.AccountID, e.CustomerID,
			e.ReceivedAt.UnixMicro(), e.Report, string(e.MatchedBy), e.Reference, e.State.Status, e.State.Due, e.State.Paid, e.State.Remaining}
	case ledger.BillAccountRow:
		s, query = r.Scope, "INSERT INTO accounts (scope, reference, accounted, closed, paid_at) VALUES (?1, ?2, ?3, ?4, ?5)"
		args = []any{r.Account.Reference, r.Account.Accounted, r.Account.Closed, micros(r.Account.PaidAt)}
	case ledger.PartyBillRow:
		s, query, args = r.Scope, "INSERT INTO party_bills (scope, party, reference) VALUES (?1, ?2, ?3)", []any{r.Bill.PartyID, r.Bill.Reference}
	case ledger.PartyReadRow:
		s, query, args = r.Scope, "INSERT INTO marks (scope, file, mark) VALUES (?1, ?2, ?3)", []any{r.File, r.Mark}
	default:
		return ledger.ErrUnknownRow
	}
	scope, err := addScope(tx, s)
	if err != nil {
		return err
	}
	_, err = tx.Exec(query, append([]any{scope}, args...)...)
	return err
}
