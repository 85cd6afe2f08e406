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
	var refused error // by put
	err = exportAll(ctx, tx, paymentExports, func(r ledger.Row) error {
		refused = put(r)
		return refused
	})
	if err != nil && refused == nil {
		err = unusable(err)
	}
	if err != nil {
		return fmt.Errorf("read all payments of %q: %w", p.path, err)
	}
	return nil
}

var paymentExports = []export{
	{"SELECT s.merchant, s.mode, r.name, r.up_to, r.sha256, r.row_count, r.begun, r.published FROM reports AS r JOIN scopes AS s ON s.id = r.scope ORDER BY r.id",
		func(r *row) (ledger.Row, error) {
			return ledger.PaymentReportRow{Scope: r.scope(), Report: readReport(r)}, nil
		}},
	{selectPayments + ", p.webhook_id, s.merchant, s.mode" + fromPayments + " JOIN scopes AS s ON s.id = p.scope ORDER BY p.seq",
		func(r *row) (ledger.Row, error) {
			return ledger.PaymentRow{Payment: readPayment(r), WebhookID: r.text(), Scope: r.scope()}, nil
		}},
	{"SELECT s.merchant, s.mode, a.reference, a.accounted, a.closed, a.paid_at FROM accounts AS a JOIN scopes AS s ON s.id = a.scope",
		func(r *row) (ledger.Row, error) {
			return ledger.BillAccountRow{Scope: r.scope(), Account: readAccount(r)}, nil
		}},
	{"SELECT s.merchant, s.mode, b.party, b.reference FROM party_bills AS b JOIN scopes AS s ON s.id = b.scope",
		func(r *row) (ledger.Row, error) {
			return ledger.PartyBillRow{Scope: r.scope(), Bill: ledger.PartyBill{PartyID: r.text(), Reference: r.text()}}, nil
		}},
	{"SELECT s.merchant, s.mode, m.file, m.mark FROM marks AS m JOIN scopes AS s ON s.id = m.scope",
		func(r *row) (ledger.Row, error) {
			return ledger.PartyReadRow{Scope: r.scope(), File: r.text(), Mark: r.text()}, nil
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
