package ledgertest

import (
	"testing"

	"billdrop/ingest/ledger"
)

// testPrune: a finished file goes with its outcomes and attempts; what keeps its bills
// unique stays.
func testPrune(t *testing.T, e Engine) {
	dir := t.TempDir()
	l := e.Open(t, dir)
	for _, id := range []string{"old", "new", "held"} {
		f := newFile(id)
		f.State = ledger.Done
		if id == "held" {
			f.State = ledger.Held
		}
		f.Stem = id
		add(t, l, f)
	}
	b := newBill("A", "old", 1)
	begin(t, l, b)
	b.Send.At, b.Send.Count = b.Send.At.Add(1e9), 2
	begin(t, l, b)
	b = answered(b)
	customer := ledger.Party{PartyRef: ledger.PartyRef{Kind: ledger.Customer, Reference: "x"}, ID: "bcus_1"}
	record(t, l, ledger.Entry{Scope: scope, Bill: b, File: "old", Outcome: created(b), Parties: []ledger.Party{customer}})
	record(t, l, ledger.Entry{File: "old", Outcome: &ledger.Outcome{Row: 2, Reference: "B", Status: ledger.Invalid}})
	kept := ledger.Outcome{Row: 1, Reference: "A", Status: ledger.Existing}
	record(t, l, ledger.Entry{File: "new", Outcome: &kept})

	refused(t, "Prune of an unknown file", errOf(l.Prune(t.Context(), "no such file")), ledger.ErrNotFound)
	refused(t, "Prune of a held file", errOf(l.Prune(t.Context(), "held")), ledger.ErrUnfinished)
	// Also what was recorded just before.
	record(t, l, ledger.Entry{File: "old", Outcome: &ledger.Outcome{Row: 3, Reference: "C", Status: ledger.Invalid}})
	if rows, err := l.Prune(t.Context(), "old"); err != nil || rows != 3 {
		t.Fatalf("Prune: %d rows, %v, want 3", rows, err)
	}
	check := func(when string) {
		t.Helper()
		refused(t, when+": the pruned file", errOf(l.File(t.Context(), "old")), ledger.ErrNotFound)
		if list := outcomes(t, l, "old", 0, 10); len(list) != 0 {
			t.Errorf("%s: outcomes of the pruned file: %v", when, list)
		}
		same(t, when+": bill of the pruned file", b, bill(t, l, "A"))
		same(t, when+": outcomes of another file", []ledger.Outcome{kept}, outcomes(t, l, "new", 0, 10))
		h, err := l.History(t.Context(), scope, "A")
		ok(t, "History", err)
		if len(h.Attempts) != 1 || len(h.Sightings) != 1 || h.Sightings[0].File != "new" {
			t.Errorf("%s: history %+v, want the latest attempt and the other file's row", when, h)
		}
		same(t, when+": party", customer, readParties(t, l, scope, customer.PartyRef)[customer.PartyRef])
	}
	check("after Prune")
	// The name of its reports is free again, and a new file has none of its rows.
	f := newFile("newer")
	f.Stem = "old"
	add(t, l, f)
	if list := outcomes(t, l, "newer", 0, 10); len(list) != 0 {
		t.Errorf("outcomes of a new file: %v", list)
	}
	ok(t, "Close", l.Close())
	l = e.Open(t, dir)
	defer l.Close()
	check("after opening it again")
}

// testForget: a customer and the customer's accounts are known by no reference any more;
// other parties are.
func testForget(t *testing.T, e Engine) {
	dir := t.TempDir()
	l := e.Open(t, dir)
	add(t, l, newFile("f"))
	party := func(kind ledger.PartyKind, ref, id string) ledger.Party {
		return ledger.Party{PartyRef: ledger.PartyRef{Kind: kind, Reference: ref}, ID: id}
	}
	unbilled := party(ledger.Account, "unbilled", "bacc_5") // only its record says whose it is
	unbilled.CustomerID = "bcus_1"
	gone := []ledger.Party{party(ledger.Customer, "x", "bcus_1"), party(ledger.Account, "x", "bacc_1"), party(ledger.Account, "y", "bacc_2"), unbilled}
	kept := []ledger.Party{party(ledger.Customer, "y", "bcus_2"), party(ledger.Account, "z", "bacc_3")}
	for i, seen := range []ledger.Observed{
		{BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1"},
		{BillID: "bill_2", CustomerID: "bcus_1", AccountID: "bacc_2"},
		{BillID: "bill_3", CustomerID: "bcus_2", AccountID: "bacc_3"},
		{BillID: "bill_4", CustomerID: "bcus_1"},
	} {
		b := &ledger.Bill{Reference: seen.BillID, State: ledger.Exists, Observed: seen}
		entry := ledger.Entry{Scope: scope, Bill: b}
		if i == 0 {
			entry.Parties = append(gone, kept...)
		}
		record(t, l, entry)
	}
	// The same reference at another merchant is another customer.
	other := ledger.Scope{Merchant: "other", Mode: "test"}
	theirs := party(ledger.Customer, "x", "bcus_3")
	record(t, l, ledger.Entry{Scope: other, Parties: []ledger.Party{theirs}})

	refused(t, "Forget of an unknown customer", errOf(l.Forget(t.Context(), scope, "nobody")), ledger.ErrNotFound)
	late := party(ledger.Account, "late", "bacc_4")
	gone = append(gone, late)
	record(t, l, ledger.Entry{Scope: scope, Parties: []ledger.Party{late},
		Bill: &ledger.Bill{Reference: "bill_5", State: ledger.Exists, Observed: ledger.Observed{BillID: "bill_5", CustomerID: "bcus_1", AccountID: late.ID}}})
	if n, err := l.Forget(t.Context(), scope, "x"); err != nil || n != len(gone) {
		t.Fatalf("Forget: %d parties, %v, want %d", n, err, len(gone))
	}
	check := func(when string) {
		t.Helper()
		var refs []ledger.PartyRef
		for _, p := range append(gone, kept...) {
			refs = append(refs, p.PartyRef)
		}
		want := map[ledger.PartyRef]ledger.Party{kept[0].PartyRef: kept[0], kept[1].PartyRef: kept[1]}
		same(t, when+": parties", want, readParties(t, l, scope, refs...))
		same(t, when+": parties of another merchant", map[ledger.PartyRef]ledger.Party{refs[0]: theirs}, readParties(t, l, other, refs[0]))
		if b := bill(t, l, "bill_1"); b == nil || b.State != ledger.Exists || b.Observed.BillID != "bill_1" {
			t.Errorf("%s: bill of a customer that was forgotten: %+v", when, b)
		}
	}
	check("after Forget")
	ok(t, "Close", l.Close())
	l = e.Open(t, dir)
	defer l.Close()
	check("after opening it again")
	record(t, l, ledger.Entry{Scope: scope, Parties: gone[:1]})
	same(t, "a customer that was learnt again", gone[0], readParties(t, l, scope, gone[0].PartyRef)[gone[0].PartyRef])
}
