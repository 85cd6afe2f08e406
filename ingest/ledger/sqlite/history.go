package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"billdrop/ingest/ledger"
)

// History implements ledger.Ledger. Attempts are all sends, the latest last. Sightings
// are in the order in which their files were received, and by row within a file.
func (l *Ledger) History(ctx context.Context, s ledger.Scope, reference string) (*ledger.History, error) {
	h := &ledger.History{}
	err := l.readTx(ctx, func(tx *sql.Tx) error {
		var id, file int64
		err := eachRow(ctx, tx, selectBills+`, b.id FROM bills AS b
			WHERE b.reference = ? AND b.scope = (SELECT id FROM scopes WHERE merchant = ? AND mode = ?)`,
			[]any{reference, s.Merchant, s.Mode},
			func(r *row) error {
				h.Bill, file = readBill(r)
				id = r.number()
				return nil
			})
		if err == nil && file != 0 {
			err = l.fillFile(ctx, tx, file, h.Bill)
		}
		if err != nil {
			return err
		}
		if h.Bill != nil {
			if err := addAttempts(ctx, tx, id, h); err != nil {
				return err
			}
		}
		return addSightings(ctx, tx, s, reference, h)
	})
	if err != nil {
		return nil, readError(ctx, fmt.Sprintf("read history of bill %q", reference), err)
	}
	if h.Bill == nil && len(h.Sightings) == 0 {
		return nil, fmt.Errorf("read history of bill %q: %w", reference, ledger.ErrNotFound)
	}
	return h, nil
}

// addAttempts adds the earlier sends of the bill with this id, and the latest, which is
// in the bill.
func addAttempts(ctx context.Context, tx *sql.Tx, id int64, h *ledger.History) error {
	err := eachRow(ctx, tx, `SELECT n.id, a.sent_at, a.key, a.generation, a.answer
		FROM attempts AS a JOIN file_numbers AS n ON n.number = a.file WHERE a.bill = ? ORDER BY a.id`, []any{id},
		func(r *row) error {
			h.Attempts = append(h.Attempts, ledger.Attempt{File: r.text(), At: r.time(), Key: r.key(), Generation: r.int(), Answer: r.text()})
			return nil
		})
	if s := &h.Bill.Send; *s != (ledger.Send{}) {
		h.Attempts = append(h.Attempts, ledger.Attempt{File: s.File, At: s.At, Key: s.Key, Generation: s.Generation, Answer: s.Answer})
	}
	return err
}

// addSightings adds the rows that named reference.
func addSightings(ctx context.Context, tx *sql.Tx, s ledger.Scope, reference string, h *ledger.History) error {
	return eachRow(ctx, tx, `SELECT f.id, f.name, o.line, o.status, o.code, o.detail
		FROM outcomes AS o JOIN files AS f ON f.number = o.file
		WHERE o.reference = ? AND f.scope = (SELECT id FROM scopes WHERE merchant = ? AND mode = ?)
		ORDER BY f.received, f.id, o.row`, []any{reference, s.Merchant, s.Mode},
		func(r *row) error {
			h.Sightings = append(h.Sightings, ledger.Sighting{File: r.text(), Name: r.text(), Line: r.int(), Status: statusOf(r.number()),
				Code: r.text(), Detail: r.text()})
			return nil
		})
}
