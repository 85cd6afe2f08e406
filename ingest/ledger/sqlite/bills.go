package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"billdrop/ingest/ledger"
)

// begin is Ledger.Begin. bill is a copy.
type begin struct {
	scope ledger.Scope
	bill  ledger.Bill
}

func (o *begin) touch(t touched) { t.add(billTouch(o.bill.Reference)) }

// apply inserts the bill where it is new, which is all that happens in a clean run. That is left for many to be inserted at once.
func (o *begin) apply(w *writer) error {
	scope, err := w.scope(o.scope)
	if err != nil {
		return err
	}
	key, b := billKey{scope, o.bill.Reference}, &o.bill
	if b.Seen == (ledger.Seen{}) && b.Send.Generation == 1 && b.Send.Count == 1 && w.recent[key] == nil {
		record, err := w.packBill(b)
		if err != nil {
			return err
		}
		w.lastBill++
		at := &begun{id: w.lastBill, send: b.Send, isNew: true}
		w.newBills = append(w.newBills, newBill{key, b, record, at})
		w.remember(key, at)
		return nil
	}
	id, err := w.putBill(key, b, true)
	w.remember(key, &begun{id: id, send: b.Send})
	return err
}

// newBill is a bill on its way into the table.
type newBill struct {
	key    billKey
	bill   *ledger.Bill
	record []byte
	at     *begun
}

// savedBill is a record that replaces another.
type savedBill struct {
	at     *begun
	record []byte
}

// flushBills writes the bills of a batch that were left until now: what came of bills that were begun before, then new ones, then
// what came of these. A new one may turn out to be one of the first.
func (w *writer) flushBills() error {
	if err := w.flushSaves(&w.saves); err != nil {
		return err
	}
	if err := w.insertBills(); err != nil {
		return err
	}
	return w.flushSaves(&w.newSaves)
}

func (w *writer) flushSaves(saves *[]savedBill) error {
	err := w.s.saveBills.each(len(*saves), func(args []any, i int) []any {
		s := &(*saves)[i]
		s.at.saved = 0
		return append(args, s.at.id, s.record)
	})
	clear(*saves)
	*saves = (*saves)[:0]
	return err
}

// insertBills inserts new bills, and finds out which of them are none, where there are such.
func (w *writer) insertBills() error {
	bills := w.newBills
	defer func() { clear(bills); w.newBills = bills[:0] }()
	inserted, err := w.s.addBills.count(len(bills), func(args []any, i int) []any {
		n := &bills[i]
		n.at.isNew = false
		return append(args, n.at.id, n.key.scope, n.key.reference, n.record)
	})
	if err != nil || inserted == len(bills) {
		return err
	}
	for _, n := range bills {
		id, _, _, err := w.findBill(n.key)
		if err == nil && id != n.at.id { // it was there before
			n.at.id, err = w.replaceBill(n.key, n.bill, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// recordBill is the Bill of a Record.
func (w *writer) recordBill(s ledger.Scope, b *ledger.Bill) error {
	scope, err := w.scope(s)
	if err != nil {
		return err
	}
	key := billKey{scope, b.Reference}
	last := w.recent[key]
	if last == nil || last.send.File != b.Send.File || !sameSend(&last.send, &b.Send) {
		delete(w.recent, key)
		_, err = w.putBill(key, b, false)
		return err
	}
	if b.State != ledger.Pending && !last.isNew {
		delete(w.recent, key) // nothing more is to come; of a new one, another Begin of its batch must know
	}
	record, err := w.packBill(b)
	if err != nil {
		return err
	}
	saves := &w.saves
	if last.isNew {
		saves = &w.newSaves
	}
	if last.saved > 0 { // in this batch
		(*saves)[last.saved-1].record = record
		return nil
	}
	*saves = append(*saves, savedBill{last, record})
	last.saved = len(*saves)
	return nil
}

// sameSend reports whether two sends for one file are the same, whatever came of it.
func sameSend(a, b *ledger.Send) bool {
	return a.Row == b.Row && a.Generation == b.Generation && a.Key == b.Key && a.At.UnixMicro() == b.At.UnixMicro()
}

// remember keeps what is needed to record the answer to a send cheaply.
func (w *writer) remember(key billKey, b *begun) {
	w.recent[key] = b
}

// putBill replaces all that is known of a bill, or inserts it. A stored send joins the attempts when the bill
// begins another, or comes with another: no send is ever forgotten.
func (w *writer) putBill(key billKey, b *ledger.Bill, begins bool) (int64, error) {
	if err := w.flushBills(); err != nil { // what came before must be there
		return 0, err
	}
	return w.replaceBill(key, b, begins)
}

// replaceBill is putBill once what came before is there.
func (w *writer) replaceBill(key billKey, b *ledger.Bill, begins bool) (int64, error) {
	id, old, file, err := w.findBill(key)
	switch {
	case err != nil:
		return 0, err
	case old == nil:
		record, err := w.packBill(b)
		if err != nil {
			return 0, err
		}
		w.lastBill++
		_, err = w.s.addBills.one.exec(w.lastBill, key.scope, key.reference, record)
		return w.lastBill, err
	}
	number, err := w.numberOf(&b.Send)
	if err != nil {
		return 0, err
	}
	s := &old.Send
	if same := file == number && sameSend(s, &b.Send); file != 0 && (begins || !same) {
		if _, err := w.s.addAttempt.exec(id, file, s.Row, s.Generation, packKey(s.Key), micros(s.At), s.Answer); err != nil {
			return 0, err
		}
	}
	record, err := w.packBill(b)
	if err != nil {
		return 0, err
	}
	_, err = w.s.saveBills.one.exec(id, record)
	return id, err
}

// findBill returns what is stored of a bill and the number of its send's file; nil where nothing is.
func (w *writer) findBill(key billKey) (id int64, b *ledger.Bill, file int64, err error) {
	err = w.s.findBill.each([]any{key.scope, key.reference}, func(row []driver.Value) (err error) {
		id = row[0].(int64)
		b, file, err = unpackBill(row[1].([]byte))
		return err
	})
	return id, b, file, err
}

// packBill packs a bill into the batch's room.
func (w *writer) packBill(b *ledger.Bill) ([]byte, error) {
	file, err := w.numberOf(&b.Send)
	if err != nil {
		return nil, err
	}
	from := len(w.room)
	w.room = packBill(w.room, b, file)
	return w.room[from:], nil
}

// numberOf is the number of a send's file, 0 where nothing was sent.
func (w *writer) numberOf(s *ledger.Send) (int64, error) {
	if *s == (ledger.Send{}) {
		return 0, nil
	}
	return w.number(s.File)
}

// Bills implements ledger.Ledger.
func (l *Ledger) Bills(ctx context.Context, s ledger.Scope, refs []string) (map[string]*ledger.Bill, error) {
	touches := make([]touch, len(refs))
	for i, r := range refs {
		touches[i] = billTouch(r)
	}
	if err := l.settle(ctx, touches...); err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	bills := make(map[string]*ledger.Bill)
	found, err := l.storedBills(ctx, nil, s, refs)
	if err != nil {
		return nil, readError(ctx, "read bills", err)
	}
	for _, f := range found {
		bills[f.bill.Reference] = f.bill
	}
	return bills, nil
}

// storedBill is a bill as it is stored: with its id, and the number of its latest send's file (0 = nothing was sent).
type storedBill struct {
	id, file int64
	bill     *ledger.Bill
}

// storedBills returns those of refs that are known; one that was asked for twice comes twice. tx may be nil.
func (l *Ledger) storedBills(ctx context.Context, tx *sql.Tx, s ledger.Scope, refs []string) ([]storedBill, error) {
	var found []storedBill
	err := l.lookUps.bills.each(ctx, l.read, tx, anys(refs), []any{s.Merchant, s.Mode}, func(rows *sql.Rows) error {
		var id int64
		var reference string
		var record sql.RawBytes
		if err := rows.Scan(&id, &reference, &record); err != nil {
			return err
		}
		b, file, err := unpackBill(record)
		if err != nil {
			return fmt.Errorf("bill %q: %w", reference, err)
		}
		b.Reference = reference
		found = append(found, storedBill{id, file, b})
		return nil
	})
	for i := 0; i < len(found) && err == nil; i++ {
		if f := &found[i]; f.file != 0 {
			f.bill.Send.File, err = l.fileID(ctx, f.file)
		}
	}
	return found, err
}

func anys[T any](values []T) []any {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = v
	}
	return list
}

// fileID is the id of the file with a number.
func (l *Ledger) fileID(ctx context.Context, number int64) (string, error) {
	if id, ok := l.ids.Load(number); ok {
		return id.(string), nil
	}
	var id string
	err := eachRow(ctx, l.read, "SELECT id FROM file_numbers WHERE number = ?", []any{number}, func(rows *sql.Rows) error { return rows.Scan(&id) })
	if err == nil && id == "" {
		return "", fmt.Errorf("file number %d: %w", number, errRecord)
	}
	if err == nil {
		l.ids.Store(number, id)
	}
	return id, err
}

// readError tells the caller's own end of patience from a failure of the engine.
func readError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w", what, unusable(err))
}
