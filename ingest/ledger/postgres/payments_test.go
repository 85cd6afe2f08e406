package postgres_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
)

func TestPayments(t *testing.T) {
	server := pgtest.Start(t)
	var urls sync.Map // directory → URL of its database
	var making sync.Mutex
	ledgertest.RunPayments(t, func(t *testing.T, dir string) ledger.Payments {
		t.Helper()
		making.Lock()
		url, ok := urls.Load(dir)
		if !ok {
			url = server.Database(t)
			urls.Store(dir, url)
		}
		making.Unlock()
		if _, err := postgres.OpenPayments(t.Context(), url.(string), postgres.Options{ReadOnly: true, Patience: time.Minute}); !ok && !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("there are none yet: %v", err)
		}
		p, err := postgres.OpenPayments(t.Context(), url.(string), postgres.Options{Patience: time.Minute})
		if err != nil {
			t.Error(err)
			return nil
		}
		return p
	})
}
