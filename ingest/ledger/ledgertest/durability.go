package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"billdrop/ingest/ledger"
)

// testRecord: what is recorded together, and for whom.
func testRecord(t *testing.T, e Engine) {
	l := e.open(t)
	add(t, l, newFile("f"))
	record(t, l, ledger.Entry{}) // nothing
	for range 3 {
		record(t, l, ledger.Entry{File: "f", Gets: 2, Throttled: 1, LinkPosts: 4, LinkRetries: 3})
		record(t, l, ledger.Entry{File: "f", LinkPosts: -1, LinkRetries: -1})
	}
	if f := readFile(t, l, "f"); f.Gets != 6 || f.Throttled != 3 || f.LinkPosts != 9 || f.LinkRetries != 6 {
		t.Errorf("counters %d, %d, %d and %d, want 6, 3, 9 and 6", f.Gets, f.Throttled, f.LinkPosts, f.LinkRetries)
	}
	f := readFile(t, l, "f")
	f.State, f.Gets = ledger.Sending, 0
	record(t, l, ledger.Entry{File: "f", Gets: 1})
	ok(t, "SaveFile", save(t.Context(), l, f))
	if f := readFile(t, l, "f"); f.Gets != 7 || f.State != ledger.Sending {
		t.Errorf("after a save: %d look-ups in state %s, want 7 in %s", f.Gets, f.State, ledger.Sending)
	}

	// An outcome of a file that was not recorded would be in no report: all of the entry
	// is refused at once.
	b := newBill("A", "not recorded", 1)
	err := l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b, File: "not recorded", Outcome: created(b)})
	if !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Record for an unknown file: %v, want ErrNotFound", err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Errorf("Flush after a refused Record: %v", err)
	}
	if got := bill(t, l, "A"); got != nil {
		t.Errorf("bill of a refused Record: %+v", got)
	}
}

// testContext: a caller whose context has ended gets the context's error, and only that.
func testContext(t *testing.T, e Engine) {
	l := e.open(t)
	add(t, l, newFile("f"))
	ended, end := context.WithCancel(t.Context())
	end()
	for name, call := range map[string]func() error{
		"AddFile":  func() error { return l.AddFile(ended, newFile("g")) },
		"SaveFile": func() error { return l.SaveFile(ended, newFile("f")) },
		"File":     func() error { _, err := l.File(ended, "f"); return err },
		"Files":    func() error { _, err := l.Files(ended, ledger.Query{}); return err },
		"Bills":    func() error { _, err := l.Bills(ended, scope, []string{"A"}); return err },
		"Parties": func() error {
			_, err := l.Parties(ended, scope, []ledger.PartyRef{{Kind: ledger.Customer, Reference: "x"}})
			return err
		},
		"Outcomes":  func() error { _, err := l.Outcomes(ended, "f", 1, 1); return err },
		"Attention": func() error { _, err := l.Attention(ended, "f", 1, 1); return err },
		"Totals":    func() error { _, err := l.Totals(ended, "f"); return err },
		"History":   func() error { _, err := l.History(ended, scope, "A"); return err },
		"Begin":     func() error { return l.Begin(ended, scope, newBill("A", "f", 1)) },
		"Record":    func() error { return l.Record(ended, ledger.Entry{File: "f", Gets: 1}) },
		"Flush":     func() error { return l.Flush(ended) },
	} {
		if err := call(); !errors.Is(err, context.Canceled) || errors.Is(err, ledger.ErrUnusable) {
			t.Errorf("%s with an ended context: %v, want context.Canceled alone", name, err)
		}
	}
	begin(t, l, newBill("B", "f", 1)) // the ledger still works
}

// testClose: a closed ledger has written everything, and does nothing more.
func testClose(t *testing.T, e Engine) {
	dir := t.TempDir()
	l := e.Open(t, dir)
	add(t, l, newFile("f"))
	const n = 1200 // more than a batch, so that callers had to wait
	for i := range n {
		record(t, l, ledger.Entry{File: "f", Outcome: &ledger.Outcome{Row: i + 1, Status: ledger.Existing}})
	}
	for range 2 {
		ok(t, "Close", l.Close())
	}
	for name, err := range map[string]error{
		"Begin":    l.Begin(t.Context(), scope, newBill("A", "f", 1)),
		"Record":   l.Record(t.Context(), ledger.Entry{File: "f", Gets: 1}),
		"Flush":    l.Flush(t.Context()),
		"SaveFile": l.SaveFile(t.Context(), newFile("f")),
	} {
		if err == nil {
			t.Errorf("%s of a closed ledger succeeded", name)
		}
	}
	if _, err := l.File(t.Context(), "f"); err == nil {
		t.Error("File of a closed ledger succeeded")
	}

	l = e.Open(t, dir)
	defer l.Close()
	same(t, "outcomes after Close", n, len(outcomes(t, l, "f", 1, n+1)))
}

// testCrash: what was durable is there; of the rest only a tail is gone, and each entry
// is there whole or not at all.
func testCrash(t *testing.T, e Engine) {
	dir := t.TempDir()
	crashed := func(l ledger.Ledger) ledger.Ledger {
		t.Helper()
		e.Crash(t, l)
		return e.Open(t, dir)
	}
	l := e.Open(t, dir)
	add(t, l, newFile("f"))
	f := newFile("f")
	f.State = ledger.Sending
	ok(t, "SaveFile", save(t.Context(), l, f))
	l = crashed(l)
	if got := readFile(t, l, "f"); got.State != ledger.Sending {
		t.Errorf("saved file after a crash: %+v", got)
	}

	b := newBill("begun", "f", 1)
	begin(t, l, b)
	l = crashed(l)
	same(t, "begun bill after a crash", b, bill(t, l, "begun"))

	record(t, l, ledger.Entry{Scope: scope, Bill: answered(b), File: "f", Outcome: created(answered(b))})
	ok(t, "Flush", l.Flush(t.Context()))
	l = crashed(l)
	same(t, "flushed record after a crash", answered(b), bill(t, l, "begun"))

	// A Begin makes the records before it durable too.
	record(t, l, ledger.Entry{File: "f", Outcome: &ledger.Outcome{Row: 2, Status: ledger.Invalid}})
	begin(t, l, newBill("later", "f", 3))
	l = crashed(l)
	same(t, "outcomes recorded before a Begin, after a crash", 2, len(outcomes(t, l, "f", 1, 10)))

	for round := range 2 {
		l = testTail(t, e, l, dir, round)
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// testTail records entries in order, crashes, and looks at what is left of them.
func testTail(t *testing.T, e Engine, l ledger.Ledger, dir string, round int) ledger.Ledger {
	t.Helper()
	file := fmt.Sprint("tail-", round)
	add(t, l, newFile(file))
	n := 1 + rand.IntN(1500)
	flushed := rand.IntN(n) // so many are durable for sure
	for i := range n {
		b := answered(newBill(fmt.Sprintf("%s-%04d", file, i), file, i+1))
		o := created(b)
		o.Customers = 1
		record(t, l, ledger.Entry{Scope: scope, Bill: b, File: file, Outcome: o, Gets: 1, Parties: []ledger.Party{
			{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: b.Reference}, ID: "bcus"}}})
		if i+1 == flushed {
			ok(t, "Flush", l.Flush(t.Context()))
		}
	}
	e.Crash(t, l)
	l = e.Open(t, dir)

	left := outcomes(t, l, file, 1, n+1)
	if len(left) < flushed || len(left) > n {
		t.Errorf("%d outcomes after a crash, %d were recorded and %d flushed", len(left), n, flushed)
	}
	for i, o := range left {
		if o.Row != i+1 {
			t.Fatalf("outcome %d after a crash is row %d: a hole", i+1, o.Row)
		}
	}
	got := readFile(t, l, file)
	sums, err := l.Totals(t.Context(), file)
	ok(t, "Totals", err)
	var refs []string
	for i := range n {
		refs = append(refs, fmt.Sprintf("%s-%04d", file, i))
	}
	bills, err := l.Bills(t.Context(), scope, refs)
	ok(t, "Bills", err)
	if len(bills) != len(left) || sums.Customers != len(left) || got.Gets != len(left) {
		t.Errorf("after a crash: %d outcomes, but %d bills, %d customers, %d look-ups: an entry by halves",
			len(left), len(bills), sums.Customers, got.Gets)
	}
	return l
}

// testConcurrency: everything at once, from many callers, each of which sees its own
// writes.
func testConcurrency(t *testing.T, e Engine) {
	l := e.open(t)
	const senders, rows = 16, 8
	add(t, l, newFile("f"))
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range rows {
				if err := sendRow(t.Context(), l, s*rows+i+1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			_, err := l.Files(t.Context(), ledger.Query{Unfinished: true})
			_, err2 := l.Totals(t.Context(), "f")
			_, err3 := l.Attention(t.Context(), "f", 1, 10)
			f := newFile("f")
			f.State = ledger.Sending
			if err := errors.Join(err, err2, err3, save(t.Context(), l, f), l.Flush(t.Context())); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Wait()
	sums, err := l.Totals(t.Context(), "f")
	ok(t, "Totals", err)
	if sums.Rows[ledger.Created] != senders*rows || sums.Amounts["ZAR"][ledger.Created] != 2000*senders*rows {
		t.Errorf("totals %+v, want %d rows of 2000", sums, senders*rows)
	}
	if f := readFile(t, l, "f"); f.Gets != senders*rows || f.State != ledger.Sending {
		t.Errorf("file %+v, want %d look-ups", f, senders*rows)
	}
}

// sendRow is a row's life, every write of it read back at once.
func sendRow(ctx context.Context, l ledger.Ledger, row int) error {
	b := newBill(fmt.Sprint("R", row), "f", row)
	see := func(want *ledger.Bill) error {
		bills, err := l.Bills(ctx, scope, []string{b.Reference})
		if err != nil {
			return err
		}
		if got := bills[b.Reference]; got == nil || *got != *want {
			return fmt.Errorf("row %d reads %+v, wrote %+v", row, got, want)
		}
		return nil
	}
	if err := l.Begin(ctx, scope, b); err != nil {
		return err
	}
	if err := see(b); err != nil {
		return err
	}
	b = answered(b)
	customer := ledger.PartyRef{Kind: ledger.Customer, Reference: "everybody"}
	err := l.Record(ctx, ledger.Entry{Scope: scope, Bill: b, File: "f", Outcome: created(b), Gets: 1,
		Parties: []ledger.Party{{PartyRef: customer, ID: "bcus_1"}}})
	if err != nil {
		return err
	}
	parties, err := l.Parties(ctx, scope, []ledger.PartyRef{customer})
	if err != nil {
		return err
	}
	if parties[customer].ID != "bcus_1" {
		return fmt.Errorf("row %d does not see the customer that it recorded", row)
	}
	list, err := l.Outcomes(ctx, "f", row, 1)
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0] != *created(b) {
		return fmt.Errorf("row %d reads outcomes %+v, wrote %+v", row, list, created(b))
	}
	return see(b)
}
