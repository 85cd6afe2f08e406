package sqlite

import (
	"cmp"
	"slices"

	"billdrop/ingest/ledger"
)

// record is Ledger.Record. It holds copies, for the caller goes on with its own.
type record struct {
	entry   ledger.Entry
	sent    bool       // a send of entry.Bill leads to entry.Outcome
	parties []partyRow // entry.Parties
	outcome []byte     // entry.Outcome, packed
}

func newRecord(e ledger.Entry) *record {
	if e.Bill != nil {
		b := *e.Bill
		e.Bill = &b
	}
	if e.Outcome != nil {
		o := *e.Outcome
		e.Outcome = &o
	}
	r := &record{parties: make([]partyRow, len(e.Parties))}
	for i, p := range e.Parties {
		r.parties[i] = partyRow{digestOf(e.Scope, p.PartyRef), p.ID}
	}
	if e.Outcome != nil {
		r.outcome = packOutcome(e.Outcome)
	}
	e.Parties = nil
	r.entry = e
	return r
}

func (o *record) touch(t touched) {
	if o.entry.Bill != nil {
		t.add(billTouch(o.entry.Bill.Reference))
	}
	for _, p := range o.parties {
		t.add(partyTouch(p.digest))
	}
}

func (o *record) apply(w *writer) error {
	e := &o.entry
	if e.Bill != nil {
		if err := w.recordBill(e.Scope, e.Bill); err != nil {
			return err
		}
	}
	w.parties = append(w.parties, o.parties...)
	if e.Outcome == nil && e.Gets == 0 && e.Throttled == 0 {
		return nil
	}
	file, err := w.number(e.File)
	if err != nil {
		return err
	}
	if e.Outcome != nil {
		w.outcomes = append(w.outcomes, outcomeRow{id: outcomeID(file, e.Outcome.Row), outcome: e.Outcome, record: o.outcome, sent: o.sent})
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
	record  []byte
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
		return append(args, r.id, statusCode(o.Status), o.Currency, o.Amount, o.Attempts, o.Customers, o.Accounts, reference, r.record)
	})
	if err != nil {
		return err
	}
	clear(w.outcomes)
	w.outcomes = w.outcomes[:0]
	return w.addParties()
}
