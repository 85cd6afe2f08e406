package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// TestBillsOfOneBatch: new bills, bills that were there before, answers and notes, all in one commit, come out as if each had been
// written by itself; no send is lost and none is there twice.
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
	const n = 3*bulkRows + 5
	// Every third bill is there already, though nothing in the second round of Begins tells: as after a restart.
	for i := 0; i < n; i += 3 {
		if err := l.Begin(t.Context(), s, bill(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	clear(l.writer.recent) // the writer rests
	again := func(i int) *ledger.Bill {
		b := bill(i, 1)
		b.Send.At = at.Add(time.Hour)
		return b
	}
	l.queue.mu.Lock() // all of it in one batch
	for i := range n {
		b := again(i)
		l.queue.add(&begin{scope: s, bill: *b})
		b.Send.Answer = "timeout"
		l.queue.add(newRecord(ledger.Entry{Scope: s, Bill: b}))
		if i%2 == 0 {
			b.State, b.Send.Answer, b.Seen.BillID = ledger.Exists, "201", fmt.Sprint("bill_", i)
			l.queue.add(newRecord(ledger.Entry{Scope: s, Bill: b}))
		}
	}
	l.queue.mu.Unlock()
	if err := l.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		want := again(i)
		want.Send.Answer = "timeout"
		if i%2 == 0 {
			want.State, want.Send.Answer, want.Seen.BillID = ledger.Exists, "201", fmt.Sprint("bill_", i)
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

// TestBegunTwiceInOneBatch: begun, refused for good and begun for another file, all in one commit: both sends are there.
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
	l.queue.mu.Lock()
	l.queue.add(&begin{scope: s, bill: b})
	l.queue.add(newRecord(ledger.Entry{Scope: s, Bill: &done}))
	l.queue.add(&begin{scope: s, bill: again})
	l.queue.mu.Unlock()
	if err := l.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	h, err := l.History(t.Context(), s, "R")
	if err != nil || h.Bill.Send.File != "g" || len(h.Attempts) != 2 || h.Attempts[0].Answer != "400" {
		t.Errorf("%v, bill %+v, attempts %+v", err, h.Bill, h.Attempts)
	}
}
