package ledgertest

import (
	"fmt"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

func testBills(t *testing.T, e Engine) {
	l := e.open(t)
	add(t, l, newFile("f"))

	bills, err := l.Bills(t.Context(), scope, []string{"A", "B"})
	if err != nil || bills == nil || len(bills) != 0 {
		t.Errorf("Bills of an empty ledger: %v, %v", bills, err)
	}
	if bills, err := l.Bills(t.Context(), scope, nil); err != nil || bills == nil || len(bills) != 0 {
		t.Errorf("Bills of nothing: %v, %v", bills, err)
	}

	// Every field comes back, of each kind of record.
	a := newBill("A", "f", 1)
	begin(t, l, a)
	same(t, "bill that was begun", a, bill(t, l, "A"))
	if !bill(t, l, "A").InDoubt() {
		t.Error("a bill that was begun is not in doubt")
	}
	record(t, l, ledger.Entry{Scope: scope, Bill: answered(a)})
	same(t, "bill that was answered", answered(a), bill(t, l, "A"))

	doubtful := newBill("A-doubt", "f", 2)
	begin(t, l, doubtful)
	doubtful.Doubt, doubtful.Send.Answer, doubtful.Send.Unanswered = true, "timeout", true
	record(t, l, ledger.Entry{Scope: scope, Bill: doubtful})
	same(t, "bill whose answer was lost", doubtful, bill(t, l, "A-doubt"))
	doubtful.Doubt, doubtful.State = false, ledger.Gone
	record(t, l, ledger.Entry{Scope: scope, Bill: doubtful})
	same(t, "bill that was settled as absent", doubtful, bill(t, l, "A-doubt"))

	found := &ledger.Bill{Reference: "found", State: ledger.Exists, Observed: ledger.Observed{BillID: "bill_9", CustomerID: "bcus_9", Currency: "USD",
		Amount: 99999999, Voided: true}}
	record(t, l, ledger.Entry{Scope: scope, Bill: found})
	same(t, "bill found by look-up", found, bill(t, l, "found"))
	found.Observed.Voided, found.Observed.DueDate = false, "2027-01-01"
	record(t, l, ledger.Entry{Scope: scope, Bill: found})
	same(t, "bill found by look-up again", found, bill(t, l, "found"))

	odd := newBill("odd-key", "f", 3)
	odd.Send.Key = "not-a-uuid"
	odd.Observed = ledger.Observed{BillID: "bill_seen_before_the_send"}
	odd.Send.CustomerID, odd.Send.AccountID, odd.Send.Form = "bcus_1", "bacc_1", ledger.FormAccount
	begin(t, l, odd)
	same(t, "bill with a key of another kind", odd, bill(t, l, "odd-key"))
	odd.Send.Key = "AABBCCDD-0000-8000-8000-000000000000" // not the canonical spelling: it must come back as it is
	begin(t, l, odd)
	same(t, "bill with an upper case key", odd, bill(t, l, "odd-key"))

	testSends(t, l)
	testScopes(t, l)
	testManyBills(t, l)
}

// testSends: the latest send stands in the bill, whatever else of it changes.
func testSends(t *testing.T, l ledger.Ledger) {
	b := newBill("sends", "f", 10)
	begin(t, l, b)
	again := *b
	again.Send.At, again.Send.Count = b.Send.At.Add(time.Second), 2
	begin(t, l, &again)
	same(t, "bill sent again", &again, bill(t, l, "sends"))

	// A record may change more than the answer.
	again.Send.Count, again.Send.Body, again.Send.Form = 3, ledger.DigestOf([]byte("x")), ledger.FormCustomer
	again.Send.KeyFirstUsed = epoch.Add(-time.Hour)
	record(t, l, ledger.Entry{Scope: scope, Bill: &again})
	same(t, "bill recorded with another send", &again, bill(t, l, "sends"))

	// The caller's record is its own again once the call has returned.
	kept := again
	again.Send.Answer = "changed after the call"
	same(t, "bill after its caller changed it", &kept, bill(t, l, "sends"))
	kept.Send.Answer = "201"
	entry := kept
	record(t, l, ledger.Entry{Scope: scope, Bill: &entry})
	entry.Send.Answer = "changed after the call"
	same(t, "recorded bill after its caller changed it", &kept, bill(t, l, "sends"))
}

// testScopes: a reference in one scope says nothing of the same reference in another.
func testScopes(t *testing.T, l ledger.Ledger) {
	scopes := []ledger.Scope{{Merchant: "acme", Mode: "live"}, {Merchant: "other", Mode: "test"}, {Merchant: "acmetest"}}
	for i, s := range scopes {
		if bills, err := l.Bills(t.Context(), s, []string{"A"}); err != nil || len(bills) != 0 {
			t.Errorf("Bills of scope %v before anything was written there: %v, %v", s, bills, err)
		}
		b := newBill("A", "f", 100+i)
		ok(t, "Begin", l.Begin(t.Context(), s, b))
	}
	for i, s := range scopes {
		bills, err := l.Bills(t.Context(), s, []string{"A"})
		ok(t, "Bills", err)
		same(t, fmt.Sprintf("bill of scope %v", s), newBill("A", "f", 100+i), bills["A"])
	}
	same(t, "bill of the first scope", answered(newBill("A", "f", 1)), bill(t, l, "A"))
}

// testManyBills: more than one statement can take, some unknown, some asked for twice,
// and no two spellings taken for one.
func testManyBills(t *testing.T, l ledger.Ledger) {
	const n = 1500
	var refs []string
	for i := range n {
		ref := fmt.Sprintf("many-%04d", i)
		refs = append(refs, ref, ref)
		if i%2 == 0 {
			record(t, l, ledger.Entry{Scope: scope, Bill: &ledger.Bill{Reference: ref, State: ledger.Gone}})
		}
	}
	refs = append(refs, "MANY-0000", "many_0000", "")
	bills, err := l.Bills(t.Context(), scope, refs)
	ok(t, "Bills", err)
	if len(bills) != n/2 {
		t.Errorf("%d bills, want %d", len(bills), n/2)
	}
	for ref, b := range bills {
		if b.Reference != ref || b.State != ledger.Gone {
			t.Errorf("bill %s: %+v", ref, b)
		}
	}
}

func testParties(t *testing.T, e Engine) {
	l := e.open(t)
	add(t, l, newFile("f"))
	ref := func(kind ledger.PartyKind, r string) ledger.PartyRef {
		return ledger.PartyRef{Kind: kind, Reference: r}
	}
	none := map[ledger.PartyRef]ledger.Party{}
	same(t, "parties of nothing", none, readParties(t, l, scope))
	same(t, "parties of an empty ledger", none, readParties(t, l, scope, ref(ledger.Customer, "x")))

	customer := ledger.Party{PartyRef: ref(ledger.Customer, "x"), ID: "bcus_1"}
	account := ledger.Party{PartyRef: ref(ledger.Account, "x"), ID: "bacc_1"}
	parties := []ledger.Party{customer, account}
	record(t, l, ledger.Entry{Scope: scope, Parties: parties})
	parties[0].ID = "changed after the call"
	same(t, "customer and account of one reference",
		map[ledger.PartyRef]ledger.Party{customer.PartyRef: customer, account.PartyRef: account},
		readParties(t, l, scope, customer.PartyRef, account.PartyRef, ref(ledger.Customer, "X"), customer.PartyRef))
	same(t, "parties of another scope", none, readParties(t, l, ledger.Scope{Merchant: "acme", Mode: "live"}, customer.PartyRef))

	record(t, l, ledger.Entry{Scope: scope, Parties: []ledger.Party{customer, account}})
	same(t, "parties recorded again",
		map[ledger.PartyRef]ledger.Party{customer.PartyRef: customer, account.PartyRef: account},
		readParties(t, l, scope, customer.PartyRef, account.PartyRef))
	account.ID = "bacc_2"
	record(t, l, ledger.Entry{Scope: scope, Parties: []ledger.Party{account}})
	same(t, "account with another id", map[ledger.PartyRef]ledger.Party{account.PartyRef: account}, readParties(t, l, scope, account.PartyRef))
	testOwners(t, l, account)

	const n = 1500
	var refs []ledger.PartyRef
	for i := range n {
		p := ledger.Party{PartyRef: ref(ledger.Customer, fmt.Sprint("many-", i)), ID: fmt.Sprint("bcus_", i)}
		refs = append(refs, p.PartyRef)
		record(t, l, ledger.Entry{Scope: scope, Parties: []ledger.Party{p}})
	}
	many := readParties(t, l, scope, refs...)
	for i, r := range refs {
		if want := fmt.Sprint("bcus_", i); many[r].ID != want || many[r].PartyRef != r {
			t.Fatalf("party %v: %+v, want id %s", r, many[r], want)
		}
	}
}

// testOwners: whose an account is, is known from the record that names the customer until
// another customer, or another account, is recorded. Since does not change while the id stays.
func testOwners(t *testing.T, l ledger.Ledger, account ledger.Party) {
	t.Helper()
	at := func(hour int) time.Time {
		if hour == 0 {
			return time.Time{}
		}
		return time.Date(2026, 11, 23, hour, 0, 0, 0, time.UTC)
	}
	for _, c := range []struct {
		what                 string
		id, customerID, want string
		since, wantSince     int // hours
	}{
		{"account whose customer is recorded", account.ID, "bcus_1", "bcus_1", 0, 0},
		{"account recorded without its customer", account.ID, "", "bcus_1", 1, 1},
		{"account with another customer", account.ID, "bcus_2", "bcus_2", 2, 1},
		{"another account of this reference", "bacc_3", "", "", 3, 3},
		{"another account of this reference, with its customer", "bacc_4", "bcus_4", "bcus_4", 4, 4},
		{"account as it was at first", account.ID, "", "", 5, 5},
	} {
		account.ID, account.CustomerID, account.Since = c.id, c.customerID, at(c.since)
		record(t, l, ledger.Entry{Scope: scope, Parties: []ledger.Party{account}})
		known := readParties(t, l, scope, account.PartyRef)
		account.CustomerID, account.Since = c.want, at(c.wantSince)
		same(t, c.what, account, known[account.PartyRef])
	}
}
