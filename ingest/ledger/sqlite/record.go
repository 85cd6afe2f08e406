package sqlite

import (
	"bytes"
	"cmp"
	"slices"

	"billdrop/ingest/ledger"
)

// record is Ledger.Record. It holds copies, for the caller goes on with its own.
type record struct {
	entry ledger.Entry
	sent  bool // a send of entry.Bill leads to entry.Outcome
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
	e.Parties = slices.Clone(e.Parties)
	return &record{entry: e}
}

func (o *record) apply(w *writer) error {
	e := &o.entry
	if e.Bill != nil {
		if err := w.recordBill(e.Scope, e.Bill); err != nil {
			return err
		}
	}
	for i := range e.Parties {
		w.recordParty(e.Scope, &e.Parties[i])
	}
	if e.Outcome == nil && e.Gets == 0 && e.Throttled == 0 {
		return nil
	}
	file, err := w.number(e.File)
	if err != nil {
		return err
	}
	if e.Outcome != nil {
		w.recordOutcome(file, e.Outcome, o.sent)
	}
	if e.Gets != 0 || e.Throttled != 0 {
		c := w.counts[file]
		w.counts[file] = count{c.gets + e.Gets, c.throttled + e.Throttled}
	}
	return nil
}

// recordOutcome keeps o for applyRows.
func (w *writer) recordOutcome(file int64, o *ledger.Outcome, sent bool) {
	w.outcomes = append(w.outcomes, outcomeRow{id: outcomeID(file, o.Row), outcome: o, sent: sent})
}

// recordParty keeps p for applyRows.
func (w *writer) recordParty(s ledger.Scope, p *ledger.Party) {
	w.parties = append(w.parties, partyRow{digest: digestOf(s, p.PartyRef), party: p})
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
	party  *ledger.Party
}

// applyRows writes the outcomes and parties of a batch: in the order of their keys, so that neighbours on a page are
// written together, and several with one statement. Rows of one key stay in the order in which they came.
func (w *writer) applyRows() error {
	slices.SortStableFunc(w.outcomes, func(a, b outcomeRow) int { return cmp.Compare(a.id, b.id) })
	err := w.s.addOutcomes.each(len(w.outcomes), func(args []any, i int) []any {
		r := &w.outcomes[i]
		o := r.outcome
		return append(args, r.id, o.Line, o.Reference, flag(r.sent), string(o.Status), o.Code, o.Detail,
			o.BillID, o.CustomerID, o.AccountID, o.Currency, o.Amount, o.Attempts, packKey(o.Key), o.Customers, o.Accounts)
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(w.parties, func(a, b partyRow) int { return bytes.Compare(a.digest[:], b.digest[:]) })
	err = w.s.addParties.each(len(w.parties), func(args []any, i int) []any {
		r := &w.parties[i]
		return append(args, r.digest[:], r.party.ID, r.party.CustomerID)
	})
	clear(w.outcomes)
	clear(w.parties)
	w.outcomes, w.parties = w.outcomes[:0], w.parties[:0]
	return err
}
