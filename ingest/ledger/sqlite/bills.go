package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"billdrop/ingest/ledger"
)

// billColumns are the columns of a bill but its id, in the order of billValues and of
// readBill.
var billColumns = []string{
	"scope", "reference", "state", "doubt",
	"bill_id", "customer_id", "account_id", "currency", "amount_due", "bill_date", "due_date", "voided",
	"sum", "send_sum",
	"file", "row", "generation", "form", "sent_customer_id", "sent_account_id", "content", "body",
	"key", "key_first_used", "sent_at", "sends", "answer", "unanswered",
}

// sumsAt is where the sums stand in billColumns.
const sumsAt = 12

// billValues are the values of billColumns. scope and file are the numbers of s and of the
// send's file.
func billValues(of ledger.Scope, scope int64, b *ledger.Bill, file int64) []any {
	o, s := &b.Observed, &b.Send
	values := append(make([]any, 0, len(billColumns)), scope, b.Reference, int64(b.State), b.Doubt,
		o.BillID, o.CustomerID, o.AccountID, o.Currency, o.Amount, o.BillDate, o.DueDate, o.Voided,
		ledger.SumBill(of, b), ledger.SumSend(of, b.Reference, s))
	if *s == (ledger.Send{}) {
		return values[:len(billColumns)] // NULL where nothing was sent
	}
	return append(values, file, s.Row, s.Generation, int64(s.Form), s.CustomerID, s.AccountID, s.Content[:], s.Body[:],
		keyValue(s.Key), micros(s.KeyFirstUsed), micros(s.At), s.Count, s.Answer, s.Unanswered)
}

// selectBills selects what readBill reads, of bills AS b.
const selectBills = `SELECT b.reference, b.state, b.doubt,
	b.bill_id, b.customer_id, b.account_id, b.currency, b.amount_due, b.bill_date, b.due_date, b.voided,
	b.file, b.row, b.generation, b.form, b.sent_customer_id, b.sent_account_id, b.content, b.body,
	b.key, b.key_first_used, b.sent_at, b.sends, b.answer, b.unanswered`

const billsByReference = selectBills + ` FROM json_each(?1) AS v
	CROSS JOIN bills AS b ON b.reference = v.value AND b.scope = (SELECT id FROM scopes WHERE merchant = ?2 AND mode = ?3)`

// readBill returns a bill, and the number of its send's file, 0 if there is none. The id of
// the file is still to be filled in: most bills of a look-up have the same one.
func readBill(r *row) (b *ledger.Bill, file int64) {
	b = &ledger.Bill{Reference: r.text(), State: ledger.BillState(r.number()), Doubt: r.flag()}
	b.Observed = ledger.Observed{BillID: r.text(), CustomerID: r.text(), AccountID: r.text(), Currency: r.text(), Amount: r.number(),
		BillDate: r.text(), DueDate: r.text(), Voided: r.flag()}
	file = r.number()
	b.Send = ledger.Send{Row: r.int(), Generation: r.int(), Form: ledger.Form(r.number()),
		CustomerID: r.text(), AccountID: r.text(), Content: r.digest(), Body: r.digest(),
		Key: r.key(), KeyFirstUsed: r.time(), At: r.time(), Count: r.int(), Answer: r.text(), Unanswered: r.flag()}
	return b, file
}

// begin is Ledger.Begin. bill is a copy.
type begin struct {
	scope ledger.Scope
	bill  ledger.Bill
}

func (o *begin) apply(w *writer) error { return w.putBill(o.scope, &o.bill) }

// putBill records all that is known of a bill. The send that it replaces, if any, joins
// the attempts by a trigger.
func (w *writer) putBill(s ledger.Scope, b *ledger.Bill) error {
	scope, err := w.scope(s)
	if err != nil {
		return err
	}
	var file int64
	if b.Send != (ledger.Send{}) {
		if file, err = w.number(b.Send.File); err != nil {
			return err
		}
	}
	w.s.putBill.add(billValues(s, scope, b, file)...)
	return nil
}

// Bills implements ledger.Ledger.
func (l *Ledger) Bills(ctx context.Context, s ledger.Scope, refs []string) (map[string]*ledger.Bill, error) {
	wanted := make(map[string]bool, len(refs))
	for _, r := range refs {
		wanted[r] = true
	}
	err := l.settle(ctx, func(o op) bool {
		switch o := o.(type) {
		case *begin:
			return wanted[o.bill.Reference]
		case *record:
			return o.entry.Bill != nil && wanted[o.bill.Reference]
		}
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	list, err := json.Marshal(refs)
	if err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	bills := make(map[string]*ledger.Bill)
	sentFor := make(map[int64][]*ledger.Bill) // file → its bills
	rows, err := l.bills.QueryContext(ctx, string(list), s.Merchant, s.Mode)
	if err == nil {
		err = scanAll(rows, func(r *row) error {
			b, file := readBill(r)
			bills[b.Reference] = b
			if file != 0 {
				sentFor[file] = append(sentFor[file], b)
			}
			return nil
		})
	}
	for file, sent := range sentFor {
		if err == nil {
			err = l.fillFile(ctx, l.read, file, sent...)
		}
	}
	if err != nil {
		return nil, readError(ctx, "read bills", err)
	}
	return bills, nil
}

// fillFile fills in the file of bills that were sent for the file with this number.
func (l *Ledger) fillFile(ctx context.Context, q querier, number int64, sent ...*ledger.Bill) error {
	id, known := l.files.Load(number)
	if !known {
		err := eachRow(ctx, q, "SELECT id FROM file_numbers WHERE number = ?", []any{number}, func(r *row) error {
			id = r.text()
			l.files.Store(number, id)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, b := range sent {
		b.Send.File, _ = id.(string)
	}
	return nil
}

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
		h.Attempts = append(h.Attempts, s.Attempt())
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
			h.Sightings = append(h.Sightings, ledger.Sighting{File: r.text(), Name: r.text(), Line: r.int(), Status: ledger.StatusOf(r.int()),
				Code: r.text(), Detail: r.text()})
			return nil
		})
}
