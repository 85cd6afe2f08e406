package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// TestBillsOfOneBatch: new bills, bills that were there before, answers and notes, all in
// one commit, come out as if each had been written by itself; no send is lost and none is
// there twice.
func TestBillsOfOneBatch(t *testing.T) {
	l, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := ledger.Scope{Merchant: "acme", Mode: "test"}
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Scope: s}); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMicro(1_800_000_000_000_000).UTC()
	bill := func(i, sends int) *ledger.Bill {
		ref := fmt.Sprintf("R-%02d", i)
		return &ledger.Bill{Reference: ref, Send: ledger.Send{File: "f", Row: i, Generation: 1, Count: sends, Key: ref, At: at.Add(time.Duration(sends) * time.Second)}}
	}
	const n = 53
	// Every third bill is there already, though nothing in the second round of Begins
	// says so: as after a restart.
	for i := 0; i < n; i += 3 {
		if err := l.Begin(t.Context(), s, bill(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	again := func(i int) *ledger.Bill {
		b := bill(i, 1)
		b.Send.At = at.Add(time.Hour)
		return b
	}
	var ops []op // one batch
	for i := range n {
		b := again(i)
		ops = append(ops, &begin{scope: s, bill: *b})
		b.Send.Answer = "timeout"
		ops = append(ops, newRecord(ledger.Entry{Scope: s, Bill: b}))
		if i%2 == 0 {
			b.State, b.Send.Answer, b.Observed.BillID = ledger.Exists, "201", fmt.Sprint("bill_", i)
			ops = append(ops, newRecord(ledger.Entry{Scope: s, Bill: b}))
		}
	}
	if err := l.writer.commit(ops); err != nil { // the writer rests: nothing is queued
		t.Fatal(err)
	}
	for i := range n {
		want := again(i)
		want.Send.Answer = "timeout"
		if i%2 == 0 {
			want.State, want.Send.Answer, want.Observed.BillID = ledger.Exists, "201", fmt.Sprint("bill_", i)
		}
		h, err := l.History(t.Context(), s, want.Reference)
		if err != nil {
			t.Fatal(err)
		}
		attempts := 1
		if i%3 == 0 {
			attempts = 2
		}
		if *h.Bill != *want || len(h.Attempts) != attempts {
			t.Errorf("bill %d: %+v with %d attempts, want %+v with %d", i, h.Bill, len(h.Attempts), want, attempts)
		}
	}
}

// TestBegunTwiceInOneBatch: begun, refused for good and begun for another file, all in
// one commit: both sends are there.
func TestBegunTwiceInOneBatch(t *testing.T) {
	l, err := Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := ledger.Scope{Merchant: "acme", Mode: "test"}
	b := ledger.Bill{Reference: "R", Send: ledger.Send{File: "f", Row: 1, Generation: 1, Count: 1, Key: "k", At: time.Unix(1000, 0)}}
	done := b
	done.State, done.Send.Answer = ledger.Gone, "400"
	again := ledger.Bill{Reference: "R", Send: ledger.Send{File: "g", Row: 2, Generation: 1, Count: 1, Key: "k", At: time.Unix(2000, 0)}}
	ops := []op{&begin{scope: s, bill: b}, newRecord(ledger.Entry{Scope: s, Bill: &done}), &begin{scope: s, bill: again}}
	if err := l.writer.commit(ops); err != nil { // the writer rests: nothing is queued
		t.Fatal(err)
	}
	h, err := l.History(t.Context(), s, "R")
	if err != nil || h.Bill.Send.File != "g" || len(h.Attempts) != 2 || h.Attempts[0].Answer != "400" {
		t.Errorf("%v, bill %+v, attempts %+v", err, h.Bill, h.Attempts)
	}
}
