package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"billdrop/ingest/ledger"
)

// History implements ledger.Ledger. Attempts are all sends, the latest last. Sightings are in the order
// in which their files were received, and by row within a file.
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
		func(rows pgx.Rows) (err error) {
			h.Bill, err = scanBill(rows)
			return err
		})
	if err == nil && h.Bill != nil {
		err = addAttempts(ctx, tx, key, h)
	}
	if err != nil {
		return err
	}
	return eachRow(ctx, tx, `SELECT f.id, f.name, o.line, o.status, o.code, o.detail
		FROM outcomes AS o JOIN files AS f ON f.number = o.file
		WHERE o.reference = $1 AND f.scope = (SELECT id FROM scopes WHERE merchant = $2 AND mode = $3)
		ORDER BY f.received NULLS FIRST, f.id, o.row_no`, key,
		func(rows pgx.Rows) error {
			var seen ledger.Sighting
			var status int16
			err := rows.Scan(&seen.File, &seen.Name, &seen.Line, &status, &seen.Code, &seen.Detail)
			seen.Status = statusOf(status)
			read(&seen.File, &seen.Name, &seen.Code, &seen.Detail)
			h.Sightings = append(h.Sightings, seen)
			return err
		})
}

// addAttempts adds the earlier sends of a bill, and the latest, which is in the bill.
func addAttempts(ctx context.Context, tx pgx.Tx, key []any, h *ledger.History) error {
	err := eachRow(ctx, tx, `SELECT n.id, a.sent_at, a.key, a.generation, a.answer
		FROM attempts AS a JOIN file_numbers AS n ON n.number = a.file
		WHERE a.reference = $1 AND a.scope = (SELECT id FROM scopes WHERE merchant = $2 AND mode = $3) ORDER BY a.id`, key,
		func(rows pgx.Rows) error {
			var a ledger.Attempt
			var at pgtype.Int8
			err := rows.Scan(&a.File, &at, &a.Key, &a.Generation, &a.Answer)
			a.At = timeOf(at)
			read(&a.File, &a.Key, &a.Answer)
			h.Attempts = append(h.Attempts, a)
			return err
		})
	if s := &h.Bill.Send; *s != (ledger.Send{}) {
		h.Attempts = append(h.Attempts, ledger.Attempt{File: s.File, At: s.At, Key: s.Key, Generation: s.Generation, Answer: s.Answer})
	}
	return err
}

// readTx runs do on one snapshot that holds every write that returned before. It may run it several
// times.
func (l *Ledger) readTx(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	if err := l.settle(ctx, nil); err != nil {
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
