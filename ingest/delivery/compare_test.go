package delivery

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"billdrop/client"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// A row of each kind, the bill that is the same, and what is known of the row's parties.
var (
	dated      = billfile.Bill{Currency: "ZAR", Amount: 2000, BillDate: "2026-11-01", DueDate: "2026-12-01"}
	accountRow = func(b billfile.Bill) *billfile.Bill { b.AccountReference, b.CustomerReference = "A", "C"; return &b }(dated)
	loneRow    = func(b billfile.Bill) *billfile.Bill { b.CustomerReference = "C"; return &b }(dated)

	onAccount  = ledger.Observed{BillID: "bill_1", Currency: "ZAR", Amount: 2000, BillDate: "2026-11-01", DueDate: "2026-12-01", CustomerID: "bcus_1", AccountID: "bacc_1"}
	onCustomer = func(s ledger.Observed) ledger.Observed { s.AccountID = ""; return s }(onAccount)

	pair     = partyFacts{NamesAccount: true, NamesCustomer: true, AccountID: "bacc_1", CustomerID: "bcus_1"}
	account  = partyFacts{NamesAccount: true, AccountID: "bacc_1"}
	customer = partyFacts{NamesCustomer: true, CustomerID: "bcus_1"}
)

func altered[T any](v T, change func(*T)) T { change(&v); return v }

func TestDifferences(t *testing.T) {
	for _, tt := range []struct {
		name string
		row  *billfile.Bill
		seen ledger.Observed
		p    partyFacts
		want string
	}{
		{"the same", accountRow, onAccount, pair, ""},
		{"the same, on a customer", loneRow, onCustomer, customer, ""},
		{"the same, on an account without a customer", accountRow, onAccount, account, ""},
		{"voided", accountRow, altered(onAccount, func(s *ledger.Observed) { s.Voided = true }), pair, "status: the bill is voided"},
		{"amount", accountRow, altered(onAccount, func(s *ledger.Observed) { s.Amount = 1999 }), pair, "amount_due: the bill has 1999, this row 2000"},
		{"currency", accountRow, altered(onAccount, func(s *ledger.Observed) { s.Currency = "USD" }), pair, "currency: the bill has USD, this row ZAR"},
		{"bill date", accountRow, altered(onAccount, func(s *ledger.Observed) { s.BillDate = "2026-11-02" }), pair, "bill_date: the bill has 2026-11-02, this row 2026-11-01"},
		{"due date", accountRow, altered(onAccount, func(s *ledger.Observed) { s.DueDate = "" }), pair, "due_date: the bill has none, this row 2026-12-01"},
		{"dates that the row does not give", altered(accountRow, func(b **billfile.Bill) { *b = &billfile.Bill{Currency: "ZAR", Amount: 2000} }), onAccount, pair, ""},
		{"account", accountRow, altered(onAccount, func(s *ledger.Observed) { s.AccountID = "bacc_2" }), pair, "account: the bill has bacc_2, this row bacc_1"},
		{"no account", accountRow, onCustomer, pair, "account: the bill has none, this row bacc_1"},
		{"an account that the API does not have", accountRow, onAccount, partyFacts{NamesAccount: true}, "account: the bill has bacc_1, this row another that the API does not know"},
		{"neither has an account", accountRow, onCustomer, partyFacts{NamesAccount: true}, "account: the bill has none, this row another that the API does not know"},
		{"customer", accountRow, altered(onAccount, func(s *ledger.Observed) { s.CustomerID = "bcus_2" }), pair, "customer: the bill has bcus_2, this row bcus_1"},
		{"a customer that the API does not have", accountRow, onAccount, altered(pair, func(p *partyFacts) { p.CustomerID = "" }), "customer: the bill has bcus_1, this row another that the API does not know"},
		{"the API does not say whose", accountRow, altered(onAccount, func(s *ledger.Observed) { s.CustomerID = "" }), pair, ""},
		{"an account in place of a customer", loneRow, onAccount, customer, "account: the bill has bacc_1, this row none"},
		{"another customer", loneRow, onCustomer, altered(customer, func(p *partyFacts) { p.CustomerID = "bcus_2" }), "customer: the bill has bcus_1, this row bcus_2"},
		{"all at once", accountRow, ledger.Observed{}, pair, "amount_due: the bill has 0, this row 2000; currency: the bill has none, this row ZAR; bill_date: the bill has none, this row 2026-11-01; " +
			"due_date: the bill has none, this row 2026-12-01; account: the bill has none, this row bacc_1"},
	} {
		if got := describe(differences(tt.row, tt.seen, tt.p)); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

// What a 201 leaves out is what was sent; what it says otherwise is a contradiction.
func TestContradictions(t *testing.T) {
	byAccount := &ledger.Send{Form: ledger.FormAccount, AccountID: "bacc_1"}
	byCustomer := &ledger.Send{Form: ledger.FormCustomer, CustomerID: "bcus_1"}
	newAccount := &ledger.Send{Form: ledger.FormNewAccount, CustomerID: "bcus_1"}
	nested := &ledger.Send{Form: ledger.FormNewAccountCustomer}
	newCustomer := &ledger.Send{Form: ledger.FormNewCustomer}
	nothing := partyFacts{NamesAccount: true, NamesCustomer: true}
	for _, tt := range []struct {
		name string
		row  *billfile.Bill
		seen ledger.Observed
		sent *ledger.Send
		p    partyFacts
		want string
	}{
		{"confirmed", accountRow, onAccount, byAccount, pair, ""},
		{"confirmed in the fewest words", accountRow, ledger.Observed{BillID: "bill_1"}, byAccount, pair, ""},
		{"the fewest words about a customer", loneRow, ledger.Observed{BillID: "bill_1"}, byCustomer, customer, ""},
		{"the fewest words about what is new", accountRow, ledger.Observed{BillID: "bill_1"}, nested, nothing, ""},
		{"all is new", accountRow, onAccount, nested, nothing, ""},
		{"a new customer", loneRow, onCustomer, newCustomer, partyFacts{NamesCustomer: true}, ""},
		{"a new customer that was not there before", loneRow, onCustomer, newCustomer, partyFacts{NamesCustomer: true, CustomerAsked: true}, ""},
		{"a new account", accountRow, onAccount, newAccount, altered(nothing, func(p *partyFacts) { p.CustomerID = "bcus_1" }), ""},
		{"an account without a customer", accountRow, onAccount, byAccount, account, ""},
		{"amount", accountRow, altered(onAccount, func(s *ledger.Observed) { s.Amount = 1 }), byAccount, pair, "amount_due: the bill has 1, this row 2000"},
		{"currency", accountRow, altered(onAccount, func(s *ledger.Observed) { s.Currency = "USD" }), byAccount, pair, "currency: the bill has USD, this row ZAR"},
		{"date", accountRow, altered(onAccount, func(s *ledger.Observed) { s.BillDate = "2026-11-02" }), byAccount, pair, "bill_date: the bill has 2026-11-02, this row 2026-11-01"},
		{"voided", accountRow, altered(onAccount, func(s *ledger.Observed) { s.Voided = true }), byAccount, pair, "status: the bill is voided"},
		{"account", accountRow, altered(onAccount, func(s *ledger.Observed) { s.AccountID = "bacc_2" }), byAccount, pair, "account: the bill has bacc_2, this row bacc_1"},
		{"customer", accountRow, altered(onAccount, func(s *ledger.Observed) { s.CustomerID = "bcus_2" }), byAccount, pair, "customer: the bill has bcus_2, this row bcus_1"},
		{"owner of an account that was there", accountRow, altered(onAccount, func(s *ledger.Observed) { s.CustomerID = "bcus_2" }), newAccount, altered(nothing, func(p *partyFacts) { p.CustomerID = "bcus_1" }), "customer: the bill has bcus_2, this row bcus_1"},
		{"nested again, and known by now", accountRow, altered(onAccount, func(s *ledger.Observed) { s.CustomerID = "bcus_2" }), nested, pair, "customer: the bill has bcus_2, this row bcus_1"},
		{"a customer that the API does not have", accountRow, onAccount, byAccount, altered(pair, func(p *partyFacts) { p.CustomerID, p.CustomerAsked = "", true }), "customer: the bill has bcus_1, this row another that the API does not know"},
		{"a customer who was not asked for", accountRow, onAccount, byAccount, altered(pair, func(p *partyFacts) { p.CustomerID = "" }), ""},
		{"an account that nobody named", loneRow, onAccount, byCustomer, customer, "account: the bill has bacc_1, this row none"},
	} {
		fillFromSent(&tt.seen, tt.row, tt.sent)
		if got := describe(contradictions(tt.row, tt.seen, tt.sent, tt.p)); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

func TestFillFromSent(t *testing.T) {
	s := ledger.Observed{BillID: "bill_1", CustomerID: "bcus_9"}
	fillFromSent(&s, accountRow, &ledger.Send{AccountID: "bacc_1", CustomerID: "bcus_1"})
	want := ledger.Observed{BillID: "bill_1", Currency: "ZAR", Amount: 2000, BillDate: "2026-11-01", DueDate: "2026-12-01", CustomerID: "bcus_9", AccountID: "bacc_1"}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestObserved(t *testing.T) {
	got := observed(&client.Bill{ID: "bill_1", ExternalReference: "R", CustomerID: "bcus_1", AccountID: "bacc_1", Status: "voided", Currency: "ZAR",
		AmountDue: 2000, BillDate: "2026-11-01", DueDate: "2026-12-01"})
	if want := altered(onAccount, func(s *ledger.Observed) { s.Voided = true }); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, status := range []string{"unpaid", "paid", ""} {
		if observed(&client.Bill{Status: status}).Voided {
			t.Errorf("%q is taken for voided", status)
		}
	}
}

// Values in JSON: amounts are numbers, null is none, and an unknown party is called so.
func TestDifferenceValues(t *testing.T) {
	b, s := &billfile.Bill{Amount: 2000}, &ledger.Observed{Amount: 5}
	for _, tt := range []struct {
		d    difference
		want [2]any
	}{
		{difference{fieldAmount, "5", "2000"}, [2]any{int64(5), int64(2000)}},
		{difference{"due_date", "", "2026-12-01"}, [2]any{nil, "2026-12-01"}},
		{difference{fieldAccount, "bacc_1", ""}, [2]any{"bacc_1", "unknown"}},
		{difference{fieldAccount, "bacc_1", noParty}, [2]any{"bacc_1", nil}},
		{difference{fieldCustomer, "bcus_1", "bcus_2"}, [2]any{"bcus_1", "bcus_2"}},
	} {
		if got := tt.d.values(b, s); !cmp.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.d, got, tt.want)
		}
	}
}

// A bill proves its parties only by the one send that made it, with a body that named or
// nested them.
func TestProvesParties(t *testing.T) {
	content := ledger.DigestOf([]byte("row"))
	record := func(form ledger.Form, customerID, accountID string, seen ledger.Observed) *ledger.Bill {
		return &ledger.Bill{State: ledger.Exists, Observed: seen, Send: ledger.Send{
			Form: form, CustomerID: customerID, AccountID: accountID, Content: content, Count: 1, Answer: "201"}}
	}
	nested := record(ledger.FormNewAccountCustomer, "", "", onAccount)
	lone := &billfile.Bill{AccountReference: "A"}
	for _, tt := range []struct {
		name string
		rec  *ledger.Bill
		row  *billfile.Bill
		want bool
	}{
		{"both nested", nested, accountRow, true},
		{"both nested, and no account", record(ledger.FormNewAccountCustomer, "", "", onCustomer), accountRow, false},
		{"both nested, and nobody's account", record(ledger.FormNewAccountCustomer, "", "", altered(onAccount, func(s *ledger.Observed) { s.CustomerID = "" })), accountRow, false},
		{"account nested", record(ledger.FormNewAccount, "bcus_1", "", onAccount), accountRow, true},
		{"account nested, and another's", record(ledger.FormNewAccount, "bcus_2", "", onAccount), accountRow, false},
		{"account nested, and none", record(ledger.FormNewAccount, "bcus_1", "", onCustomer), accountRow, false},
		{"customer nested", record(ledger.FormNewCustomer, "", "", onCustomer), loneRow, true},
		{"customer nested, and an account", record(ledger.FormNewCustomer, "", "", onAccount), loneRow, false},
		{"customer named", record(ledger.FormCustomer, "bcus_1", "", onCustomer), loneRow, true},
		{"customer named, and another", record(ledger.FormCustomer, "bcus_2", "", onCustomer), loneRow, false},
		{"customer named, and an account", record(ledger.FormCustomer, "bcus_1", "", onAccount), loneRow, false},
		{"account named", record(ledger.FormAccount, "", "bacc_1", onAccount), lone, true},
		{"account named, and another", record(ledger.FormAccount, "", "bacc_2", onAccount), lone, false},
		{"account named, and the row names a customer", record(ledger.FormAccount, "", "bacc_1", onAccount), accountRow, false},
		{"no form", record(ledger.FormNone, "", "", onAccount), accountRow, false},
		{"pending", altered(nested, func(b **ledger.Bill) { c := **b; c.State = ledger.Pending; *b = &c }), accountRow, false},
		{"other content", altered(nested, func(b **ledger.Bill) { c := **b; c.Send.Content = ledger.Digest{}; *b = &c }), accountRow, false},
		{"sent twice", altered(nested, func(b **ledger.Bill) { c := **b; c.Send.Count = 2; *b = &c }), accountRow, false},
		{"found by a look-up", altered(nested, func(b **ledger.Bill) { c := **b; c.Send.Answer = "timeout"; *b = &c }), accountRow, false},
		{"a replayed answer", altered(nested, func(b **ledger.Bill) { c := **b; c.Send.Answer = "201 replayed"; *b = &c }), accountRow, false},
	} {
		if got := provesParties(tt.rec, content, tt.row); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if diffs := differences(accountRow, onAccount, provenFacts(accountRow, &onAccount)); len(diffs) != 0 {
		t.Errorf("a proven row: %s", describe(diffs))
	}
	if diffs := differences(loneRow, onCustomer, provenFacts(loneRow, &onCustomer)); len(diffs) != 0 {
		t.Errorf("a proven row without an account: %s", describe(diffs))
	}
}
