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
