package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"billdrop/ingest"
	"billdrop/ingest/crew"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
)

// ErrSetup: a database cannot be used as it is configured, and waiting does not mend it: a wrong
// password, no such database, no right, a server or ledger of another version.
var ErrSetup = errors.New("the ledger cannot be used")

// openDatabase opens a ledger in PostgreSQL.
func (l Location) openDatabase(ctx context.Context, readOnly bool) (*postgres.Ledger, error) {
	led, err := postgres.Open(ctx, l.Place.URL(), l.options(readOnly))
	return led, setupError(ctx, err)
}

// Server asks the server of a database what it is. It changes nothing, and there need be no ledger.
func (l Location) Server(ctx context.Context) (postgres.Server, error) {
	l.Patience = ReadPatience
	s, err := postgres.AskServer(ctx, l.Place.URL(), l.options(true))
	return s, setupError(ctx, err)
}

func (l Location) options(readOnly bool) postgres.Options {
	return postgres.Options{Password: l.Password, Patience: l.Patience, Warn: l.warn, ReadOnly: readOnly}
}

// setupError marks an error of opening that waiting does not mend as ErrSetup.
func setupError(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, ledger.ErrUnusable) && !errors.Is(err, ledger.ErrUnreachable) {
		return fmt.Errorf("%w: %w", ErrSetup, err)
	}
	return err
}

// warn says why the database is waited for.
func (l Location) warn(reason string) {
	if l.Log != nil {
		l.Log.Warn("waiting for the ledger", "ledger", l.Place.String(), "reason", reason)
	}
}

// Dispatcher returns what hands out work among the workers of a shared ledger; nil if led is one
// machine's.
func Dispatcher(led ledger.Ledger, log *slog.Logger) ingest.Dispatcher {
	if database, ok := led.(*postgres.Ledger); ok {
		return crew.New(database.Pool(), log)
	}
	return nil
}
