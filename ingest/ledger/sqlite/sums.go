package sqlite

import (
	"context"
	"database/sql"

	"billdrop/ingest/ledger"
)

const (
	// sumsVersion is the migration that sums up the rows that were there before.
	sumsVersion = 3
	// sumsAtOnce is how many rows it holds in memory.
	sumsAtOnce = 10_000
)

// sumRows puts its sum beside every bill, attempt and outcome: some 100,000 rows a second.
func sumRows(ctx context.Context, tx *sql.Tx) error {
	for _, sum := range []func(context.Context, *sql.Tx, int64) (int64, error){sumBills, sumAttempts} {
		for last := int64(0); ; {
			next, err := sum(ctx, tx, last)
			if err != nil {
				return err
			}
			if next == last {
				break
			}
			last = next
		}
	}
	return sumOutcomes(ctx, tx)
}

// change is a row's key and its new sums.
type change struct{ args []any }

// apply runs a statement for each change.
func apply(ctx context.Context, tx *sql.Tx, statement string, changes []change) error {
	s, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, c := range changes {
		if _, err := s.ExecContext(ctx, c.args...); err != nil {
			return err
		}
	}
	return nil
}

// sumBills sums up some bills whose id is greater than after, and returns the last one's.
func sumBills(ctx context.Context, tx *sql.Tx, after int64) (last int64, err error) {
	var changes []change
	last = after
	err = eachRow(ctx, tx, selectBills+`, n.id, s.merchant, s.mode, b.id FROM bills AS b JOIN scopes AS s ON s.id = b.scope
		LEFT JOIN file_numbers AS n ON n.number = b.file WHERE b.id > ? ORDER BY b.id LIMIT ?`, []any{after, sumsAtOnce}, func(r *row) error {
		b, _ := readBill(r)
		b.Send.File = r.text()
		s := ledger.Scope{Merchant: r.text(), Mode: r.text()}
		last = r.number()
		changes = append(changes, change{[]any{ledger.SumBill(s, b), ledger.SumSend(s, b.Reference, &b.Send), last}})
		return nil
	})
	if err == nil {
		err = apply(ctx, tx, "UPDATE bills SET sum = ?, send_sum = ? WHERE id = ?", changes)
	}
	return last, err
}

// sumAttempts does it with attempts.
func sumAttempts(ctx context.Context, tx *sql.Tx, after int64) (last int64, err error) {
	var changes []change
	last = after
	err = eachRow(ctx, tx, selectAttempts+", a.id"+fromAttempts+" WHERE a.id > ? ORDER BY a.id LIMIT ?", []any{after, sumsAtOnce}, func(r *row) error {
		a := readAttempt(r)
		last = r.number()
		changes = append(changes, change{[]any{ledger.SumSend(a.Scope, a.Reference, a.Send()), last}})
		return nil
	})
	if err == nil {
		err = apply(ctx, tx, "UPDATE attempts SET sum = ? WHERE id = ?", changes)
	}
	return last, err
}

// sumOutcomes does it with outcomes, whose key has two parts.
func sumOutcomes(ctx context.Context, tx *sql.Tx) error {
	for file, at := int64(0), int64(-1); ; {
		var changes []change
		err := eachRow(ctx, tx, selectOutcomes+`, o.file FROM outcomes AS o JOIN file_numbers AS n ON n.number = o.file
			WHERE (o.file, o.row) > (?, ?) ORDER BY o.file, o.row LIMIT ?`, []any{file, at, sumsAtOnce}, func(r *row) error {
			o := readStoredOutcome(r)
			file, at = r.number(), int64(o.Outcome.Row)
			changes = append(changes, change{[]any{ledger.SumOutcome(o.File, o.Outcome), file, at}})
			return nil
		})
		if err != nil || len(changes) == 0 {
			return err
		}
		if err := apply(ctx, tx, "UPDATE outcomes SET sum = ? WHERE file = ? AND row = ?", changes); err != nil {
			return err
		}
	}
}
