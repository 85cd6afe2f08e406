package sqlite

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"billdrop/ingest/ledger"
)

// party is a party on its way into the table.
type party struct {
	digest ledger.Digest
	ledger.Party
}

// partyColumns are in the order of putParties.
var partyColumns = []string{"digest", "scope", "kind", "id", "customer_id", "since"}

func (w *writer) putParties(s ledger.Scope, parties []party) error {
	if len(parties) == 0 {
		return nil
	}
	scope, err := w.scope(s)
	if err != nil {
		return err
	}
	for i := range parties {
		p := &parties[i]
		w.s.putParty.add(p.digest[:], scope, int64(p.Kind), p.ID, p.CustomerID, micros(p.Since))
	}
	return nil
}

// Parties implements ledger.Ledger.
func (l *Ledger) Parties(ctx context.Context, s ledger.Scope, refs []ledger.PartyRef) (map[ledger.PartyRef]ledger.Party, error) {
	asked := make(map[ledger.Digest]ledger.PartyRef, len(refs))
	digests := make([]string, 0, len(refs))
	for _, ref := range refs {
		d := ref.Digest(s)
		asked[d] = ref
		digests = append(digests, hex.EncodeToString(d[:]))
	}
	err := l.settle(ctx, func(o op) bool {
		r, ok := o.(*record)
		if !ok {
			return false
		}
		for i := range r.parties {
			if _, ok := asked[r.parties[i].digest]; ok {
				return true
			}
		}
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("read parties: %w", err)
	}
	list, err := json.Marshal(digests)
	if err != nil {
		return nil, fmt.Errorf("read parties: %w", err)
	}
	parties := make(map[ledger.PartyRef]ledger.Party)
	rows, err := l.parties.QueryContext(ctx, string(list))
	if err == nil {
		err = scanAll(rows, func(r *row) error {
			ref := asked[r.digest()]
			parties[ref] = ledger.Party{PartyRef: ref, ID: r.text(), CustomerID: r.text(), Since: r.time()}
			return nil
		})
	}
	if err != nil {
		return nil, readError(ctx, "read parties", err)
	}
	return parties, nil
}

const partiesByDigest = `SELECT digest, id, customer_id, since FROM parties WHERE digest IN (SELECT unhex(value) FROM json_each(?))`
