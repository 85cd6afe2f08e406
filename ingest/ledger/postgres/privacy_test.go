package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestNoReferenceInDump: the reference of a customer or account is in no byte of the
// database, known or led. What must be there is: the test would see it.
func TestNoReferenceInDump(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	l := join(t, open(t, url))
	t.Cleanup(func() { l.Close() })
	if err := l.AddFile(t.Context(), &ledger.File{ID: "f", Scope: scope}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		ref := ledger.PartyRef{Kind: ledger.Customer + ledger.PartyKind(i%2), Reference: fmt.Sprintf("canary-%04d", i)}
		b := newBill(fmt.Sprint("B", i), "f", i)
		if err := l.Begin(t.Context(), scope, b, ref); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			continue // led
		}
		err := l.Record(t.Context(), ledger.Entry{Scope: scope, Bill: b, Parties: []ledger.Party{{PartyRef: ref, ID: "bcus_visible"}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	dump := server.Dump(t, url)
	if strings.Contains(dump, "canary") || strings.Contains(dump, fmt.Sprintf("%x", "canary")) {
		t.Error("a party's reference is in the database")
	}
	if !strings.Contains(dump, "bcus_visible") {
		t.Error("not even the party's id was found")
	}
	if strings.Contains(dump, server.Password) {
		t.Error("the password is in the database")
	}
}
