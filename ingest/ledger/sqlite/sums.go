package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"billdrop/ingest/ledger"
)

// Totals implements ledger.Ledger. Rows whose currency is not known count under the currency "".
func (l *Ledger) Totals(ctx context.Context, file string) (ledger.Totals, error) {
	t := ledger.Totals{
		Rows:    map[ledger.Status]int{},
		Amounts: map[string]map[ledger.Status]int64{},
	}
	err := l.readTx(ctx, func(tx *sql.Tx) error {
		var number int64
		err := tx.QueryRowContext(ctx, "SELECT number FROM file_numbers WHERE id = ?", file).Scan(&number)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // nothing was recorded for it: all sums are zero
		}
		if err != nil {
			return err
		}
		return addOutcomes(ctx, tx, number, &t)
	})
	if err != nil {
		return ledger.Totals{}, readError(ctx, "sum up file "+file, err)
	}
	return t, nil
}

// sumRows is how many rows are summed up at a time: to group them SQLite sorts them, in memory.
const sumRows = 32 << 10

// addOutcomes adds up the outcomes of the file with this number.
func addOutcomes(ctx context.Context, tx *sql.Tx, number int64, t *ledger.Totals) error {
	var last sql.NullInt64
	err := tx.QueryRowContext(ctx, "SELECT max(id) FROM outcomes WHERE id >= ?1 << 32 AND id < (?1 + 1) << 32", number).Scan(&last)
	if err != nil || !last.Valid {
		return err
	}
	for from := number << 32; from <= last.Int64; from += sumRows {
		if err := addSome(ctx, tx, from, min(from+sumRows, last.Int64+1), t); err != nil {
			return err
		}
	}
	return nil
}

// addSome adds up the outcomes with from <= id < to.
func addSome(ctx context.Context, tx *sql.Tx, from, to int64, t *ledger.Totals) error {
	return eachRow(ctx, tx, `SELECT status, currency, count(*), sum(amount), sum(attempts), sum(max(attempts - 1, 0)),
			sum(customers), sum(accounts)
		FROM outcomes WHERE id >= ? AND id < ? GROUP BY status, currency`, []any{from, to},
		func(rows *sql.Rows) error {
			var (
				code              int64
				currency          string
				n                 int
				amount            int64
				attempts, resends int
				customers         int
				accounts          int
			)
			if err := rows.Scan(&code, &currency, &n, &amount, &attempts, &resends, &customers, &accounts); err != nil {
				return err
			}
			status := statusOf(code)
			t.Rows[status] += n
			t.Attempts += attempts
			t.Resends += resends
			t.Customers += customers
			t.Accounts += accounts
			if t.Amounts[currency] == nil {
				t.Amounts[currency] = map[ledger.Status]int64{}
			}
			t.Amounts[currency][status] += amount
			return nil
		})
}

// History implements ledger.Ledger. Attempts are all sends, the latest last; sightings are in the order in which
// their files were received, and by row within a file.
func (l *Ledger) History(ctx context.Context, s ledger.Scope, reference string) (*ledger.History, error) {
	h := &ledger.History{}
	err := l.readTx(ctx, func(tx *sql.Tx) error {
		found := storedBill{id: -1} // no bill's
		if known, err := l.storedBills(ctx, tx, s, []string{reference}); err != nil {
			return err
		} else if len(known) > 0 {
			found = known[0]
		}
		h.Bill = found.bill
		if err := attemptsOf(ctx, tx, found.id, h); err != nil {
			return err
		}
		return sightingsOf(ctx, tx, s, found, reference, h)
	})
	if err != nil {
		return nil, readError(ctx, fmt.Sprintf("read history of bill %q", reference), err)
	}
	if h.Bill == nil && len(h.Sightings) == 0 {
		return nil, fmt.Errorf("read history of bill %q: %w", reference, ledger.ErrNotFound)
	}
	return h, nil
}

// attemptsOf adds the earlier sends of bill id, and the latest, which stands in the bill.
func attemptsOf(ctx context.Context, tx *sql.Tx, id int64, h *ledger.History) error {
	err := eachRow(ctx, tx, `SELECT f.id, a.sent_at, a.key, a.generation, a.answer
		FROM attempts AS a JOIN file_numbers AS f ON f.number = a.file WHERE a.bill = ? ORDER BY a.id`, []any{id},
		func(rows *sql.Rows) error {
			var a ledger.Attempt
			var at sql.NullInt64
			var key any
			if err := rows.Scan(&a.File, &at, &key, &a.Generation, &a.Answer); err != nil {
				return err
			}
			a.At, a.Key = fromMicros(at), unpackKey(key)
			h.Attempts = append(h.Attempts, a)
			return nil
		})
	if err != nil {
		return err
	}
	if h.Bill != nil && h.Bill.Send != (ledger.Send{}) {
		s := h.Bill.Send
		h.Attempts = append(h.Attempts, ledger.Attempt{File: s.File, At: s.At, Key: s.Key, Generation: s.Generation, Answer: s.Answer})
	}
	return nil
}

// sightingsOf adds the rows that named reference: those to which a send of the bill leads, and those that are found by
// their reference because none does.
func sightingsOf(ctx context.Context, tx *sql.Tx, s ledger.Scope, b storedBill, reference string, h *ledger.History) error {
	latest := int64(-1)
	if b.file != 0 {
		latest = outcomeID(b.file, b.bill.Send.Row)
	}
	return eachRow(ctx, tx, `WITH seen (id) AS (
			SELECT ?1
			UNION SELECT (file << 32) + row FROM attempts WHERE bill = ?2
			UNION SELECT id FROM outcomes WHERE reference = ?3
		)
		SELECT f.id, f.name, o.status, o.record
		FROM seen JOIN outcomes AS o ON o.id = seen.id JOIN files AS f ON f.number = seen.id >> 32
		WHERE f.scope = (SELECT id FROM scopes WHERE merchant = ?4 AND mode = ?5)
		ORDER BY f.received, f.id, o.id`,
		[]any{latest, b.id, reference, s.Merchant, s.Mode},
		func(rows *sql.Rows) error {
			var g ledger.Sighting
			var status int64
			var record sql.RawBytes
			if err := rows.Scan(&g.File, &g.Name, &status, &record); err != nil {
				return err
			}
			var o ledger.Outcome
			if err := unpackOutcome(record, &o); err != nil {
				return fmt.Errorf("a row of file %s: %w", g.File, err)
			}
			if o.Reference == reference {
				g.Line, g.Status, g.Code, g.Detail = o.Line, statusOf(status), o.Code, o.Detail
				h.Sightings = append(h.Sightings, g)
			}
			return nil
		})
}

// readTx runs read on one snapshot that holds every write that returned before.
func (l *Ledger) readTx(ctx context.Context, read func(*sql.Tx) error) (err error) {
	if err := l.settle(ctx); err != nil {
		return err
	}
	tx, err := l.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() {
		if r := tx.Rollback(); r != nil && err == nil && !errors.Is(r, sql.ErrTxDone) { // done: ctx has ended
			err = r
		}
	}()
	return read(tx)
}
