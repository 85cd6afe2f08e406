package ledgertest_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// The ledger that simulations use keeps the promises of the real ones.
func TestMemory(t *testing.T) {
	var ledgers sync.Map // directory → *ledgertest.Memory: what a disk would keep
	ledgertest.Run(t, ledgertest.Engine{
		Open: func(_ *testing.T, dir string) ledger.Ledger {
			l, known := ledgers.LoadOrStore(dir, ledgertest.NewMemory())
			if known {
				l.(*ledgertest.Memory).Crash(func(int) int { return 0 })
			}
			return l.(ledger.Ledger)
		},
		Crash: func(_ *testing.T, l ledger.Ledger) {
			l.(*ledgertest.Memory).Crash(func(n int) int { return rand.IntN(n + 1) })
		},
	})
}
