package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

// statusCodes are how statuses are stored, from 1. They never change: the index outcomes_attention
// relies on the first two, and the view outcome on all.
var statusCodes = []ledger.Status{
	ledger.Created, ledger.Existing, ledger.Conflict, ledger.Invalid, ledger.Rejected, ledger.Failed, ledger.Unknown, ledger.NotSent,
}

// statusCode is 0 for what is not a status.
func statusCode(s ledger.Status) int16 { return int16(slices.Index(statusCodes, s) + 1) }

func statusOf(code int16) ledger.Status {
	if code < 1 || int(code) > len(statusCodes) {
		return ""
	}
	return statusCodes[code-1]
}

// outcomeRows are the columns of outcomes that a statement puts, in the order of putOutcomes.
type outcomeRows struct {
	file, row, line                         []int64
	reference                               []string
	status                                  []int16
	code, detail                            []string
	billID, customerID, accountID, currency []string
	amount, attempts                        []int64
	key                                     []string
	customers, accounts, sum                []int64
}

func (c *outcomeRows) add(number int64, file string, o *ledger.Outcome) {
	c.file = append(c.file, number)
	c.row = append(c.row, int64(o.Row))
	c.line = append(c.line, int64(o.Line))
	c.reference = append(c.reference, stored(o.Reference))
	c.status = append(c.status, statusCode(o.Status))
	c.code = append(c.code, stored(o.Code))
	c.detail = append(c.detail, stored(o.Detail))
	c.billID = append(c.billID, stored(o.BillID))
	c.customerID = append(c.customerID, stored(o.CustomerID))
	c.accountID = append(c.accountID, stored(o.AccountID))
	c.currency = append(c.currency, stored(o.Currency))
	c.amount = append(c.amount, o.Amount)
	c.attempts = append(c.attempts, int64(o.Attempts))
	c.key = append(c.key, stored(o.Key))
	c.customers = append(c.customers, int64(o.Customers))
	c.accounts = append(c.accounts, int64(o.Accounts))
	c.sum = append(c.sum, ledger.SumOutcome(file, o))
}

func (c *outcomeRows) args() []any {
	return []any{c.file, c.row, c.line, c.reference, c.status, c.code, c.detail, c.billID, c.customerID, c.accountID,
		c.currency, c.amount, c.attempts, c.key, c.customers, c.accounts, c.sum}
}

// putOutcomes records how rows ended, in place of what was recorded before.
const putOutcomes = `INSERT INTO outcomes (file, row_no, line, reference, status, code, detail, bill_id, customer_id, account_id,
		currency, amount_due, attempts, key, customers, accounts, sum)
	SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::smallint[], $6::text[], $7::text[],
		$8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[])
		AS v (file, row_no)
	ORDER BY v.file, v.row_no
	ON CONFLICT (file, row_no) DO UPDATE SET line = excluded.line, reference = excluded.reference, status = excluded.status,
		code = excluded.code, detail = excluded.detail, bill_id = excluded.bill_id, customer_id = excluded.customer_id,
		account_id = excluded.account_id, currency = excluded.currency, amount_due = excluded.amount_due,
		attempts = excluded.attempts, key = excluded.key, customers = excluded.customers, accounts = excluded.accounts, sum = excluded.sum`

const selectOutcomes = `SELECT row_no, line, reference, status, code, detail, bill_id, customer_id, account_id,
	currency, amount_due, attempts, key, customers, accounts FROM outcomes`

// scanOutcome reads what selectOutcomes selects, and what precedes it.
func scanOutcome(rows pgx.Row, before ...any) (ledger.Outcome, error) {
	var o ledger.Outcome
	var status int16
	err := rows.Scan(append(before, &o.Row, &o.Line, &o.Reference, &status, &o.Code, &o.Detail, &o.BillID, &o.CustomerID, &o.AccountID,
		&o.Currency, &o.Amount, &o.Attempts, &o.Key, &o.Customers, &o.Accounts)...)
	o.Status = statusOf(status)
	read(&o.Reference, &o.Code, &o.Detail, &o.BillID, &o.CustomerID, &o.AccountID, &o.Currency, &o.Key)
	return o, err
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
		return nil, nil
	}
	var list []ledger.Outcome
	err := l.query(ctx, selectOutcomes+` WHERE file = (SELECT number FROM file_numbers WHERE id = $1) AND row_no >= $2 `+condition+`
		ORDER BY row_no LIMIT $3`, []any{stored(file), from, limit}, func() { list = make([]ledger.Outcome, 0, min(limit, 1024)) },
		func(rows pgx.Rows) error {
			o, err := scanOutcome(rows)
			list = append(list, o)
			return err
		})
	if err != nil {
		return nil, readError(ctx, what+" of file "+file, err)
	}
	return list, nil
}

// Totals implements ledger.Ledger. Rows whose currency is not known count under the currency "".
func (l *Ledger) Totals(ctx context.Context, file string) (ledger.Totals, error) {
	var t ledger.Totals
	err := l.settle(ctx, nil)
	if err == nil {
		err = l.query(ctx, `SELECT status, currency, count(*), sum(amount_due)::bigint, sum(attempts)::bigint, sum(greatest(attempts - 1, 0))::bigint,
				sum(customers)::bigint, sum(accounts)::bigint
			FROM outcomes WHERE file = (SELECT number FROM file_numbers WHERE id = $1) GROUP BY status, currency`, []any{stored(file)},
			func() {
				t = ledger.Totals{Rows: map[ledger.Status]int{}, Amounts: map[string]map[ledger.Status]int64{}}
			},
			func(rows pgx.Rows) error { return addTotals(rows, &t) })
	}
	if err != nil {
		return ledger.Totals{}, readError(ctx, "sum up file "+file, err)
	}
	return t, nil
}

// addTotals adds the rows of one status and currency.
func addTotals(rows pgx.Rows, t *ledger.Totals) error {
	var code int16
	var currency string
	var count, attempts, resends, customers, accounts int
	var amount int64
	if err := rows.Scan(&code, &currency, &count, &amount, &attempts, &resends, &customers, &accounts); err != nil {
		return err
	}
	read(&currency)
	status := statusOf(code)
	t.Rows[status] += count
	if t.Amounts[currency] == nil {
		t.Amounts[currency] = map[ledger.Status]int64{}
	}
	t.Amounts[currency][status] += amount
	t.Attempts += attempts
	t.Resends += resends
	t.Customers += customers
	t.Accounts += accounts
	return nil
}
