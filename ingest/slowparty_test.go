package ingest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// Different parties never wait for each other: one whose first bill takes its time, with more than a window of others behind it,
// holds nobody else up.
func TestSlowPartyHoldsNobodyUp(t *testing.T) {
	const slow, others = 2048, 300 // as many as may wait in a file
	var b strings.Builder
	b.WriteString("bill_reference,amount_due,customer_reference\n")
	for i := range slow {
		fmt.Fprintf(&b, "SLOW-%d,100,C-slow\n", i)
	}
	for i := range others {
		fmt.Fprintf(&b, "OTHER-%d,100,C-%d\n", i, i)
	}
	var mu sync.Mutex
	var begun, last time.Time // of the slow party, and of the others
	script := func(c emulator.Call) emulator.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.Reference == "SLOW-0" {
			begun = time.Now()
			return emulator.Fault{Delay: 25 * time.Second}
		}
		if strings.HasPrefix(c.Reference, "OTHER-") {
			last = time.Now()
		}
		return emulator.Fault{}
	}
	bubble(t, b.String(), script, func(t *testing.T, w *world) {
		summaries, err := w.worker(t, alive()).Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := summaries[0].Rows.By[ledger.Created]; n != slow+others {
			t.Errorf("%d rows are created, want %d", n, slow+others)
		}
		if waited := last.Sub(begun); begun.IsZero() || waited > 20*time.Second {
			t.Errorf("the last of the others was sent %v after the first of the slow party", waited)
		}
	})
}
