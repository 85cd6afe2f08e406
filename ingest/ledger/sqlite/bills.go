package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"billdrop/ingest/ledger"
)

// inAtOnce is how many keys one SELECT … IN asks for: a chunk of the pipeline, well below SQLite's limit of
// 32,766 parameters.
const inAtOnce = 512

// begin is Ledger.Begin. bill is a copy.
type begin struct {
	scope ledger.Scope
	bill  ledger.Bill
}

// apply inserts the bill where it is new, which is all that happens in a clean run.
func (o *begin) apply(w *writer) error {
	scope, err := w.scope(o.scope)
	if err != nil {
		return err
	}
	key := billKey{scope, o.bill.Reference}
	if o.bill.Seen == (ledger.Seen{}) {
		args, err := w.billArgs(&o.bill)
		if err != nil {
			return err
		}
		r, err := w.s.addSend.exec(slices.Concat([]any{scope, o.bill.Reference}, args[:2], args[10:])...)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil {
			return err
		} else if n == 1 {
			id, err := r.LastInsertId()
			w.remember(key, begun{id, o.bill.Send})
			return err
		}
	}
	id, err := w.putBill(key, &o.bill, true)
	w.remember(key, begun{id, o.bill.Send})
	return err
}

// recordBill is the Bill of a Record.
func (w *writer) recordBill(s ledger.Scope, b *ledger.Bill) error {
	scope, err := w.scope(s)
	if err != nil {
		return err
	}
	key := billKey{scope, b.Reference}
	last, ok := w.recent[key]
	if ok && sameSend(last.send, b.Send) {
		if b.State != ledger.Pending {
			delete(w.recent, key)
		}
		_, err := w.s.answerBill.exec(int(b.State), flag(b.Doubt), b.Seen.BillID, b.Seen.CustomerID, b.Seen.AccountID, b.Seen.Currency,
			b.Seen.Amount, b.Seen.BillDate, b.Seen.DueDate, flag(b.Seen.Voided), b.Send.Answer, flag(b.Send.Unanswered), last.id)
		return err
	}
	delete(w.recent, key)
	_, err = w.putBill(key, b, false)
	return err
}

// sameSend reports whether b is a but for what came of it.
func sameSend(a, b ledger.Send) bool {
	a.Answer, a.Unanswered = b.Answer, b.Unanswered
	if !a.KeyFirstUsed.Equal(b.KeyFirstUsed) || !a.At.Equal(b.At) {
		return false
	}
	a.KeyFirstUsed, a.At = b.KeyFirstUsed, b.At
	return a == b
}

// remember keeps what is needed to record the answer to a send cheaply.
func (w *writer) remember(key billKey, b begun) {
	if len(w.recent) >= maxRecent {
		clear(w.recent)
	}
	w.recent[key] = b
}

// putBill replaces all that is known of a bill, or inserts it. A stored send joins the attempts when the bill
// begins another, or comes with another: no send is ever forgotten.
func (w *writer) putBill(key billKey, b *ledger.Bill, begins bool) (int64, error) {
	args, err := w.billArgs(b)
	if err != nil {
		return 0, err
	}
	id, found, err := w.s.findBill.one(key.scope, key.reference)
	if err != nil {
		return 0, err
	}
	if !found {
		r, err := w.s.addBill.exec(slices.Concat([]any{key.scope, key.reference}, args)...)
		if err != nil {
			return 0, err
		}
		return r.LastInsertId()
	}
	file, row, generation, sendKey, at := args[10], args[11], args[12], args[18], args[20]
	if _, err := w.s.movedSend.exec(id, flag(!begins), file, row, generation, sendKey, at); err != nil {
		return 0, err
	}
	_, err = w.s.saveBill.exec(append(args, id)...)
	return id, err
}

// billArgs are the values of billColumns.
func (w *writer) billArgs(b *ledger.Bill) ([]any, error) {
	n, s := &b.Seen, &b.Send
	args := make([]any, 0, len(billColumns)+1)
	args = append(args, int(b.State), flag(b.Doubt),
		n.BillID, n.CustomerID, n.AccountID, n.Currency, n.Amount, n.BillDate, n.DueDate, flag(n.Voided))
	if *s == (ledger.Send{}) {
		return append(args, make([]any, len(billColumns)-len(args))...), nil
	}
	file, err := w.number(s.File)
	if err != nil {
		return nil, err
	}
	return append(args, file, s.Row, s.Generation, int(s.Form), s.CustomerID, s.AccountID, s.Content[:], s.Body[:], packKey(s.Key),
		micros(s.KeyFirstUsed), micros(s.At), s.Count, s.Answer, flag(s.Unanswered)), nil
}

// Bills implements ledger.Ledger.
func (l *Ledger) Bills(ctx context.Context, s ledger.Scope, refs []string) (map[string]*ledger.Bill, error) {
	bills := make(map[string]*ledger.Bill, len(refs))
	if err := l.settle(ctx); err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	for chunk := range slices.Chunk(refs, inAtOnce) {
		err := l.queryBills(ctx, l.read, s, chunk, func(_ int64, b *ledger.Bill) { bills[b.Reference] = b })
		if err != nil {
			return nil, readError(ctx, "read bills", err)
		}
	}
	return bills, nil
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// queryBills hands each of refs that is known to yield, with its id.
func (l *Ledger) queryBills(ctx context.Context, q querier, s ledger.Scope, refs []string, yield func(id int64, b *ledger.Bill)) error {
	args := make([]any, 0, len(refs)+2)
	args = append(args, s.Merchant, s.Mode)
	for _, r := range refs {
		args = append(args, r)
	}
	return eachRow(ctx, q, `SELECT b.id, b.reference, f.id, b.`+strings.Join(billColumns, ", b.")+`
		FROM bills AS b LEFT JOIN file_numbers AS f ON f.number = b.send_file
		WHERE b.scope = (SELECT id FROM scopes WHERE merchant = ? AND mode = ?) AND b.reference IN (`+marks(len(refs))+`)`, args,
		func(rows *sql.Rows) error {
			id, b, err := scanBill(rows)
			if err == nil {
				yield(id, b)
			}
			return err
		})
}

// scanBill reads a row of queryBills.
func scanBill(rows *sql.Rows) (int64, *ledger.Bill, error) {
	var (
		id                            int64
		b                             ledger.Bill
		file, customer, account       sql.NullString
		answer                        sql.NullString
		number, row, generation, form sql.NullInt64
		sends, unanswered, first, at  sql.NullInt64
		content, body                 []byte
		key                           any
	)
	n := &b.Seen
	err := rows.Scan(&id, &b.Reference, &file, &b.State, &b.Doubt,
		&n.BillID, &n.CustomerID, &n.AccountID, &n.Currency, &n.Amount, &n.BillDate, &n.DueDate, &n.Voided,
		&number, &row, &generation, &form, &customer, &account, &content, &body, &key,
		&first, &at, &sends, &answer, &unanswered)
	if err != nil {
		return 0, nil, err
	}
	if number.Valid {
		b.Send = ledger.Send{
			File:         file.String,
			Row:          int(row.Int64),
			Generation:   int(generation.Int64),
			Form:         ledger.Form(form.Int64),
			CustomerID:   customer.String,
			AccountID:    account.String,
			Key:          unpackKey(key),
			KeyFirstUsed: fromMicros(first),
			At:           fromMicros(at),
			Count:        int(sends.Int64),
			Answer:       answer.String,
			Unanswered:   unanswered.Int64 != 0,
		}
		copy(b.Send.Content[:], content)
		copy(b.Send.Body[:], body)
	}
	return id, &b, nil
}

// eachRow runs a query and hands each of its rows to scan.
func eachRow(ctx context.Context, q querier, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// marks is n question marks, for an IN.
func marks(n int) string {
	return strings.TrimSuffix(strings.Repeat("?, ", n), ", ")
}

// readError tells the caller's own end of patience from a failure of the engine.
func readError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w", what, unusable(err))
}
