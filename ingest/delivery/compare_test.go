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
