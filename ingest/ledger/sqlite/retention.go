package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"

	"billdrop/ingest/ledger"
)

// Prune implements ledger.Ledger.
func (l *Ledger) Prune(ctx context.Context, id string) (int, error) {
	if err := l.settle(ctx); err != nil { // what was recorded last is written at the end of its batch
		return 0, fmt.Errorf("prune file %s: %w", id, err)
	}
	o := &prune{file: id}
	if err := errors.Join(l.submit(ctx, o, atOnce), o.refused); err != nil {
		return 0, fmt.Errorf("prune file %s: %w", id, err)
	}
	l.known.Delete(id)
	return o.rows, nil
}

type prune struct {
	file    string
	rows    int
	refused error // ErrNotFound or ErrUnfinished
}

func (o *prune) touch(touched) {}

func (o *prune) apply(w *writer) error {
	number, known, err := w.s.hasFile.one(o.file)
	if err != nil {
		return err
	}
	if !known {
		o.refused = ledger.ErrNotFound
		return nil
	}
	if gone, err := w.s.dropFile.changed(number); err != nil {
		return err
	} else if !gone {
		o.refused = ledger.ErrUnfinished
		return nil
	}
	r, err := w.s.dropOutcomes.exec(number)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err != nil {
		return err
	}
	o.rows = int(n)
	_, err = w.s.dropAttempts.exec(number)
	return err // file_numbers stays: latest sends refer to it
}

// Forget implements ledger.Ledger. It reads all bills: they are not indexed by customer, for nothing else asks for that.
func (l *Ledger) Forget(ctx context.Context, s ledger.Scope, customer string) (int, error) {
	ref := ledger.PartyRef{Kind: ledger.Customer, Reference: customer}
	if err := l.settle(ctx); err != nil { // as in Prune
		return 0, fmt.Errorf("forget a customer: %w", err)
	}
	known, err := l.Parties(ctx, s, []ledger.PartyRef{ref})
	if err != nil {
		return 0, fmt.Errorf("forget a customer: %w", err)
	}
	if _, ok := known[ref]; !ok {
		return 0, fmt.Errorf("forget a customer: %w", ledger.ErrNotFound)
	}
	o := &forget{scope: s, customer: digestOf(s, ref), id: known[ref].ID}
	if err := l.submit(ctx, o, atOnce); err != nil {
		return 0, fmt.Errorf("forget a customer: %w", err)
	}
	return o.parties, nil
}

type forget struct {
	scope    ledger.Scope
	customer ledger.Digest
	id       string // bcus_…
	parties  int
}

func (o *forget) touch(t touched) { t.add(partyTouch(o.customer)) }

func (o *forget) apply(w *writer) error {
	scope, err := w.scope(o.scope)
	if err != nil {
		return err
	}
	ids := map[string]bool{o.id: true}
	err = w.s.eachBill.each([]any{scope}, func(row []driver.Value) error {
		b, _, err := unpackBill(row[0].([]byte))
		if err == nil && b.Seen.CustomerID == o.id && b.Seen.AccountID != "" {
			ids[b.Seen.AccountID] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	digests := map[ledger.Digest]bool{o.customer: true}
	// What was told otherwise once stands there twice, so a party goes by its digest.
	err = w.eachParty(func(_ int64, d ledger.Digest, id string) { digests[d] = digests[d] || ids[id] })
	if err != nil {
		return err
	}
	maps.DeleteFunc(digests, func(_ ledger.Digest, goes bool) bool { return !goes })
	var rows []int64
	err = w.eachParty(func(row int64, d ledger.Digest, _ string) {
		if digests[d] {
			rows = append(rows, row)
		}
	})
	if err != nil {
		return err
	}
	o.parties = len(digests)
	return w.dropParties(rows, digests)
}

func (w *writer) eachParty(do func(row int64, d ledger.Digest, id string)) error {
	return w.s.eachParty.each(nil, func(row []driver.Value) error {
		digest := row[1].([]byte)
		if len(digest) != len(ledger.Digest{}) {
			return errRecord
		}
		do(row[0].(int64), ledger.Digest(digest), row[2].(string))
		return nil
	})
}

// dropParties removes parties from wherever they stand.
func (w *writer) dropParties(rows []int64, digests map[ledger.Digest]bool) error {
	for d := range digests {
		w.lag.forget(d)
	}
	for _, row := range rows {
		if _, err := w.s.dropParty.exec(row); err != nil {
			return err
		}
	}
	for d := range digests {
		if _, err := w.s.dropIndexed.exec(hashOf(d)); err != nil {
			return err
		}
	}
	return nil
}
