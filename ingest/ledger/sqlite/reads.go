package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"billdrop/ingest/ledger"
)

// Parties implements ledger.Ledger.
func (l *Ledger) Parties(ctx context.Context, s ledger.Scope, refs []ledger.PartyRef) (map[ledger.PartyRef]ledger.Party, error) {
	parties := make(map[ledger.PartyRef]ledger.Party, len(refs))
	if err := l.settle(ctx); err != nil {
		return nil, fmt.Errorf("read parties: %w", err)
	}
	for chunk := range slices.Chunk(refs, inAtOnce) {
		asked := make(map[ledger.Digest]ledger.PartyRef, len(chunk))
		args := make([]any, len(chunk))
		for i, ref := range chunk {
			d := digestOf(s, ref)
			asked[d] = ref
			args[i] = d[:]
		}
		err := eachRow(ctx, l.read, `SELECT digest, party_id, customer_id FROM parties WHERE digest IN (`+marks(len(args))+`)`, args,
			func(rows *sql.Rows) error {
				var digest sql.RawBytes
				var p ledger.Party
				if err := rows.Scan(&digest, &p.ID, &p.CustomerID); err != nil {
					return err
				}
				p.PartyRef = asked[ledger.Digest(digest)]
				parties[p.PartyRef] = p
				return nil
			})
		if err != nil {
			return nil, readError(ctx, "read parties", err)
		}
	}
	return parties, nil
}

// Outcomes implements ledger.Ledger.
func (l *Ledger) Outcomes(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	return l.outcomes(ctx, "read outcomes", "", file, from, limit)
}

// Attention implements ledger.Ledger.
func (l *Ledger) Attention(ctx context.Context, file string, from, limit int) ([]ledger.Outcome, error) {
	// As in outcomes_attention.
	return l.outcomes(ctx, "read outcomes that need attention", "AND status NOT IN ('created', 'existing')", file, from, limit)
}

func (l *Ledger) outcomes(ctx context.Context, what, condition, file string, from, limit int) ([]ledger.Outcome, error) {
	if err := l.settle(ctx); err != nil {
		return nil, fmt.Errorf("%s of file %s: %w", what, file, err)
	}
	if limit <= 0 {
		return nil, nil // up to none; to SQLite a negative limit would be none at all
	}
	var list []ledger.Outcome
	err := eachRow(ctx, l.read, `WITH f AS (SELECT number FROM file_numbers WHERE id = ?)
		SELECT id & 0xffffffff, line, reference, status, code, detail, bill_id, customer_id, account_id, currency, amount, attempts, key, customers, accounts
		FROM outcomes WHERE id >= ((SELECT number FROM f) << 32) + ? AND id < ((SELECT number FROM f) + 1) << 32 `+condition+`
		ORDER BY id LIMIT ?`, []any{file, max(from, 0), limit},
		func(rows *sql.Rows) error {
			var o ledger.Outcome
			var key any
			if err := rows.Scan(&o.Row, &o.Line, &o.Reference, &o.Status, &o.Code, &o.Detail,
				&o.BillID, &o.CustomerID, &o.AccountID, &o.Currency, &o.Amount, &o.Attempts, &key, &o.Customers, &o.Accounts); err != nil {
				return err
			}
			o.Key = unpackKey(key)
			list = append(list, o)
			return nil
		})
	if err != nil {
		return nil, readError(ctx, what+" of file "+file, err)
	}
	return list, nil
}
