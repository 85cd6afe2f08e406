package sqlite

import "billdrop/ingest/ledger"

// record is Ledger.Record. It holds copies, because the caller goes on with its own.
type record struct {
	entry   ledger.Entry // Bill and Outcome are those below; Parties is empty
	bill    ledger.Bill
	outcome ledger.Outcome
	parties []party
}

func newRecord(e ledger.Entry) *record {
	r := &record{entry: e, parties: make([]party, len(e.Parties))}
	if e.Bill != nil {
		r.bill = *e.Bill
		r.entry.Bill = &r.bill
	}
	if e.Outcome != nil {
		r.outcome = *e.Outcome
		r.entry.Outcome = &r.outcome
	}
	for i, p := range e.Parties {
		r.parties[i] = party{digestOf(e.Scope, p.PartyRef), p}
	}
	r.entry.Parties = nil
	return r
}

func (r *record) apply(w *writer) error {
	e := &r.entry
	if e.Bill != nil {
		if err := w.putBill(e.Scope, e.Bill); err != nil {
			return err
		}
	}
	if err := w.putParties(e.Scope, r.parties); err != nil {
		return err
	}
	if e.Outcome == nil && e.Gets == 0 && e.Throttled == 0 {
		return nil
	}
	file, err := w.number(e.File)
	if err != nil {
		return err
	}
	if e.Outcome != nil {
		w.putOutcome(file, e.Outcome, ledger.SumOutcome(e.File, e.Outcome))
	}
	if e.Gets == 0 && e.Throttled == 0 {
		return nil
	}
	return w.s.countFile.exec(e.Gets, e.Throttled, file)
}
