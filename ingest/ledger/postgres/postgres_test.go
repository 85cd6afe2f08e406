package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
)

var scope = ledger.Scope{Merchant: "acme", Mode: "test"}

var workers atomic.Int64

// open opens the ledger at url; the caller closes it.
func open(t testing.TB, url string) *postgres.Ledger {
	t.Helper()
	l, err := postgres.Open(t.Context(), url, postgres.Options{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// join makes l a worker with a new name.
func join(t testing.TB, l *postgres.Ledger) *postgres.Ledger {
	t.Helper()
	if err := l.Join(t.Context(), ledger.Member{Name: fmt.Sprint("worker-", workers.Add(1)), Role: "run", LostAfter: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestConformance(t *testing.T) {
	server := pgtest.Start(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var urls sync.Map // directory → URL of its database
	ledgertest.Run(t, ledgertest.Engine{
		Open: func(t *testing.T, dir string) ledger.Ledger {
			t.Helper()
			url, ok := urls.Load(dir)
			if !ok {
				url = server.Database(t)
				urls.Store(dir, url)
			}
			return join(t, open(t, url.(string)))
		},
		Crash: func(t *testing.T, l ledger.Ledger) {
			t.Helper()
			postgres.Crash(l.(*postgres.Ledger))
		},
	})
}

func TestSharedConformance(t *testing.T) {
	server := pgtest.Start(t)
	var relays sync.Map // handle → relay
	relayOf := func(l ledger.Shared) *relay {
		r, ok := relays.Load(l)
		if !ok {
			t.Fatal("a handle without a relay")
		}
		return r.(*relay)
	}
	ledgertest.RunShared(t, ledgertest.SharedEngine{
		LostAfter: 4 * time.Second,
		New: func(t *testing.T) func(*testing.T, time.Duration) ledger.Shared {
			database := server.Database(t)
			return func(t *testing.T, patience time.Duration) ledger.Shared {
				t.Helper()
				r, url := newRelay(t, database)
				l, err := postgres.Open(t.Context(), url, postgres.Options{Patience: patience})
				if err != nil {
					t.Fatal(err)
				}
				relays.Store(ledger.Shared(l), r)
				return l
			}
		},
		Silence: func(l ledger.Shared) func() {
			r := relayOf(l)
			r.set(func() { r.silent = true })
			return func() { r.set(func() { r.silent = false }) }
		},
		Cut: func(l ledger.Shared) func() {
			r := relayOf(l)
			r.set(func() { r.cut = true })
			return func() { r.set(func() { r.cut = false }) }
		},
		LoseAnswer: func(l ledger.Shared) {
			r := relayOf(l)
			r.set(func() { r.lose = true })
		},
	})
}
