package postgres_test

import (
	"errors"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestCollisions: writes that take rows for new ones that another worker, or an earlier end of
// the row, has put there meanwhile do what they would have done knowing of them, and cost no
// other write of their batch.
func TestCollisions(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("careful for a while", func(t *testing.T) { collide(t, server.Database(t), func(*postgres.Ledger) {}) })
	t.Run("careful once", func(t *testing.T) { collide(t, server.Database(t), postgres.Forget) })
}

// collide has two workers collide, which prepare was done to.
func collide(t *testing.T, url string, prepare func(*postgres.Ledger)) {
	mine, theirs := open(t, url), open(t, url)
	for _, l := range []*postgres.Ledger{mine, theirs} {
		defer l.Close()
		prepare(l)
		join(t, l)
	}
	if err := mine.AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope, State: ledger.Sending}); err != nil {
		t.Fatal(err)
	}
	customer := ledger.PartyRef{Kind: ledger.Customer, Reference: "c"}
	if err := theirs.Begin(t.Context(), scope, newBill("theirs", "f", 1), customer); err != nil {
		t.Fatal(err)
	}
	if err := sendRow(t.Context(), theirs, "f", "ended", 4); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	again := &ledger.Outcome{Row: 4, Line: 5, Reference: "ended", Status: ledger.Failed}
	if err := mine.Record(t.Context(), ledger.Entry{Scope: scope, File: "f", Outcome: again}); err != nil {
		t.Fatal(err)
	}
	for _, b := range []struct {
		reference string
		row       int
		leads     []ledger.PartyRef
		want      error
	}{
		{"theirs", 1, nil, ledger.ErrTaken},
		{"of their customer", 2, []ledger.PartyRef{customer}, ledger.ErrTaken},
		{"mine", 3, []ledger.PartyRef{{Kind: ledger.Customer, Reference: "d"}}, nil},
	} {
		if err := mine.Begin(t.Context(), scope, newBill(b.reference, "f", b.row), b.leads...); !errors.Is(err, b.want) {
			t.Errorf("begin %q: %v, want %v", b.reference, err, b.want)
		}
	}
	outcomes, err := mine.Outcomes(t.Context(), "f", 4, 1)
	if err != nil || len(outcomes) != 1 || outcomes[0].Status != ledger.Failed {
		t.Errorf("row 4: %+v, %v; want what was recorded last", outcomes, err)
	}
}
