package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"billdrop/ingest/ledger"
)

// TestPartyIndex: a party is found wherever it stands: not in the index yet, on its way into it, in it, told otherwise since; after
// a crash and after a clean end as well.
func TestPartyIndex(t *testing.T) {
	const lag, batch, batches = 40, 30, 40 // an update begins in nearly every second commit, and takes one
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := ledger.Scope{Merchant: "acme", Mode: "test"}
	want := map[ledger.PartyRef]ledger.Party{}
	open := func() *Ledger {
		t.Helper()
		l, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		l.writer.maxLag = lag
		return l
	}
	check := func(when string, l *Ledger) {
		t.Helper()
		refs := []ledger.PartyRef{{Kind: ledger.Account, Reference: "nobody"}}
		for ref := range want {
			refs = append(refs, ref)
		}
		got, err := l.Parties(t.Context(), s, refs)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d parties, want %d", when, len(got), len(want))
		}
		for ref, p := range want {
			if got[ref] != p {
				t.Fatalf("%s: party %v reads %+v, want %+v", when, ref, got[ref], p)
			}
		}
	}
	l := open()
	sawMerge := false
	for b := range batches {
		e := ledger.Entry{Scope: s}
		for i := range batch {
			n := b*batch/2 + i // the second half of a batch is told otherwise by the next one
			p := ledger.Party{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: fmt.Sprint("c", n)}, ID: fmt.Sprintf("bcus_%d_%d", n, b)}
			e.Parties, want[p.PartyRef] = append(e.Parties, p), p
		}
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("after batch %d", b), l)
		sawMerge = sawMerge || l.indexed(t) > 0
		reader, err := OpenReadOnly(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("beside batch %d", b), reader)
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
		switch b % 8 {
		case 3:
			if err := Crash(l); err != nil {
				t.Fatal(err)
			}
			l = open()
			check(fmt.Sprintf("after a crash behind batch %d", b), l)
		case 7:
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open()
			check(fmt.Sprintf("after a clean end behind batch %d", b), l)
		}
	}
	if !sawMerge {
		t.Error("the index was never written, so nothing was tested")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPartyIndexRests: a ledger that is closed leaves the next start little to read.
func TestPartyIndexRests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	e := ledger.Entry{Scope: ledger.Scope{Merchant: "acme", Mode: "test"}}
	for i := range 2 * restLag {
		e.Parties = append(e.Parties, ledger.Party{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: fmt.Sprint(i)}, ID: "bcus"})
	}
	if err := l.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n := len(l.lag.fresh); n > restLag {
		t.Errorf("%d parties are not in the index after a clean end, want %d at most", n, restLag)
	}
	known, err := l.Parties(t.Context(), e.Scope, []ledger.PartyRef{e.Parties[0].PartyRef, e.Parties[len(e.Parties)-1].PartyRef})
	if err != nil || len(known) != 2 {
		t.Errorf("parties %v, %v", known, err)
	}
}

func (l *Ledger) indexed(t *testing.T) (upto int) {
	t.Helper()
	if err := l.read.QueryRowContext(t.Context(), "SELECT upto FROM party_indexed").Scan(&upto); err != nil {
		t.Fatal(err)
	}
	return upto
}
