package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

var _ ledger.PaymentStore = (*Payments)(nil)

// State implements ledger.PaymentStore.
func (p *Payments) State(ctx context.Context) (state string, err error) {
	err = p.l.query(ctx, `SELECT (SELECT coalesce(max(seq), 0) FROM payments) || ' ' || (SELECT count(*) FROM payments WHERE report IS NULL)
		|| ' ' || (SELECT count(*) FROM payment_reports WHERE published IS NOT NULL)`, nil, func() {}, func(row tableRow) error { return row.Scan(&state) })
	if err != nil {
		return "", readError(ctx, "read payments", err)
	}
	return state, nil
}

// Export implements ledger.PaymentStore.
func (p *Payments) Export(ctx context.Context, put func(ledger.Row) error) error {
	err := p.l.readOnce(ctx, func(tx pgx.Tx) error { return exportAll(ctx, tx, paymentExports, put) })
	if err != nil {
		return readError(ctx, "read all payments of ledger "+p.l.name, err)
	}
	return nil
}

var paymentExports = []export{
	{"SELECT s.merchant, s.mode, r.name, r.up_to, r.sha256, r.row_count, r.begun, r.published FROM payment_reports AS r JOIN scopes AS s ON s.id = r.scope ORDER BY r.id",
		func(row tableRow) (ledger.Row, error) {
			var r ledger.PaymentReportRow
			err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Report.Name, &r.Report.UpTo, &r.Report.SHA256, &r.Report.Rows, &r.Report.Begun, &r.Report.Published)
			return r, err
		}},
	{"SELECT " + paymentColumns + ", p.webhook_id, s.merchant, s.mode" + fromPayments + " JOIN scopes AS s ON s.id = p.scope ORDER BY p.seq",
		func(row tableRow) (ledger.Row, error) {
			var r ledger.PaymentRow
			var err error
			r.Payment, err = scanPayment(row, &r.WebhookID, &r.Scope.Merchant, &r.Scope.Mode)
			return r, err
		}},
	{"SELECT s.merchant, s.mode, a.reference, a.accounted, a.closed, a.paid_at FROM bill_accounts AS a JOIN scopes AS s ON s.id = a.scope",
		func(row tableRow) (ledger.Row, error) {
			var r ledger.BillAccountRow
			err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Account.Reference, &r.Account.Accounted, &r.Account.Closed, &r.Account.PaidAt)
			return r, err
		}},
	{"SELECT s.merchant, s.mode, b.party, b.reference FROM party_bills AS b JOIN scopes AS s ON s.id = b.scope",
		func(row tableRow) (ledger.Row, error) {
			var r ledger.PartyBillRow
			err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Bill.PartyID, &r.Bill.Reference)
			return r, err
		}},
	{"SELECT s.merchant, s.mode, m.file, m.mark FROM party_bills_read AS m JOIN scopes AS s ON s.id = m.scope",
		func(row tableRow) (ledger.Row, error) {
			var r ledger.PartyReadRow
			err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.File, &r.Mark)
			return r, err
		}},
}

// Import implements ledger.PaymentStore. It is done, or not done at all.
func (p *Payments) Import(ctx context.Context, export func(put func(ledger.Row) error) error) error {
	err := pgx.BeginFunc(ctx, p.l.pool, func(tx pgx.Tx) error {
		if err := unhurried(ctx, tx); err != nil {
			return err
		}
		var used bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM payments) OR EXISTS (SELECT FROM payment_reports) OR EXISTS (SELECT FROM bill_accounts)
			OR EXISTS (SELECT FROM party_bills) OR EXISTS (SELECT FROM party_bills_read)`).Scan(&used)
		if err == nil && used {
			err = ledger.PaymentsExist()
		}
		if err != nil {
			return err
		}
		i := &paymentImporter{p: p, ctx: ctx, tx: tx, reports: make(map[reportKey]int64)}
		if err := export(i.put); err != nil {
			return err
		}
		if err := i.flush(); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "SELECT setval(pg_get_serial_sequence('payments', 'seq'), max(seq)) FROM payments HAVING max(seq) IS NOT NULL")
		return err
	})
	if err != nil && !errors.Is(err, ledger.ErrExists) {
		err = readError(ctx, "write payments", err)
	}
	if err != nil {
		return fmt.Errorf("fill ledger %s: %w", p.l.name, err)
	}
	return nil
}

type reportKey struct {
	scope int64
	name  string
}

// paymentImporter gathers rows, and puts many with one statement.
type paymentImporter struct {
	p       *Payments
	ctx     context.Context
	tx      pgx.Tx
	reports map[reportKey]int64

	payments, accounts, bills given
	gathered                  int
}

func (i *paymentImporter) put(row ledger.Row) error {
	s, ok := ledger.PaymentScope(row)
	if !ok {
		return ledger.ErrUnknownRow
	}
	scope, err := i.p.l.scope(i.ctx, s)
	if err != nil {
		return err
	}
	switch r := row.(type) {
	case ledger.PaymentReportRow:
		var id int64
		err := i.tx.QueryRow(i.ctx, `INSERT INTO payment_reports (scope, name, up_to, sha256, row_count, begun, published) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`,
			scope, stored(r.Report.Name), r.Report.UpTo, stored(r.Report.SHA256), r.Report.Rows, micros(r.Report.Begun), micros(r.Report.Published)).Scan(&id)
		i.reports[reportKey{scope, r.Report.Name}] = id
		return err
	case ledger.PaymentRow:
		var report *int64
		if r.Payment.Report != "" {
			id, known := i.reports[reportKey{scope, r.Payment.Report}]
			if !known {
				return fmt.Errorf("payment %s is in report %s, which is not known", r.Payment.EventID, r.Payment.Report)
			}
			report = &id
		}
		i.payments.add(append(append(receivedValues(scope, r.WebhookID, &r.Payment), settledValues(&r.Payment)...), report))
	case ledger.BillAccountRow:
		i.accounts.add(accountValues(scope, &r.Account))
	case ledger.PartyBillRow:
		i.bills.add([]any{scope, r.Bill.PartyID, r.Bill.Reference})
	case ledger.PartyReadRow:
		return putMark(i.ctx, i.tx, scope, r.File, r.Mark)
	}
	return i.full()
}

// full puts what was gathered once it is much.
func (i *paymentImporter) full() error {
	if i.gathered++; i.gathered < importRows {
		return nil
	}
	return i.flush()
}

// flush puts what was gathered.
func (i *paymentImporter) flush() error {
	if len(i.payments) > 0 {
		_, err := i.tx.Exec(i.ctx, `INSERT INTO payments (scope, webhook_id, event_id, type, obligation_id, payment_id, currency, amount, bill_id, account_id,
				customer_id, received, seq, matched_by, reference, bill_status, due, paid, remaining, report)
			SELECT scope, webhook_id, event_id, type, obligation_id, payment_id, currency, amount, bill_id, account_id, customer_id, received, seq, matched_by,
				reference, bill_status, due, paid, remaining, report
			FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[], $10::text[], $11::text[],
				$12::bigint[], $13::bigint[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[])
				AS v (scope, webhook_id, event_id, type, obligation_id, payment_id, currency, amount, bill_id, account_id, customer_id, received, seq, matched_by,
				reference, bill_id_again, account_id_again, customer_id_again, bill_status, due, paid, remaining, report)`, i.payments.args()...)
		if err != nil {
			return err
		}
	}
	if err := putAccounts(i.ctx, i.tx, i.accounts); err != nil {
		return err
	}
	if err := putPartyBills(i.ctx, i.tx, i.bills); err != nil {
		return err
	}
	i.payments, i.accounts, i.bills, i.gathered = nil, nil, nil, 0
	return nil
}
