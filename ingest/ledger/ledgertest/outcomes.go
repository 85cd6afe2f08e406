package ledgertest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

func outcomes(t *testing.T, l ledger.Ledger, file string, from, limit int) []ledger.Outcome {
	t.Helper()
	list, err := l.Outcomes(t.Context(), file, from, limit)
	if err != nil {
		t.Fatalf("Outcomes(%s, %d, %d): %v", file, from, limit, err)
	}
	return list
}

func testOutcomes(t *testing.T, e Engine) {
	l := e.open(t)
	add(t, l, newFile("f"))
	add(t, l, newFile("g"))
	if list := outcomes(t, l, "f", 1, 10); len(list) != 0 {
		t.Errorf("outcomes of a new file: %v", list)
	}
	if list := outcomes(t, l, "no such file", 1, 10); len(list) != 0 {
		t.Errorf("outcomes of no file: %v", list)
	}

	// Recorded in any order, they come back in row order, each file's apart.
	full := ledger.Outcome{Row: 5, Line: 60, Reference: "E", Status: ledger.Conflict, Code: "amount_due", Detail: "theirs 1, yours 2",
		BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 1 << 40, Attempts: 3,
		Key: "0a0b0c0d-0000-8000-8000-0123456789ab"}
	want := make([]ledger.Outcome, 9)
	for _, row := range []int{3, 9, 1, 5, 7, 2, 8, 4, 6} {
		o := ledger.Outcome{Row: row, Line: row + 1, Reference: fmt.Sprint("R", row), Status: ledger.Created}
		switch row {
		case 5:
			o = full
		case 2, 8:
			o.Status, o.Code = ledger.Statuses[row-1], "x"
		}
		want[row-1] = o
		recorded := o
		record(t, l, ledger.Entry{File: "f", Outcome: &recorded})
		recorded.Status = "changed after the call"
	}
	record(t, l, ledger.Entry{File: "g", Outcome: &ledger.Outcome{Row: 1, Reference: "other", Status: ledger.Invalid}})

	same(t, "all outcomes", want, outcomes(t, l, "f", 0, 100))
	same(t, "outcomes from row 4", want[3:], outcomes(t, l, "f", 4, 100))
	same(t, "two outcomes from row 4", want[3:5], outcomes(t, l, "f", 4, 2))
	for _, c := range [][2]int{{10, 100}, {1, 0}} {
		if list := outcomes(t, l, "f", c[0], c[1]); len(list) != 0 {
			t.Errorf("Outcomes from %d, up to %d: %v, want none", c[0], c[1], list)
		}
	}

	attention := func(from, limit int) []ledger.Outcome {
		t.Helper()
		list, err := l.Attention(t.Context(), "f", from, limit)
		ok(t, "Attention", err)
		return list
	}
	// Row 2 is existing.
	same(t, "outcomes that need attention", []ledger.Outcome{want[4], want[7]}, attention(0, 100))
	same(t, "one outcome that needs attention", []ledger.Outcome{want[4]}, attention(2, 1))
	same(t, "outcomes that need attention from row 6", []ledger.Outcome{want[7]}, attention(6, 100))

	// A retry replaces an outcome.
	want[4] = ledger.Outcome{Row: 5, Line: 60, Reference: "E", Status: ledger.Existing}
	record(t, l, ledger.Entry{File: "f", Outcome: &want[4]})
	same(t, "outcomes after a retry", want, outcomes(t, l, "f", 0, 100))
	same(t, "outcomes that need attention after a retry", []ledger.Outcome{want[7]}, attention(0, 100))

	// Attention agrees with Status.NeedsAttention, because the engines say it in their
	// own words.
	add(t, l, newFile("statuses"))
	var need []ledger.Outcome
	for i, s := range ledger.Statuses {
		o := ledger.Outcome{Row: i + 1, Status: s}
		record(t, l, ledger.Entry{File: "statuses", Outcome: &o})
		if s.NeedsAttention() {
			need = append(need, o)
		}
	}
	got, err := l.Attention(t.Context(), "statuses", 1, 100)
	ok(t, "Attention", err)
	same(t, "statuses that need attention", need, got)
}

func testTotals(t *testing.T, e Engine) {
	l := e.open(t)
	totals := func(file string) ledger.Totals {
		t.Helper()
		sums, err := l.Totals(t.Context(), file)
		if err != nil {
			t.Fatalf("Totals(%s): %v", file, err)
		}
		return sums
	}
	nothing := ledger.NewTotals()
	same(t, "totals of no file", nothing, totals("f"))
	add(t, l, newFile("f"))
	add(t, l, newFile("g"))
	same(t, "totals of a new file", nothing, totals("f"))

	for i, o := range []ledger.Outcome{
		{Status: ledger.Created, Currency: "ZAR", Amount: 100, Attempts: 1, Customers: 1, Accounts: 1},
		{Status: ledger.Created, Currency: "ZAR", Amount: 200, Attempts: 4, Customers: 1},
		{Status: ledger.Created, Currency: "USD", Amount: 99999999, Attempts: 1},
		{Status: ledger.Existing, Currency: "ZAR", Amount: 400},
		{Status: ledger.Invalid, Currency: "ZAR"},
		{Status: ledger.Invalid},
		{Status: ledger.Unknown, Currency: "ZAR", Amount: 1, Attempts: 6},
	} {
		o.Row = i + 1
		record(t, l, ledger.Entry{File: "f", Outcome: &o})
	}
	record(t, l, ledger.Entry{File: "g", Outcome: &ledger.Outcome{Row: 1, Status: ledger.Failed, Currency: "ZAR", Amount: 7, Attempts: 2, Accounts: 1}})
	want := ledger.Totals{
		Rows: map[ledger.Status]int{ledger.Created: 3, ledger.Existing: 1, ledger.Invalid: 2, ledger.Unknown: 1},
		Amounts: map[string]map[ledger.Status]int64{
			"ZAR": {ledger.Created: 300, ledger.Existing: 400, ledger.Invalid: 0, ledger.Unknown: 1},
			"USD": {ledger.Created: 99999999},
			"":    {ledger.Invalid: 0},
		},
		Attempts: 12, Resends: 8, Customers: 2, Accounts: 1,
	}
	same(t, "totals", want, totals("f"))

	// Rows of a very large file.
	add(t, l, newFile("large"))
	for _, row := range []int{1, 1 << 15, 1<<15 + 1, 1 << 16, 1_000_000, 3_000_000} {
		record(t, l, ledger.Entry{File: "large", Outcome: &ledger.Outcome{Row: row, Status: ledger.Created, Currency: "ZAR", Amount: 1000, Attempts: 2}})
	}
	same(t, "totals of a large file", ledger.Totals{
		Rows: map[ledger.Status]int{ledger.Created: 6}, Amounts: map[string]map[ledger.Status]int64{"ZAR": {ledger.Created: 6000}}, Attempts: 12, Resends: 6,
	}, totals("large"))

	record(t, l, ledger.Entry{File: "f", Outcome: &ledger.Outcome{Row: 7, Status: ledger.Created, Currency: "ZAR", Amount: 1, Attempts: 7}})
	want.Rows[ledger.Created]++
	delete(want.Rows, ledger.Unknown)
	want.Amounts["ZAR"][ledger.Created]++
	delete(want.Amounts["ZAR"], ledger.Unknown)
	want.Attempts, want.Resends = 13, 9
	same(t, "totals after a retry", want, totals("f"))
}

func testHistory(t *testing.T, e Engine) {
	l := e.open(t)
	for i, id := range []string{"f", "g", "h"} {
		f := newFile(id)
		f.Received = epoch.Add(time.Duration(i) * time.Hour)
		add(t, l, f)
	}
	history := func(reference string) *ledger.History {
		t.Helper()
		h, err := l.History(t.Context(), scope, reference)
		if err != nil {
			t.Fatalf("History(%s): %v", reference, err)
		}
		return h
	}
	refused(t, "History of an unknown reference", errOf(l.History(t.Context(), scope, "A")), ledger.ErrNotFound)

	// Never sent: seen in a row that was invalid.
	row := func(file string, n int, reference string, status ledger.Status) {
		t.Helper()
		record(t, l, ledger.Entry{File: file, Outcome: &ledger.Outcome{Row: n, Line: n + 1, Reference: reference, Status: status}})
	}
	record(t, l, ledger.Entry{File: "f", Outcome: &ledger.Outcome{Row: 1, Line: 2, Reference: "A", Status: ledger.Invalid, Code: "invalid_date", Detail: "what and why"}})
	same(t, "history of a bill never sent", &ledger.History{Sightings: []ledger.Sighting{
		{File: "f", Name: "f.csv", Line: 2, Status: ledger.Invalid, Code: "invalid_date", Detail: "what and why"}}}, history("A"))
	row("f", 1, "A", ledger.Invalid)
	refused(t, "History in another scope", errOf(l.History(t.Context(), ledger.Scope{Merchant: "other"}, "A")), ledger.ErrNotFound)

	// Sent twice for g (the first answer was lost), once more for g under the next key,
	// then for h.
	b := newBill("A", "g", 7)
	first := b.Send.At
	begin(t, l, b)
	b.Doubt, b.Send.Answer, b.Send.Unanswered = true, "timeout", true
	record(t, l, ledger.Entry{Scope: scope, Bill: b})
	b.Send.At, b.Send.Count, b.Send.Answer = first.Add(time.Second), 2, ""
	begin(t, l, b)
	key := b.Send.Key
	b.Send.At, b.Send.Count, b.Send.Generation, b.Send.Key = first.Add(time.Minute), 3, 2, "gen-2"
	begin(t, l, b)
	b.State, b.Send.Answer = ledger.Gone, "422"
	record(t, l, ledger.Entry{Scope: scope, Bill: b, File: "g",
		Outcome: &ledger.Outcome{Row: 7, Line: 8, Reference: "A", Status: ledger.Rejected, Attempts: 3}})
	again := newBill("A", "h", 1)
	again.Revision, again.Send.At = b.Revision, first.Add(time.Hour)
	begin(t, l, again)
	again = answered(again)
	record(t, l, ledger.Entry{Scope: scope, Bill: again, File: "h", Outcome: created(again)})
	row("h", 2, "A", ledger.Invalid) // a duplicate
	row("h", 3, "B", ledger.Existing)

	want := &ledger.History{
		Bill: again,
		Attempts: []ledger.Attempt{
			{File: "g", At: first, Key: key, Generation: 1, Answer: "timeout"},
			{File: "g", At: first.Add(time.Second), Key: key, Generation: 1},
			{File: "g", At: first.Add(time.Minute), Key: "gen-2", Generation: 2, Answer: "422"},
			{File: "h", At: first.Add(time.Hour), Key: again.Send.Key, Generation: 1, Answer: "201"},
		},
		Sightings: []ledger.Sighting{
			{File: "f", Name: "f.csv", Line: 2, Status: ledger.Invalid},
			{File: "g", Name: "g.csv", Line: 8, Status: ledger.Rejected},
			{File: "h", Name: "h.csv", Line: 2, Status: ledger.Created},
			{File: "h", Name: "h.csv", Line: 3, Status: ledger.Invalid},
		},
	}
	same(t, "history of a bill sent four times", want, history("A"))

	// A row delivered again, and a row whose outcome is replaced, stay one sighting each.
	early := newFile("early") // recorded last, received first
	early.Received = epoch.Add(-time.Hour)
	add(t, l, early)
	record(t, l, ledger.Entry{Scope: scope, Bill: again, File: "early",
		Outcome: &ledger.Outcome{Row: 1, Line: 2, Reference: "A", Status: ledger.Existing}})
	row("f", 1, "A", ledger.NotSent)
	want.Sightings[0].Status = ledger.NotSent
	want.Sightings = slices.Insert(want.Sightings, 0, ledger.Sighting{File: "early", Name: "early.csv", Line: 2, Status: ledger.Existing})
	same(t, "history after a second delivery", want, history("A"))

	// An outcome that was recorded apart from its bill is found all the same, and a send
	// that a record replaces is kept.
	c := newBill("C", "g", 9)
	begin(t, l, c)
	row("g", 9, "C", ledger.Unknown)
	seen := &ledger.Bill{Reference: "C", State: ledger.Exists, Observed: ledger.Observed{BillID: "bill_c"}, Revision: c.Revision}
	record(t, l, ledger.Entry{Scope: scope, Bill: seen})
	same(t, "history of a bill whose send was replaced", &ledger.History{
		Bill:      seen,
		Attempts:  []ledger.Attempt{{File: "g", At: c.Send.At, Key: c.Send.Key, Generation: 1}},
		Sightings: []ledger.Sighting{{File: "g", Name: "g.csv", Line: 10, Status: ledger.Unknown}},
	}, history("C"))
}
