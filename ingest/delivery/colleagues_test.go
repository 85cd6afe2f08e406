package delivery

import (
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

// Which parties a file brought does not depend on clocks where workers share a ledger: they
// may differ by minutes. Engines keep microseconds.
func TestKnownBefore(t *testing.T) {
	led := ledgertest.NewStore(0).Open(0)
	began := time.Now()
	of := func(id string, started time.Time) *fanout {
		return &fanout{member: member{shared: led}, file: &ledger.File{ID: id, Started: started}}
	}
	f := of("20261126-053000-00000001", began)
	stored := of("20261126-053000-00000001", began.Truncate(time.Microsecond))
	for _, c := range []struct {
		by   *fanout
		want bool
	}{
		{f, false},
		{stored, false},
		{of("20261126-053000-00000002", began), true},
		{of("20261126-052900-00000003", began.Add(-time.Minute)), true},
		{of("20261126-053200-00000004", began.Add(2*time.Minute)), true}, // by a clock that is ahead
	} {
		p := ledger.Party{ID: "bcus_1", Since: c.by.since()}
		if f.knownBefore(p) != c.want || stored.knownBefore(p) != c.want {
			t.Errorf("a party of %s, begun %s: known before is %v, want %v", c.by.file.ID, c.by.file.Started, !c.want, c.want)
		}
	}
}
