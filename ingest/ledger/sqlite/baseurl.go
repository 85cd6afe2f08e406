package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"billdrop/ingest/ledger"
)

// BaseURL implements ledger.Ledger.
func (l *Ledger) BaseURL(ctx context.Context, s ledger.Scope) (url string, err error) {
	err = l.readTx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT base_url FROM scopes WHERE merchant = ? AND mode = ?", s.Merchant, s.Mode).Scan(&url)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return "", readError(ctx, "read the API's address", err)
	}
	return url, nil
}

// SetBaseURL implements ledger.Ledger.
func (l *Ledger) SetBaseURL(ctx context.Context, s ledger.Scope, url string) error {
	if err := l.doNow(ctx, &setBaseURL{s, url}); err != nil {
		return fmt.Errorf("record the API's address: %w", err)
	}
	return nil
}

type setBaseURL struct {
	scope ledger.Scope
	url   string
}

func (o *setBaseURL) apply(w *writer) error {
	scope, err := w.scope(o.scope)
	if err != nil {
		return err
	}
	return w.s.setBaseURL.exec(o.url, scope)
}
