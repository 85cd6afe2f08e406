package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

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
		read(&name)
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
	err := l.snapshot(ctx, func(tx pgx.Tx) error {
		if err := unhurried(ctx, tx); err != nil {
			return err
		}
		for _, t := range exports {
			if err := eachRow(ctx, tx, t.query, nil, func(rows pgx.Rows) error { return t.scan(rows, put) }); err != nil {
				return err
			}
		}
		return nil
	})
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
	return pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do)
}

// unhurried lets a transaction hand rows to a caller who takes them slowly.
func unhurried(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT set_config('tcp_user_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)`)
	return err
}

// exports are the queries that read each table, and what makes rows of their results.
var exports = []struct {
	query string
	scan  func(rows pgx.Rows, put func(ledger.Row) error) error
}{
	{"SELECT merchant, mode, base_url FROM scopes", func(rows pgx.Rows, put func(ledger.Row) error) error {
		var r ledger.ScopeRow
		if err := rows.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.BaseURL); err != nil {
			return err
		}
		read(&r.Scope.Merchant, &r.Scope.Mode, &r.BaseURL)
		return put(r)
	}},
	{selectFiles, func(rows pgx.Rows, put func(ledger.Row) error) error {
		f, err := scanFile(rows)
		if err != nil {
			return err
		}
		return put(ledger.FileRow{File: f})
	}},
	{selectBills + `, s.merchant, s.mode, b.attempts, b.sum, b.send_sum
		FROM bills AS b JOIN scopes AS s ON s.id = b.scope LEFT JOIN file_numbers AS n ON n.number = b.file`,
		func(rows pgx.Rows, put func(ledger.Row) error) (err error) {
			var r ledger.BillRow
			if r.Bill, err = scanBill(rows, &r.Scope.Merchant, &r.Scope.Mode, &r.Attempts, &r.Sum, &r.SendSum); err != nil {
				return err
			}
			read(&r.Scope.Merchant, &r.Scope.Mode)
			return put(r)
		}},
	{`SELECT s.merchant, s.mode, a.reference, n.id, a.row_no, a.generation, a.key, a.sent_at, a.answer, a.sum
		FROM attempts AS a JOIN scopes AS s ON s.id = a.scope JOIN file_numbers AS n ON n.number = a.file ORDER BY a.reference, a.scope, a.id`,
		func(rows pgx.Rows, put func(ledger.Row) error) error {
			var r ledger.AttemptRow
			var at pgtype.Int8
			a := &r.Attempt
			if err := rows.Scan(&r.Scope.Merchant, &r.Scope.Mode, &r.Reference, &a.File, &r.Row, &a.Generation, &a.Key, &at, &a.Answer, &r.Sum); err != nil {
				return err
			}
			a.At = timeOf(at)
			read(&r.Scope.Merchant, &r.Scope.Mode, &r.Reference, &a.File, &a.Key, &a.Answer)
			return put(r)
		}},
	{`SELECT n.id, o.sum, o.row_no, o.line, o.reference, o.status, o.code, o.detail, o.bill_id, o.customer_id, o.account_id,
			o.currency, o.amount_due, o.attempts, o.key, o.customers, o.accounts
		FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file`,
		func(rows pgx.Rows, put func(ledger.Row) error) error {
			var r ledger.OutcomeRow
			o, err := scanOutcome(rows, &r.File, &r.Sum)
			if err != nil {
				return err
			}
			read(&r.File)
			r.Outcome = &o
			return put(r)
		}},
	{"SELECT s.merchant, s.mode, p.digest, p.kind, p.id, p.customer_id, p.since FROM parties AS p JOIN scopes AS s ON s.id = p.scope WHERE p.id <> ''",
		func(rows pgx.Rows, put func(ledger.Row) error) error {
			var r ledger.PartyRow
			var digest []byte
			var since pgtype.Int8
			if err := rows.Scan(&r.Scope.Merchant, &r.Scope.Mode, &digest, &r.Kind, &r.ID, &r.CustomerID, &since); err != nil {
				return err
			}
			copy(r.Digest[:], digest)
			r.Since = timeOf(since)
			read(&r.Scope.Merchant, &r.Scope.Mode, &r.ID, &r.CustomerID)
			return put(r)
		}},
	{selectLinks, func(rows pgx.Rows, put func(ledger.Row) error) error {
		r, err := scanLink(rows)
		if err != nil {
			return err
		}
		return put(r)
	}},
	{"SELECT coalesce(sum(bills), 0)::bigint FROM sessions", func(rows pgx.Rows, put func(ledger.Row) error) error {
		var r ledger.TotalRow
		if err := rows.Scan(&r.Bills); err != nil {
			return err
		}
		return put(r)
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
		func(rows pgx.Rows) error {
			var reference string
			var s ledger.Scope
			err := rows.Scan(&reference, &s.Merchant, &s.Mode)
			read(&reference, &s.Merchant, &s.Mode)
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
		func(rows pgx.Rows) error {
			var reference string
			var s ledger.Scope
			var n int
			err := rows.Scan(&reference, &s.Merchant, &s.Mode, &n)
			read(&reference, &s.Merchant, &s.Mode)
			found(ledger.AttemptsOff(s, reference, n))
			return err
		})
}

// missingOutcomes looks for the rows of files whose sums were fixed.
func missingOutcomes(ctx context.Context, tx pgx.Tx, found func(ledger.Finding)) error {
	var files []*ledger.File
	numbers := map[string]int64{}
	err := eachRow(ctx, tx, selectFiles+" WHERE f.state IN ('settled', 'published', 'done') AND f.sums <> ''", nil, func(rows pgx.Rows) error {
		f, err := scanFile(rows)
		files = append(files, f)
		return err
	})
	if err != nil {
		return err
	}
	err = eachRow(ctx, tx, "SELECT o.file, n.id, count(*) FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file GROUP BY o.file, n.id", nil, func(rows pgx.Rows) error {
		var number, n int64
		var id string
		err := rows.Scan(&number, &id, &n)
		read(&id)
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
			[]any{stored(f.ID), f.Rows, missing}, func(rows pgx.Rows) error {
				var row int
				var reference string
				err := rows.Scan(&row, &reference)
				read(&reference)
				missing--
				found(ledger.MissingOutcome(f, row, reference))
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
