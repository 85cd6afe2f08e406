package sqlite

import (
	"context"
	"errors"
	"fmt"

	"billdrop/ingest/ledger"
)

// Prune implements ledger.Ledger.
func (l *Ledger) Prune(ctx context.Context, id string) (int, error) {
	o := &prune{file: id}
	if err := errors.Join(l.doNow(ctx, o), o.refused); err != nil {
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

func (o *prune) apply(w *writer) error {
	number, known, err := w.s.hasFile.one(o.file)
	if err != nil {
		return err
	}
	if !known {
		o.refused = ledger.ErrNotFound
		return nil
	}
	if n, err := w.s.dropFile.changed(number); err != nil {
		return err
	} else if n == 0 {
		o.refused = ledger.ErrUnfinished
		return nil
	}
	if err := w.flush(); err != nil { // what came before o
		return err
	}
	if o.rows, err = w.s.dropOutcomes.changed(number); err != nil {
		return err
	}
	if err := w.s.countAttempts.exec(number); err != nil {
		return err
	}
	return w.s.dropAttempts.exec(number)
}

// Forget implements ledger.Ledger. It reads all bills, which are not indexed by customer
// because nothing else asks for that.
func (l *Ledger) Forget(ctx context.Context, s ledger.Scope, customer string) (int, error) {
	o := &forget{customer: digestOf(s, ledger.PartyRef{Kind: ledger.Customer, Reference: customer})}
	err := l.doNow(ctx, o)
	if err == nil && o.parties == 0 {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("forget a customer: %w", err)
	}
	return o.parties, nil
}

type forget struct {
	customer ledger.Digest
	parties  int
}

func (o *forget) apply(w *writer) (err error) {
	if err := w.flush(); err != nil { // what came before o
		return err
	}
	o.parties, err = w.s.forget.changed(o.customer[:])
	return err
}
