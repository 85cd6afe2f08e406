package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
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

// TestCrossing: two workers of which each brings what the other one would lead, in one batch, do
// not lock each other out.
func TestCrossing(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("careful for a while", func(t *testing.T) { cross(t, server.Database(t), func(*postgres.Ledger) {}, "second") })
	t.Run("careful once", func(t *testing.T) { cross(t, server.Database(t), postgres.Forget, "second") })
	t.Run("same bills", func(t *testing.T) { cross(t, server.Database(t), postgres.Forget, "first") })
	if n := strings.Count(server.Log(), "deadlock detected"); n > 0 {
		t.Errorf("the server ended %d deadlocks", n)
	}
}

// cross has two workers cross in many rounds, which prepare was done to. If second is "first", they
// begin the bills again that they record, so that the batch does the one before the other.
func cross(t *testing.T, url string, prepare func(*postgres.Ledger), second string) {
	workers := []*postgres.Ledger{open(t, url), open(t, url)}
	for _, l := range workers {
		defer l.Close()
		prepare(l)
		join(t, l)
	}
	if err := workers[0].AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope, State: ledger.Sending}); err != nil {
		t.Fatal(err)
	}
	const rounds, parties = 50, 20
	row := 0
	for round := range rounds {
		var led [2][]ledger.PartyRef
		var brought, begun [2][]*ledger.Bill
		for w := range workers {
			for i := range parties {
				led[w] = append(led[w], ledger.PartyRef{Kind: ledger.Customer, Reference: fmt.Sprint(round, w, i)})
				brought[w] = append(brought[w], newBill(fmt.Sprint("first ", row), "f", row))
				begun[w] = append(begun[w], newBill(fmt.Sprint(second, " ", row), "f", row+1))
				row += 2
			}
		}
		// begin has a worker begin bills, of which each leads one of refs.
		begin := func(w int, bills []*ledger.Bill, refs []ledger.PartyRef, want error) {
			var wg sync.WaitGroup
			for i := range bills {
				wg.Go(func() {
					if err := workers[w].Begin(t.Context(), scope, bills[i], refs[i]); !errors.Is(err, want) {
						t.Errorf("round %d: begin %s: %v, want %v", round, bills[i].Reference, err, want)
					}
				})
			}
			wg.Wait()
		}
		var ready, done sync.WaitGroup
		ready.Add(len(workers))
		for w, l := range workers {
			done.Go(func() {
				begin(w, brought[w], led[w], nil)
				ready.Done()
				ready.Wait()
				for i, b := range brought[w] {
					b.State, b.Send.Answer, b.Observed = ledger.Exists, "201", ledger.Observed{BillID: "bill_" + b.Reference, CustomerID: "bcus_" + b.Reference}
					e := ledger.Entry{Scope: scope, Bill: b, File: "f", Parties: []ledger.Party{{PartyRef: led[w][i], ID: b.Observed.CustomerID}},
						Outcome: &ledger.Outcome{Row: b.Send.Row, Reference: b.Reference, Status: ledger.Created, BillID: b.Observed.BillID}}
					if err := l.Record(t.Context(), e); err != nil {
						t.Errorf("round %d: record %s: %v", round, b.Reference, err)
					}
				}
				begin(w, begun[w], led[1-w], ledger.ErrTaken)
			})
		}
		done.Wait()
	}
	for _, l := range workers {
		if err := l.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
