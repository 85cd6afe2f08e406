package ingest

import (
	"testing"
	"testing/synctest"

	"billdrop/ingest/ledger"
)

// TestChangedMindOnInvalid: a feed refuses files with invalid rows, the process dies while it gives the rows their outcome, and
// then the feed is to send the others: none of them is left out.
func TestChangedMindOnInvalid(t *testing.T) {
	cut := 0
	for seed := uint64(1); seed <= 400; seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, simConfig{Seed: seed})
			p := &process{dice: dice{seed}, deadly: 40, steps: make(map[string]int)}
			strict := w.worker(t, p)
			strict.Feeds[0].RejectInvalid = true
			_, err := strict.Poll(t.Context())
			if !p.dead {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			w.ledger.Crash(func(n int) int { return int(w.roll("tail") % uint64(n+1)) })
			files, err := w.ledger.Files(t.Context(), ledger.Query{})
			if err != nil {
				t.Fatal(err)
			}
			halfWay := ""
			for _, f := range files {
				if totals, err := w.ledger.Totals(t.Context(), f.ID); err != nil {
					t.Fatal(err)
				} else if f.State == ledger.Spooled && f.Name == "a.csv" && totals.Rows[ledger.NotSent] > 0 {
					halfWay = f.ID
				}
			}
			if halfWay == "" {
				return
			}
			cut++
			if err := w.run(t); err != nil {
				t.Fatal(err)
			}
			for ref, status := range statusOf(t, w, "a.csv", simBills) {
				if status == "not_sent" {
					t.Errorf("seed %d: %s was not sent", seed, ref)
				}
			}
		})
	}
	if cut == 0 {
		t.Error("no file was cut off half-way")
	}
}
