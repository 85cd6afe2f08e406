package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"billdrop/ingest/ledger"
)

// outcomeColumns are in the order of putOutcome.
var outcomeColumns = []string{
	"file", "row", "line", "reference", "status", "code", "detail", "bill_id", "customer_id", "account_id",
	"currency", "amount_due", "attempts", "key", "customers", "accounts", "sum",
}

// putOutcome records how a row ended, in place of what was recorded before. sum is that of the
// outcome.
func (w *writer) putOutcome(file int64, o *ledger.Outcome, sum int64) {
	w.s.putOutcome.add(file, o.Row, o.Line, o.Reference, o.Status.Number(), o.Code, o.Detail, o.BillID, o.CustomerID, o.AccountID,
		o.Currency, o.Amount, o.Attempts, keyValue(o.Key), o.Customers, o.Accounts, sum)
}

// Outcomes implements ledger.Ledger.
func (l *Ledger) Outcomes(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	return l.outcomes(ctx, "read outcomes", "", file, from, limit)
}

// Attention implements ledger.Ledger.
func (l *Ledger) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	// As in the index outcomes_attention.
	return l.outcomes(ctx, "read outcomes that need attention", "AND status > 2", file, from, limit)
}

func (l *Ledger) outcomes(ctx context.Context, what, condition, file string, from, limit int) ([]ledger.Outcome, error) {
	if err := l.settle(ctx, nil); err != nil {
		return nil, fmt.Errorf("%s of file %s: %w", what, file, err)
	}
	if limit <= 0 {
		return nil, nil // to SQLite a negative limit would be none
	}
	list := make([]ledger.Outcome, 0, min(limit, 1024))
	err := eachRow(ctx, l.read, `SELECT row, line, reference, status, code, detail, bill_id, customer_id, account_id,
			currency, amount_due, attempts, key, customers, accounts
		FROM outcomes WHERE file = (SELECT number FROM file_numbers WHERE id = ?) AND row >= ? `+condition+`
		ORDER BY row LIMIT ?`, []any{file, from, limit},
		func(r *row) error {
			list = append(list, readOutcome(r))
			return nil
		})
	if err != nil {
		return nil, readError(ctx, what+" of file "+file, err)
	}
	return list, nil
}

// readOutcome reads the columns of an outcome, from row on.
func readOutcome(r *row) ledger.Outcome {
	return ledger.Outcome{Row: r.int(), Line: r.int(), Reference: r.text(), Status: ledger.StatusOf(r.int()),
		Code: r.text(), Detail: r.text(), BillID: r.text(), CustomerID: r.text(), AccountID: r.text(),
		Currency: r.text(), Amount: r.number(), Attempts: r.int(), Key: r.key(), Customers: r.int(), Accounts: r.int()}
}

// totalRows is how many rows are summed up at a time: to group them SQLite sorts them, in
// memory.
const totalRows = 32 << 10

// Totals implements ledger.Ledger. Rows whose currency is not known count under the
// currency "".
func (l *Ledger) Totals(ctx context.Context, file string) (ledger.Totals, error) {
	t := ledger.NewTotals()
	err := l.readTx(ctx, func(tx *sql.Tx) error {
		var number, last int64
		err := eachRow(ctx, tx, "SELECT file, max(row) FROM outcomes WHERE file = (SELECT number FROM file_numbers WHERE id = ?)", []any{file},
			func(r *row) error {
				number, last = r.number(), r.number()
				return nil
			})
		for from := int64(0); err == nil && from <= last; from += totalRows {
			err = addRows(ctx, tx, &t, number, from, from+totalRows)
		}
		return err
	})
	if err != nil {
		return ledger.Totals{}, readError(ctx, "sum up file "+file, err)
	}
	return t, nil
}

// addRows adds the outcomes of a file with from <= row < to.
func addRows(ctx context.Context, tx *sql.Tx, t *ledger.Totals, file, from, to int64) error {
	return eachRow(ctx, tx, `SELECT status, currency, count(*), sum(amount_due), sum(attempts), sum(max(attempts - 1, 0)),
			sum(customers), sum(accounts)
		FROM outcomes WHERE file = ? AND row >= ? AND row < ? GROUP BY status, currency`, []any{file, from, to},
		func(r *row) error {
			t.Add(ledger.StatusOf(r.int()), r.text(), r.int(), r.number())
			t.Attempts += r.int()
			t.Resends += r.int()
			t.Customers += r.int()
			t.Accounts += r.int()
			return nil
		})
}
