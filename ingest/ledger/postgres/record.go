package postgres

import (
	"context"

	"billdrop/ingest/ledger"
)

// record is Ledger.Record. It holds copies, because the caller goes on with its own.
type record struct {
	put                  // of entry.Bill
	entry   ledger.Entry // Bill and Outcome are those below; Parties is empty
	outcome ledger.Outcome
	parties []party
	number  int64 // of entry.File
}

func (l *Ledger) newRecord(ctx context.Context, me *identity, e ledger.Entry) (*record, error) {
	r := &record{entry: e, parties: make([]party, 0, len(e.Parties))}
	r.entry.Parties = nil
	var err error
	if e.Bill != nil {
		r.put = put{bill: *e.Bill, ref: e.Scope, replaced: e.Bill.Revision, revision: me.stamp()}
		r.entry.Bill = &r.bill
		if err := l.numbered(ctx, &r.put); err != nil {
			return nil, err
		}
	}
	if e.File != "" {
		if r.number, err = l.number(ctx, e.File); err != nil {
			return nil, err
		}
	}
	if len(e.Parties) > 0 {
		if r.scope, err = l.scope(ctx, e.Scope); err != nil {
			return nil, err
		}
	}
	for _, p := range e.Parties {
		digest := digestOf(e.Scope, p.PartyRef)
		r.addParty(party{digest: digest, scope: r.scope, kind: p.Kind, id: p.ID, customerID: p.CustomerID, since: p.Since, led: l.leads.has(digest)})
	}
	if e.Outcome != nil {
		r.outcome = *e.Outcome
		r.entry.Outcome = &r.outcome
		// Parties that the row led and did not bring are anyone's again.
		for _, d := range l.leads.end(rowKey{r.number, e.Outcome.Row}) {
			r.addParty(party{digest: d, scope: r.scope})
		}
	}
	return r, nil
}

// addParty adds p, unless the entry says more of that party.
func (r *record) addParty(p party) {
	for i := range r.parties {
		if known := &r.parties[i]; known.digest == p.digest {
			if p.id != "" && !known.merge(&p) {
				*known = p
			}
			return
		}
	}
	r.parties = append(r.parties, p)
}

func (r *record) apply(t *tx) error { return t.addRecord(r) }
