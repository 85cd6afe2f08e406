package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"billdrop/ingest/ledger"
)

var _ ledger.Store = (*Ledger)(nil)

// Idle implements ledger.Store: who has opened the ledger for writing is its only worker.
func (l *Ledger) Idle(context.Context) (string, error) {
	if l.lock == nil {
		return "", fmt.Errorf("%w: %w", ledger.ErrInUse, errReadOnly)
	}
	return "", nil
}

const (
	selectAttempts = "SELECT s.merchant, s.mode, b.reference, n.id, a.row, a.generation, a.key, a.sent_at, a.answer, a.sum"
	fromAttempts   = ` FROM attempts AS a JOIN bills AS b ON b.id = a.bill JOIN scopes AS s ON s.id = b.scope JOIN file_numbers AS n ON n.number = a.file`
	selectOutcomes = `SELECT n.id, o.sum, o.row, o.line, o.reference, o.status, o.code, o.detail, o.bill_id, o.customer_id, o.account_id,
		o.currency, o.amount_due, o.attempts, o.key, o.customers, o.accounts`
)

// readAttempt reads what selectAttempts selects.
func readAttempt(r *row) (a ledger.AttemptRow) {
	a.Scope, a.Reference = r.scope(), r.text()
	a.Attempt.File, a.Row, a.Attempt.Generation, a.Attempt.Key = r.text(), r.int(), r.int(), r.key()
	a.Attempt.At, a.Attempt.Answer, a.Sum = r.time(), r.text(), r.number()
	return a
}

// readStoredOutcome reads what selectOutcomes selects.
func readStoredOutcome(r *row) ledger.OutcomeRow {
	stored := ledger.OutcomeRow{File: r.text(), Sum: r.number()}
	o := readOutcome(r)
	stored.Outcome = &o
	return stored
}

// export is a query that reads a table, and what makes rows of its results.
type export struct {
	query string
	read  func(r *row) (ledger.Row, error)
}

// exportAll hands out all that some queries read.
func exportAll(ctx context.Context, tx *sql.Tx, exports []export, put func(ledger.Row) error) error {
	for _, e := range exports {
		err := eachRow(ctx, tx, e.query, nil, func(r *row) error {
			row, err := e.read(r)
			if err != nil {
				return err
			}
			return put(row)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var exports = []export{
	{"SELECT merchant, mode, base_url FROM scopes", func(r *row) (ledger.Row, error) {
		return ledger.ScopeRow{Scope: r.scope(), BaseURL: r.text()}, nil
	}},
	{selectFiles, func(r *row) (ledger.Row, error) {
		f, err := readFile(r)
		return ledger.FileRow{File: f}, err
	}},
	{selectBills + `, n.id, s.merchant, s.mode, b.attempts, b.sum, b.send_sum
		FROM bills AS b JOIN scopes AS s ON s.id = b.scope LEFT JOIN file_numbers AS n ON n.number = b.file ORDER BY b.id`,
		func(r *row) (ledger.Row, error) {
			bill, _ := readBill(r)
			bill.Send.File = r.text()
			b := ledger.BillRow{Bill: bill}
			b.Scope, b.Attempts = r.scope(), r.number()
			b.Sum, b.SendSum = r.number(), r.number()
			return b, nil
		}},
	{selectAttempts + fromAttempts + " ORDER BY a.bill, a.id", func(r *row) (ledger.Row, error) { return readAttempt(r), nil }},
	{selectOutcomes + " FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file", func(r *row) (ledger.Row, error) { return readStoredOutcome(r), nil }},
	{"SELECT s.merchant, s.mode, p.digest, p.kind, p.id, p.customer_id, p.since FROM parties AS p JOIN scopes AS s ON s.id = p.scope",
		func(r *row) (ledger.Row, error) {
			return ledger.PartyRow{Scope: r.scope(), Digest: r.digest(), Kind: ledger.PartyKind(r.number()),
				ID: r.text(), CustomerID: r.text(), Since: r.time()}, nil
		}},
	{selectLinks, func(r *row) (ledger.Row, error) { return readLink(r), nil }},
	// Bills are numbered from 1, without a gap.
	{"SELECT coalesce(max(id), 0) FROM bills", func(r *row) (ledger.Row, error) { return ledger.TotalRow{Bills: r.number()}, nil }},
}

// Export implements ledger.Store.
func (l *Ledger) Export(ctx context.Context, put func(ledger.Row) error) error {
	err := l.readTx(ctx, func(tx *sql.Tx) error { return exportAll(ctx, tx, exports, put) })
	if err != nil {
		return readError(ctx, fmt.Sprintf("read all of ledger %q", l.path), err)
	}
	return nil
}

// Missing implements ledger.Store. It reads the whole ledger.
func (l *Ledger) Missing(ctx context.Context, found func(ledger.Finding)) error {
	err := l.readTx(ctx, func(tx *sql.Tx) error {
		for _, look := range []func(context.Context, *sql.Tx, func(ledger.Finding)) error{missingBills, missingAttempts, missingOutcomes} {
			if err := look(ctx, tx, found); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return readError(ctx, fmt.Sprintf("look for missing rows in ledger %q", l.path), err)
	}
	return nil
}

// missingBills finds bills that outcomes are of. The numbers of bills show whether there are more.
func missingBills(ctx context.Context, tx *sql.Tx, found func(ledger.Finding)) error {
	missing := 0
	err := eachRow(ctx, tx, "SELECT coalesce(max(id), 0) - count(*) FROM bills", nil, func(r *row) error {
		missing = r.int()
		return nil
	})
	if err != nil {
		return err
	}
	err = eachRow(ctx, tx, `SELECT DISTINCT o.reference, s.merchant, s.mode
		FROM outcomes AS o JOIN files AS f ON f.number = o.file JOIN scopes AS s ON s.id = f.scope
		WHERE o.bill_id <> '' AND o.status <= 2
			AND NOT EXISTS (SELECT 1 FROM bills AS b WHERE b.reference = o.reference AND b.scope = f.scope) ORDER BY 1, 2, 3`, nil,
		func(r *row) error {
			reference := r.text()
			missing--
			found(ledger.Finding{Table: "bill", Row: ledger.BillName(r.scope(), reference), What: "missing"})
			return nil
		})
	if err == nil && missing > 0 {
		found(ledger.Finding{Table: "bill", Row: fmt.Sprintf("%d of which no outcome is left", missing), What: "missing"})
	}
	return err
}

// missingAttempts compares how many attempts there are of each bill with the number in the bill.
func missingAttempts(ctx context.Context, tx *sql.Tx, found func(ledger.Finding)) error {
	return eachRow(ctx, tx, `SELECT b.reference, s.merchant, s.mode, b.attempts - coalesce(a.n, 0)
		FROM bills AS b JOIN scopes AS s ON s.id = b.scope LEFT JOIN (SELECT bill, count(*) AS n FROM attempts GROUP BY bill) AS a ON a.bill = b.id
		WHERE b.attempts <> coalesce(a.n, 0) ORDER BY 1, 2, 3`, nil,
		func(r *row) error {
			reference := r.text()
			found(ledger.AttemptsOff(r.scope(), reference, r.int()))
			return nil
		})
}

// missingOutcomes looks for the rows of files whose sums were fixed.
func missingOutcomes(ctx context.Context, tx *sql.Tx, found func(ledger.Finding)) error {
	var files []*ledger.File
	err := eachRow(ctx, tx, selectFiles+" WHERE f.state IN ('settled', 'published', 'done') AND f.sums <> ''", nil, func(r *row) error {
		f, err := readFile(r)
		files = append(files, f)
		return err
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		var number int64
		missing := ledger.OutcomesOf(f.Sums)
		err := eachRow(ctx, tx, "SELECT number, (SELECT count(*) FROM outcomes WHERE file = number) FROM file_numbers WHERE id = ?", []any{f.ID}, func(r *row) error {
			number = r.number()
			missing -= r.int()
			return nil
		})
		if err == nil && missing > 0 {
			err = missingRows(ctx, tx, f, number, missing, found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// missingRows names the rows of a file that have no outcome. The row's bill, if it was the
// last one to send it, has its reference.
func missingRows(ctx context.Context, tx *sql.Tx, f *ledger.File, number int64, missing int, found func(ledger.Finding)) error {
	err := eachRow(ctx, tx, `WITH RECURSIVE r (no) AS (SELECT 1 UNION ALL SELECT no + 1 FROM r WHERE no < ?2),
			gone (no) AS (SELECT no FROM r WHERE NOT EXISTS (SELECT 1 FROM outcomes AS o WHERE o.file = ?1 AND o.row = r.no) LIMIT ?3)
		SELECT gone.no, b.reference FROM gone LEFT JOIN bills AS b ON b.file = ?1 AND b.row = gone.no ORDER BY gone.no`, []any{number, f.Rows, missing},
		func(r *row) error {
			missing--
			found(ledger.MissingOutcome(f, r.int(), r.text()))
			return nil
		})
	if err == nil && missing > 0 {
		found(ledger.MissingOutcomes(f, missing))
	}
	return err
}

const (
	// sumsVersion is the migration that sums up the rows that were there before.
	sumsVersion = 3
	// sumsAtOnce is how many rows it holds in memory.
	sumsAtOnce = 10_000
)

// summed are the tables whose rows have sums: a query for those behind a key, up to a number of
// them, in the order of their keys; what gives a row's sums and its key; and how these are put.
var summed = []struct {
	query string
	first []any // a key before all others
	read  func(r *row) (sums, key []any)
	put   string
}{
	{selectBills + `, n.id, s.merchant, s.mode, b.id FROM bills AS b JOIN scopes AS s ON s.id = b.scope
		LEFT JOIN file_numbers AS n ON n.number = b.file WHERE b.id > ? ORDER BY b.id LIMIT ?`, []any{0},
		func(r *row) (sums, key []any) {
			b, _ := readBill(r)
			b.Send.File = r.text()
			s := r.scope()
			return []any{ledger.SumBill(s, b), ledger.SumSend(s, b.Reference, &b.Send)}, []any{r.number()}
		}, "UPDATE bills SET sum = ?, send_sum = ? WHERE id = ?"},
	{selectAttempts + ", a.id" + fromAttempts + " WHERE a.id > ? ORDER BY a.id LIMIT ?", []any{0},
		func(r *row) (sums, key []any) {
			a := readAttempt(r)
			return []any{ledger.SumSend(a.Scope, a.Reference, a.Send())}, []any{r.number()}
		}, "UPDATE attempts SET sum = ? WHERE id = ?"},
	{selectOutcomes + `, o.file FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file
		WHERE (o.file, o.row) > (?, ?) ORDER BY o.file, o.row LIMIT ?`, []any{0, -1},
		func(r *row) (sums, key []any) {
			o := readStoredOutcome(r)
			return []any{ledger.SumOutcome(o.File, o.Outcome)}, []any{r.number(), o.Outcome.Row}
		}, "UPDATE outcomes SET sum = ? WHERE file = ? AND row = ?"},
}

// sumRows puts its sum beside every bill, attempt and outcome.
func sumRows(ctx context.Context, tx *sql.Tx) error {
	for _, t := range summed {
		for key := t.first; ; {
			var changes [][]any
			err := eachRow(ctx, tx, t.query, append(slices.Clone(key), sumsAtOnce), func(r *row) error {
				var sums []any
				sums, key = t.read(r)
				changes = append(changes, append(sums, key...))
				return nil
			})
			if err == nil {
				err = change(ctx, tx, t.put, changes)
			}
			if err != nil {
				return err
			}
			if len(changes) == 0 {
				break
			}
		}
	}
	return nil
}

// change runs a statement for each change.
func change(ctx context.Context, tx *sql.Tx, statement string, changes [][]any) error {
	s, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, args := range changes {
		if _, err := s.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}
