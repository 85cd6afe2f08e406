package sqlite

import (
	"encoding/binary"
	"testing"

	"billdrop/ingest/ledger"
)

// TestPartyFilter: what was added is never denied, whatever else was added, and what was not is denied mostly. With more than the filters
// take, nothing is denied any more.
func TestPartyFilter(t *testing.T) {
	digest := func(i int) ledger.Digest { return ledger.DigestOf(binary.BigEndian.AppendUint64(nil, uint64(i))) }
	var f partyFilter
	const n = 3*firstFilter + 1000 // the third filter is begun
	for i := range n {
		f.add(digest(i))
	}
	vain := 0
	for i := range n {
		if !f.mayHold(digest(i)) {
			t.Fatalf("digest %d was added and is denied", i)
		}
		if f.mayHold(digest(-1 - i)) {
			vain++
		}
	}
	if len(f.levels) != 3 || vain > n*5/100 {
		t.Errorf("%d filters, %d of %d digests are looked for in vain", len(f.levels), vain, n)
	}
	full := partyFilter{levels: make([]bloom, maxFilters)}
	full.levels[maxFilters-1].held = capacityOf(maxFilters - 1)
	for i := range full.levels {
		full.levels[i].bits = make([]uint64, 1)
	}
	if full.mayHold(digest(1)) {
		t.Error("empty filters hold something")
	}
	if full.add(digest(1)); !full.mayHold(digest(1)) || !full.mayHold(digest(2)) {
		t.Error("a digest for which there is no room is denied")
	}
}
