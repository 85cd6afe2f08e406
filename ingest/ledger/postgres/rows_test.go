package postgres_test

import (
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestOddTexts: what PostgreSQL cannot store as a text comes back all the same.
func TestOddTexts(t *testing.T) {
	server := pgtest.Start(t)
	l := join(t, open(t, server.Database(t)))
	t.Cleanup(func() { l.Close() })
	odd := "latin-\xe4 nul-\x00 \xff escape-\ue0e4\ue000 \xee\x83 ä €"
	f := &ledger.File{ID: "id " + odd, Name: odd, Path: "/in/" + odd, Results: odd, Stem: odd, Scope: ledger.Scope{Merchant: odd, Mode: "test"}, State: ledger.Sending}
	if err := l.AddFile(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	got, err := l.File(t.Context(), f.ID)
	if err != nil {
		t.Fatal(err)
	}
	if *got != *f {
		t.Errorf("file %+v, want %+v", got, f)
	}
	if files, err := l.Files(t.Context(), ledger.Query{Results: odd, StemPrefix: odd}); err != nil || len(files) != 1 {
		t.Errorf("files of an odd stem: %v, %v", files, err)
	}
	b := newBill(odd, f.ID, 1)
	b.Send.Key = odd
	if err := l.Begin(t.Context(), f.Scope, b); err != nil {
		t.Fatal(err)
	}
	bills, err := l.Bills(t.Context(), f.Scope, []string{odd})
	if err != nil || bills[odd] == nil || bills[odd].Send.Key != odd || bills[odd].Send.File != f.ID {
		t.Errorf("bill %+v, %v", bills, err)
	}
	o := ledger.Outcome{Row: 1, Reference: odd, Status: ledger.Invalid, Detail: odd, Currency: odd}
	if err := l.Record(t.Context(), ledger.Entry{File: f.ID, Outcome: &o}); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Outcomes(t.Context(), f.ID, 0, 9); err != nil || len(list) != 1 || list[0] != o {
		t.Errorf("outcomes %+v, %v", list, err)
	}
	if err := l.LeaveOrder(t.Context(), f.ID, "retry"); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Orders(t.Context(), f.ID); err != nil || len(list) != 1 || list[0].File != f.ID {
		t.Errorf("orders %+v, %v", list, err)
	}
}
