package engine

import (
	"context"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// Payments opens the store of payments for writing; it lies beside the ledger, and is opened
// without the ledger's lock.
func (l Location) Payments(ctx context.Context) (ledger.Payments, error) {
	if l.Place.Shared() {
		return nil, errNoPayments
	}
	return sqlite.OpenPayments(ctx, l.Place.Path)
}

// ReadPayments opens the store of payments for reading. It fails with ledger.ErrNotFound if
// nothing was ever received.
func (l Location) ReadPayments(ctx context.Context) (ledger.Payments, error) {
	if l.Place.Shared() {
		return nil, ledger.ErrNotFound
	}
	return sqlite.OpenPaymentsReadOnly(ctx, l.Place.Path)
}

var errNoPayments = &ledger.Error{Err: ledger.ErrUnusable, Hint: "payments are not kept in PostgreSQL yet: leave webhooks and payments empty"}
