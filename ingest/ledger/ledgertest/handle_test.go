package ledgertest_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// A handle keeps the promises of every ledger.
func TestHandle(t *testing.T) {
	var stores sync.Map // directory → *ledgertest.Store
	var handles atomic.Int64
	ledgertest.Run(t, ledgertest.Engine{
		Open: func(t *testing.T, dir string) ledger.Ledger {
			s, _ := stores.LoadOrStore(dir, ledgertest.NewStore(0))
			h := s.(*ledgertest.Store).Open(0)
			if err := h.Join(t.Context(), ledger.Member{Name: fmt.Sprint("worker-", handles.Add(1)), LostAfter: 30 * time.Second}); err != nil {
				t.Fatal(err)
			}
			return h
		},
		Crash: func(_ *testing.T, l ledger.Ledger) {
			l.(*ledgertest.Handle).Kill(func(n int) int { return rand.IntN(n + 1) })
		},
	})
}

// A handle keeps the promises of those that several workers use at once.
func TestHandleShared(t *testing.T) {
	ledgertest.RunShared(t, ledgertest.SharedEngine{
		New: func(*testing.T) func(*testing.T, time.Duration) ledger.Shared {
			s := ledgertest.NewStore(-time.Minute)
			return func(_ *testing.T, patience time.Duration) ledger.Shared { return s.Open(patience) }
		},
		LostAfter: 30 * time.Second,
		Virtual:   true,
		Silence:   func(l ledger.Shared) func() { return l.(*ledgertest.Handle).Silence() },
		Cut: func(l ledger.Shared) func() {
			l.(*ledgertest.Handle).Cut()
			return l.(*ledgertest.Handle).Heal
		},
		LoseAnswer: func(l ledger.Shared) {
			var once sync.Once
			l.(*ledgertest.Handle).Network(func(op string) (trouble ledgertest.Trouble) {
				if op != "heartbeat" {
					once.Do(func() { trouble.LoseAnswer = true })
				}
				return trouble
			})
		},
	})
}
