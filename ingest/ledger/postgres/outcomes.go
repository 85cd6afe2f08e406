package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

// outcomeValues are what a statement puts of an outcome with this sum, in the order of
// newOutcomes.
func outcomeValues(file int64, o *ledger.Outcome, sum int64) []any {
	return []any{file, o.Row, o.Line, o.Reference, o.Status.Number(), o.Code, o.Detail, o.BillID, o.CustomerID, o.AccountID,
		o.Currency, o.Amount, o.Attempts, o.Key, o.Customers, o.Accounts, sum}
}

// newOutcomes records how rows ended of which nothing was recorded before; see tx.careful.
const newOutcomes = `INSERT INTO outcomes (file, row_no, line, reference, status, code, detail, bill_id, customer_id, account_id,
		currency, amount_due, attempts, key, customers, accounts, sum)
	SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::smallint[], $6::text[], $7::text[],
		$8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[])
		AS v (file, row_no)
	ORDER BY v.file, v.row_no`

// putOutcomes records how rows ended, in place of what was recorded before.
const putOutcomes = newOutcomes + `
	ON CONFLICT (file, row_no) DO UPDATE SET line = excluded.line, reference = excluded.reference, status = excluded.status,
		code = excluded.code, detail = excluded.detail, bill_id = excluded.bill_id, customer_id = excluded.customer_id,
		account_id = excluded.account_id, currency = excluded.currency, amount_due = excluded.amount_due,
		attempts = excluded.attempts, key = excluded.key, customers = excluded.customers, accounts = excluded.accounts, sum = excluded.sum`

const selectOutcomes = `SELECT row_no, line, reference, status, code, detail, bill_id, customer_id, account_id,
	currency, amount_due, attempts, key, customers, accounts FROM outcomes`

// scanOutcome reads what selectOutcomes selects, and what precedes it.
func scanOutcome(row tableRow, before ...any) (ledger.Outcome, error) {
	var o ledger.Outcome
	var status int
	err := row.Scan(append(before, &o.Row, &o.Line, &o.Reference, &status, &o.Code, &o.Detail, &o.BillID, &o.CustomerID, &o.AccountID,
		&o.Currency, &o.Amount, &o.Attempts, &o.Key, &o.Customers, &o.Accounts)...)
	o.Status = ledger.StatusOf(status)
	return o, err
}

// Outcomes implements ledger.Ledger. It reads a span of rows first, which holds the page of a file
// without gaps: so the server need not guess how many rows follow, and sort them all.
func (l *Ledger) Outcomes(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	const what = "read outcomes"
	list, err := l.outcomes(ctx, what, "AND row_no < $2 + $3", file, from, limit)
	if err != nil || len(list) == limit {
		return list, err
	}
	more, err := l.outcomes(ctx, what, "", file, from+limit, limit-len(list))
	return append(list, more...), err
}

// Attention implements ledger.Ledger.
func (l *Ledger) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	// As in the index outcomes_attention.
	return l.outcomes(ctx, "read outcomes that need attention", "AND status > 2", file, from, limit)
}

func (l *Ledger) outcomes(ctx context.Context, what, condition, file string, from, limit int) ([]ledger.Outcome, error) {
	if err := l.queue.Barrier(ctx, nil); err != nil {
		return nil, fmt.Errorf("%s of file %s: %w", what, file, err)
	}
	if limit <= 0 {
		return nil, nil
	}
	var list []ledger.Outcome
	err := l.query(ctx, selectOutcomes+` WHERE file = (SELECT number FROM file_numbers WHERE id = $1) AND row_no >= $2 `+condition+`
		ORDER BY row_no LIMIT $3`, []any{stored(file), from, limit}, func() { list = make([]ledger.Outcome, 0, min(limit, 1024)) },
		func(row tableRow) error {
			o, err := scanOutcome(row)
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
	err := l.queue.Barrier(ctx, nil)
	if err == nil {
		err = l.query(ctx, `SELECT status, currency, count(*), sum(amount_due)::bigint, sum(attempts)::bigint, sum(greatest(attempts - 1, 0))::bigint,
				sum(customers)::bigint, sum(accounts)::bigint
			FROM outcomes WHERE file = (SELECT number FROM file_numbers WHERE id = $1) GROUP BY status, currency`, []any{stored(file)},
			func() {
				t = ledger.NewTotals()
			},
			func(row tableRow) error { return addTotals(row, &t) })
	}
	if err != nil {
		return ledger.Totals{}, readError(ctx, "sum up file "+file, err)
	}
	return t, nil
}

// addTotals adds the rows of one status and currency.
func addTotals(row tableRow, t *ledger.Totals) error {
	var code int
	var currency string
	var count, attempts, resends, customers, accounts int
	var amount int64
	if err := row.Scan(&code, &currency, &count, &amount, &attempts, &resends, &customers, &accounts); err != nil {
		return err
	}
	t.Add(ledger.StatusOf(code), currency, count, amount)
	t.Attempts += attempts
	t.Resends += resends
	t.Customers += customers
	t.Accounts += accounts
	return nil
}

// History implements ledger.Ledger. Attempts are all sends, the latest last. Sightings
// are in the order in which their files were received, and by row within a file.
func (l *Ledger) History(ctx context.Context, s ledger.Scope, reference string) (*ledger.History, error) {
	var h *ledger.History
	what := fmt.Sprintf("read history of bill %q", reference)
	err := l.readTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		h = &ledger.History{}
		return readHistory(ctx, tx, s, reference, h)
	})
	if err != nil {
		return nil, readError(ctx, what, err)
	}
	if h.Bill == nil && len(h.Sightings) == 0 {
		return nil, fmt.Errorf("%s: %w", what, ledger.ErrNotFound)
	}
	return h, nil
}

func readHistory(ctx context.Context, tx pgx.Tx, s ledger.Scope, reference string, h *ledger.History) error {
	key := []any{stored(reference), stored(s.Merchant), stored(s.Mode)}
	err := eachRow(ctx, tx, selectBills+` FROM bills AS b LEFT JOIN file_numbers AS n ON n.number = b.file
		WHERE b.reference = $1 AND b.scope = (SELECT id FROM scopes WHERE merchant = $2 AND mode = $3)`, key,
		func(row tableRow) (err error) {
			h.Bill, err = scanBill(row)
			return err
		})
	if err == nil && h.Bill != nil {
		err = readAttempts(ctx, tx, key, h)
	}
	if err != nil {
		return err
	}
	return eachRow(ctx, tx, `SELECT f.id, f.name, o.line, o.status, o.code, o.detail
		FROM outcomes AS o JOIN files AS f ON f.number = o.file
		WHERE o.reference = $1 AND f.scope = (SELECT id FROM scopes WHERE merchant = $2 AND mode = $3)
		ORDER BY f.received NULLS FIRST, f.id, o.row_no`, key,
		func(row tableRow) error {
			var seen ledger.Sighting
			var status int
			err := row.Scan(&seen.File, &seen.Name, &seen.Line, &status, &seen.Code, &seen.Detail)
			seen.Status = ledger.StatusOf(status)
			h.Sightings = append(h.Sightings, seen)
			return err
		})
}

// readAttempts adds the earlier sends of a bill, and the latest, which is in the bill.
func readAttempts(ctx context.Context, tx pgx.Tx, key []any, h *ledger.History) error {
	err := eachRow(ctx, tx, `SELECT n.id, a.sent_at, a.key, a.generation, a.answer
		FROM attempts AS a JOIN file_numbers AS n ON n.number = a.file
		WHERE a.reference = $1 AND a.scope = (SELECT id FROM scopes WHERE merchant = $2 AND mode = $3) ORDER BY a.id`, key,
		func(row tableRow) error {
			var a ledger.Attempt
			err := row.Scan(&a.File, &a.At, &a.Key, &a.Generation, &a.Answer)
			h.Attempts = append(h.Attempts, a)
			return err
		})
	if s := &h.Bill.Send; *s != (ledger.Send{}) {
		h.Attempts = append(h.Attempts, s.Attempt())
	}
	return err
}

// readTx runs do on one snapshot that holds every write that returned before. It may run it several
// times.
func (l *Ledger) readTx(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	if err := l.queue.Barrier(ctx, nil); err != nil {
		return err
	}
	return l.patiently(ctx, func(ctx context.Context) error {
		tx, err := l.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		err = do(ctx, tx)
		if e := tx.Rollback(ctx); err == nil && e != nil && !errors.Is(e, pgx.ErrTxClosed) {
			err = e
		}
		return err
	})
}
