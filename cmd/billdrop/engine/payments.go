package engine

import (
	"context"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/sqlite"
)

// Payments opens the store of payments for writing. Beside a ledger in a file it is another file,
// opened without the ledger's lock; of a database it is a part.
func (l Location) Payments(ctx context.Context) (ledger.PaymentStore, error) {
	if l.Place.Shared() {
		return l.databasePayments(ctx, false)
	}
	if err := l.checkDirectory(); err != nil {
		return nil, err
	}
	return paymentsOrNil(sqlite.OpenPayments(ctx, l.Place.Path))
}

// ReadPayments opens the store of payments for reading. It fails with ledger.ErrNotFound if
// there is none.
func (l Location) ReadPayments(ctx context.Context) (ledger.PaymentStore, error) {
	if l.Place.Shared() {
		l.Patience = ReadPatience
		return l.databasePayments(ctx, true)
	}
	return paymentsOrNil(sqlite.OpenPaymentsReadOnly(ctx, l.Place.Path))
}

func (l Location) databasePayments(ctx context.Context, readOnly bool) (ledger.PaymentStore, error) {
	p, err := postgres.OpenPayments(ctx, l.Place.URL(), l.options(readOnly))
	return paymentsOrNil(p, setupError(ctx, err))
}

// paymentsOrNil keeps a nil pointer out of the interface.
func paymentsOrNil[P ledger.PaymentStore](p P, err error) (ledger.PaymentStore, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}
