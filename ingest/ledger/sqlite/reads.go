package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"billdrop/ingest/ledger"
)

// Outcomes implements ledger.Ledger.
func (l *Ledger) Outcomes(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	return l.outcomes(ctx, "read outcomes", "", file, from, limit)
}

// Attention implements ledger.Ledger.
func (l *Ledger) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	// As in outcomes_attention.
	return l.outcomes(ctx, "read outcomes that need attention", "AND status > 2", file, from, limit)
}

func (l *Ledger) outcomes(ctx context.Context, what, condition, file string, from, limit int) ([]ledger.Outcome, error) {
	if err := l.settle(ctx); err != nil {
		return nil, fmt.Errorf("%s of file %s: %w", what, file, err)
	}
	if limit <= 0 {
		return nil, nil // up to none; to SQLite a negative limit would be none at all
	}
	list := make([]ledger.Outcome, 0, min(limit, 1024))
	err := eachRow(ctx, l.read, `WITH f AS (SELECT number FROM file_numbers WHERE id = ?)
		SELECT id & 0xffffffff, status, currency, amount, attempts, customers, accounts, record
		FROM outcomes WHERE id >= ((SELECT number FROM f) << 32) + ? AND id < ((SELECT number FROM f) + 1) << 32 `+condition+`
		ORDER BY id LIMIT ?`, []any{file, max(from, 0), limit},
		func(rows *sql.Rows) error {
			var o ledger.Outcome
			var status int64
			var record sql.RawBytes
			if err := rows.Scan(&o.Row, &status, &o.Currency, &o.Amount, &o.Attempts, &o.Customers, &o.Accounts, &record); err != nil {
				return err
			}
			o.Status = statusOf(status)
			if err := unpackOutcome(record, &o); err != nil {
				return fmt.Errorf("row %d: %w", o.Row, err)
			}
			list = append(list, o)
			return nil
		})
	if err != nil {
		return nil, readError(ctx, what+" of file "+file, err)
	}
	return list, nil
}
