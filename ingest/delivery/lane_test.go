package delivery

import (
	"testing"
	"testing/synctest"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// TestWidth: a 429 halves the lane, and with the last file it is as wide as ever.
func TestWidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lane := NewLane(ledger.Scope{}, nil, testPolicy())
		if got := lane.Width(); got != 8 {
			t.Errorf("at rest: %d, want 8", got)
		}
		g := lane.join(nil)
		crowd(t, g, 1, func(int) client.Answer { return client.Answer{Kind: client.Throttled, Status: 429} })
		if got := lane.Width(); got != 4 {
			t.Errorf("after a 429: %d, want 4", got)
		}
		lane.leave()
		if got := lane.Width(); got != 8 {
			t.Errorf("at rest again: %d, want 8", got)
		}
	})
}
