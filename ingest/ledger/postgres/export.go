package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"billdrop/ingest/ledger"
)

var _ ledger.Store = (*Ledger)(nil)

// Idle implements ledger.Store. A worker that was not heard of counts for 10 s longer
// than it takes to be lost, one that has left does not.
func (l *Ledger) Idle(ctx context.Context) (state string, err error) {
	err = l.patiently(ctx, func(ctx context.Context) error {
		state, err = idle(ctx, l.pool)
		return err
	})
	if err != nil && !errors.Is(err, ledger.ErrInUse) {
		err = readError(ctx, "look for workers", err)
	}
	return state, err
}

func idle(ctx context.Context, q querier) (state string, err error) {
	var name string
	err = q.QueryRow(ctx, "SELECT name FROM workers WHERE heard_at + lost_after + interval '10 seconds' > clock_timestamp() LIMIT 1").Scan(&name)
	if err == nil {
		name = read(name)
		return "", &ledger.Error{Err: fmt.Errorf("%w: %s", ledger.ErrInUse, name), Hint: "stop it; one that was killed counts until it is lost, and 10 s"}
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return "", err
	}
	// Whatever is written to the tables that are copied, a session writes.
	err = q.QueryRow(ctx, "SELECT count(*) || ' ' || coalesce(max(id), 0) || ' ' || coalesce(sum(last), 0) FROM sessions").Scan(&state)
	return state, err
}

// Export implements ledger.Store.
func (l *Ledger) Export(ctx context.Context, put func(ledger.Row) error) error {
	err := l.snapshot(ctx, func(tx pgx.Tx) error { return exportAll(ctx, tx, exports, put) })
	if err != nil {
		return readError(ctx, "read all of ledger "+l.name, err)
	}
	return nil
}

// snapshot runs do once, on one snapshot that holds every write that returned before.
func (l *Ledger) snapshot(ctx context.Context, do func(pgx.Tx) error) error {
	if err := l.queue.Barrier(ctx, nil); err != nil {
		return err
	}
	return l.readOnce(ctx, do)
}

// readOnce runs do once, on one snapshot.
func (l *Ledger) readOnce(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do)
}

// unhurried lets a transaction hand rows to a caller who takes them slowly.
func unhurried(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT set_config('tcp_user_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)`)
	return err
}

// export is a query that reads a table, and what makes rows of its results.
type export struct {
	query string
	scan  func(row tableRow) (ledger.Row, error)
}

// exportAll hands out all that some queries read.
func exportAll(ctx context.Context, tx pgx.Tx, exports []export, put func(ledger.Row) error) error {
	if err := unhurried(ctx, tx); err != nil {
		return err
	}
	for _, e := range exports {
		err := eachRow(ctx, tx, e.query, nil, func(row tableRow) error {
			r, err := e.scan(row)
			if err != nil {
				return err
			}
			return put(r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var exports = []export{
	{"SELECT merchant, mode, base_url FROM scopes", func(row tableRow) (ledger.Row, error) {
		var r ledger.ScopeRow
		err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.BaseURL)
		return r, err
	}},
	{selectFiles, func(row tableRow) (ledger.Row, error) {
		f, err := scanFile(row)
		return ledger.FileRow{File: f}, err
	}},
	{selectBills + `, s.merchant, s.mode, b.attempts, b.sum, b.send_sum
		FROM bills AS b JOIN scopes AS s ON s.id = b.scope LEFT JOIN file_numbers AS n ON n.number = b.file`,
		func(row tableRow) (ledger.Row, error) {
			var r ledger.BillRow
			var err error
			r.Bill, err = scanBill(row, &r.Scope.Merchant, &r.Scope.Mode, &r.Attempts, &r.Sum, &r.SendSum)
			return r, err
		}},
	{`SELECT s.merchant, s.mode, a.reference, n.id, a.row_no, a.generation, a.key, a.sent_at, a.answer, a.sum
		FROM attempts AS a JOIN scopes AS s ON s.id = a.scope JOIN file_numbers AS n ON n.number = a.file ORDER BY a.reference, a.scope, a.id`,
		func(row tableRow) (ledger.Row, error) {
			var r ledger.AttemptRow
			a := &r.Attempt
			err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Reference, &a.File, &r.Row, &a.Generation, &a.Key, &a.At, &a.Answer, &r.Sum)
			return r, err
		}},
	{`SELECT n.id, o.sum, o.row_no, o.line, o.reference, o.status, o.code, o.detail, o.bill_id, o.customer_id, o.account_id,
			o.currency, o.amount_due, o.attempts, o.key, o.customers, o.accounts
		FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file`,
		func(row tableRow) (ledger.Row, error) {
			var r ledger.OutcomeRow
			o, err := scanOutcome(row, &r.File, &r.Sum)
			r.Outcome = &o
			return r, err
		}},
	{"SELECT s.merchant, s.mode, p.digest, p.kind, p.id, p.customer_id, p.since FROM parties AS p JOIN scopes AS s ON s.id = p.scope WHERE p.id <> ''",
		func(row tableRow) (ledger.Row, error) {
			var r ledger.PartyRow
			err := row.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Digest, &r.Kind, &r.ID, &r.CustomerID, &r.Since)
			return r, err
		}},
	{selectLinks, func(row tableRow) (ledger.Row, error) {
		r, err := scanLink(row)
		return r, err
	}},
	{"SELECT coalesce(sum(bills), 0)::bigint FROM sessions", func(row tableRow) (ledger.Row, error) {
		var r ledger.TotalRow
		err := row.Scan(&r.Bills)
		return r, err
	}},
}

// Missing implements ledger.Store. It reads the whole ledger.
func (l *Ledger) Missing(ctx context.Context, found func(ledger.Finding)) error {
	err := l.snapshot(ctx, func(tx pgx.Tx) error {
		for _, look := range []func(context.Context, pgx.Tx, func(ledger.Finding)) error{missingBills, missingAttempts, missingOutcomes} {
			if err := look(ctx, tx, found); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return readError(ctx, "look for missing rows in ledger "+l.name, err)
	}
	return nil
}

// missingBills finds bills that outcomes or attempts are of. The number of bills shows
// whether there are more.
func missingBills(ctx context.Context, tx pgx.Tx, found func(ledger.Finding)) error {
	var missing, named int
	err := tx.QueryRow(ctx, "SELECT (SELECT coalesce(sum(bills), 0) FROM sessions)::bigint - (SELECT count(*) FROM bills)").Scan(&missing)
	if err != nil {
		return err
	}
	err = eachRow(ctx, tx, `SELECT x.reference, s.merchant, s.mode FROM (
			SELECT o.reference, f.scope FROM outcomes AS o JOIN files AS f ON f.number = o.file WHERE o.bill_id <> '' AND o.status <= 2
			UNION SELECT reference, scope FROM attempts
		) AS x JOIN scopes AS s ON s.id = x.scope
		WHERE NOT EXISTS (SELECT FROM bills AS b WHERE b.reference = x.reference AND b.scope = x.scope) ORDER BY 1, 2, 3`, nil,
		func(row tableRow) error {
			var reference string
			var s ledger.Scope
			err := row.Scan(&reference, &s.Merchant, &s.Mode)
			named++
			found(ledger.Finding{Table: "bill", Row: ledger.BillName(s, reference), What: "missing"})
			return err
		})
	if err == nil && missing > named {
		found(ledger.Finding{Table: "bill", Row: fmt.Sprintf("%d of which no outcome is left", missing-named), What: "missing"})
	}
	return err
}

// missingAttempts compares how many attempts there are of each bill with the number in the bill.
func missingAttempts(ctx context.Context, tx pgx.Tx, found func(ledger.Finding)) error {
	return eachRow(ctx, tx, `SELECT b.reference, s.merchant, s.mode, b.attempts - coalesce(a.n, 0)
		FROM bills AS b JOIN scopes AS s ON s.id = b.scope
		LEFT JOIN (SELECT reference, scope, count(*) AS n FROM attempts GROUP BY reference, scope) AS a ON a.reference = b.reference AND a.scope = b.scope
		WHERE b.attempts <> coalesce(a.n, 0) ORDER BY 1, 2, 3`, nil,
		func(row tableRow) error {
			var reference string
			var s ledger.Scope
			var n int
			err := row.Scan(&reference, &s.Merchant, &s.Mode, &n)
			found(ledger.AttemptsOff(s, reference, n))
			return err
		})
}

// missingOutcomes looks for the rows of files whose sums were fixed.
func missingOutcomes(ctx context.Context, tx pgx.Tx, found func(ledger.Finding)) error {
	var files []*ledger.File
	numbers := map[string]int64{}
	err := eachRow(ctx, tx, selectFiles+" WHERE f.state IN ('settled', 'published', 'done') AND f.sums <> ''", nil, func(row tableRow) error {
		f, err := scanFile(row)
		files = append(files, f)
		return err
	})
	if err != nil {
		return err
	}
	err = eachRow(ctx, tx, "SELECT o.file, n.id, count(*) FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file GROUP BY o.file, n.id", nil, func(row tableRow) error {
		var number, n int64
		var id string
		err := row.Scan(&number, &id, &n)
		numbers[id] = n
		return err
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		missing := ledger.OutcomesOf(f.Sums) - int(numbers[f.ID])
		if missing <= 0 {
			continue
		}
		// The row's bill, if it was the last one to send it, has its reference.
		err := eachRow(ctx, tx, `WITH f AS (SELECT number FROM file_numbers WHERE id = $1)
			SELECT r.no, coalesce((SELECT b.reference FROM bills AS b WHERE b.file = f.number AND b.row_no = r.no LIMIT 1), '')
			FROM f, generate_series(1, $2::bigint) AS r (no)
			WHERE NOT EXISTS (SELECT FROM outcomes AS o WHERE o.file = f.number AND o.row_no = r.no) ORDER BY r.no LIMIT $3`,
			[]any{stored(f.ID), f.Rows, missing}, func(row tableRow) error {
				var no int
				var reference string
				err := row.Scan(&no, &reference)
				missing--
				found(ledger.MissingOutcome(f, no, reference))
				return err
			})
		if err != nil {
			return err
		}
		if missing > 0 {
			found(ledger.MissingOutcomes(f, missing))
		}
	}
	return nil
}
