package sqlite

import (
	"cmp"
	"slices"

	"billdrop/ingest/ledger"
)

// record is Ledger.Record. It holds copies, for the caller goes on with its own.
type record struct {
	entry   ledger.Entry // its parts are those below
	bill    ledger.Bill
	outcome ledger.Outcome
	sent    bool // a send of bill leads to outcome
	parties []partyRow
}

func newRecord(e ledger.Entry) *record {
	r := &record{entry: e, parties: make([]partyRow, len(e.Parties))}
	if e.Bill != nil {
		r.bill = *e.Bill
		r.entry.Bill = &r.bill
	}
	if e.Outcome != nil {
		r.outcome = *e.Outcome
		r.entry.Outcome = &r.outcome
	}
	for i, p := range e.Parties {
		r.parties[i] = partyRow{digestOf(e.Scope, p.PartyRef), p.ID}
	}
	r.entry.Parties = nil
	return r
}

func (r *record) touch(t touched) {
	if r.entry.Bill != nil {
		t.add(billTouch(r.bill.Reference))
	}
	for _, p := range r.parties {
		t.add(partyTouch(p.digest))
	}
}

func (r *record) apply(w *writer) error {
	e := &r.entry
	if e.Bill != nil {
		if err := w.recordBill(e.Scope, e.Bill); err != nil {
			return err
		}
	}
	w.parties = append(w.parties, r.parties...)
	if e.Outcome == nil && e.Gets == 0 && e.Throttled == 0 {
		return nil
	}
	file, err := w.number(e.File)
	if err != nil {
		return err
	}
	if e.Outcome != nil {
		w.outcomes = append(w.outcomes, outcomeRow{id: outcomeID(file, r.outcome.Row), outcome: &r.outcome, sent: r.sent})
	}
	if e.Gets != 0 || e.Throttled != 0 {
		c := w.counts[file]
		w.counts[file] = count{c.gets + e.Gets, c.throttled + e.Throttled}
	}
	return nil
}

// outcomeRow is an outcome on its way into the table.
type outcomeRow struct {
	id      int64
	outcome *ledger.Outcome
	sent    bool
}

// partyRow is a party on its way into the table.
type partyRow struct {
	digest ledger.Digest
	id     string
}

// applyRows writes the outcomes and parties of a batch, several with one statement: outcomes in the order of their
// keys, so that neighbours on a page are written together. Rows of one key stay in the order in which they came.
func (w *writer) applyRows() error {
	slices.SortStableFunc(w.outcomes, func(a, b outcomeRow) int { return cmp.Compare(a.id, b.id) })
	err := w.s.addOutcomes.each(len(w.outcomes), func(args []any, i int) []any {
		r := &w.outcomes[i]
		o := r.outcome
		var reference any
		if !r.sent {
			reference = o.Reference
		}
		from := len(w.room)
		w.room = packOutcome(w.room, o)
		return append(args, r.id, statusCode(o.Status), o.Currency, o.Amount, o.Attempts, o.Customers, o.Accounts, reference, w.room[from:])
	})
	if err != nil {
		return err
	}
	clear(w.outcomes)
	w.outcomes = w.outcomes[:0]
	return w.addParties()
}
