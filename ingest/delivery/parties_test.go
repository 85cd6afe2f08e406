package delivery

import (
	"testing"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// through reports whether a lease may go on.
func through(ready <-chan struct{}) bool {
	select {
	case <-ready:
		return true
	default:
		return false
	}
}

func bill(account, customer string) *billfile.Bill {
	return &billfile.Bill{AccountReference: account, CustomerReference: customer}
}

func TestPartiesFirstRowLeads(t *testing.T) {
	p := newParties()
	first, second, third := p.lease(bill("A1", "C1")), p.lease(bill("A1", "C1")), p.lease(bill("A2", "C1"))
	if r := p.acquire(first); !through(r) || first.form != ledger.FormNewAccountCustomer {
		t.Fatalf("first row: form %d, through %v", first.form, through(r))
	}
	r2, r3 := p.acquire(second), p.acquire(third)
	if through(r2) || through(r3) {
		t.Fatal("a row of the leader's party went on before its answer")
	}
	// Another party is never in the way.
	if r := p.acquire(p.lease(bill("B1", "D1"))); !through(r) {
		t.Fatal("a row of another party waits")
	}
	p.learn(first, "bacc_1", "bcus_1")
	p.release(first)
	if !through(r2) || second.form != ledger.FormAccount || second.accountID != "bacc_1" {
		t.Errorf("same account: form %d, account %q", second.form, second.accountID)
	}
	if !through(r3) || third.form != ledger.FormNewAccount || third.customerID != "bcus_1" {
		t.Errorf("other account of the customer: form %d, customer %q", third.form, third.customerID)
	}
}

func TestPartiesFailedLeaderIsFollowed(t *testing.T) {
	p := newParties()
	first, second, third := p.lease(bill("", "C1")), p.lease(bill("", "C1")), p.lease(bill("", "C1"))
	p.acquire(first)
	r2, r3 := p.acquire(second), p.acquire(third)
	p.release(first) // failed: nothing learnt
	if !through(r2) || second.form != ledger.FormNewCustomer {
		t.Fatalf("second row does not lead: form %d", second.form)
	}
	if through(r3) {
		t.Fatal("two leaders at a time")
	}
	p.release(second)
	p.release(third)
	if len(p.entries) != 0 {
		t.Errorf("%d parties are left in the table", len(p.entries))
	}
}

func TestPartiesWaiterThatGivesUp(t *testing.T) {
	p := newParties()
	first, second, third := p.lease(bill("A1", "C1")), p.lease(bill("A1", "C1")), p.lease(bill("A1", "C1"))
	p.acquire(first)
	p.acquire(second)
	r3 := p.acquire(third)
	p.release(second) // its run stopped
	p.release(first)
	if !through(r3) {
		t.Error("the row behind one that gave up is stuck")
	}
}

// A recorded nested body is sent again as it was, also where its parties are known by now.
func TestPartiesReacquire(t *testing.T) {
	p := newParties()
	first, again := p.lease(bill("A1", "C1")), p.lease(bill("A1", "C1"))
	p.acquire(first)
	r := p.reacquire(again, ledger.FormNewAccountCustomer)
	if through(r) {
		t.Fatal("two nested bodies of one party at a time")
	}
	p.learn(first, "bacc_1", "bcus_1")
	p.release(first)
	if !through(r) || again.form != ledger.FormNewAccountCustomer {
		t.Errorf("through %v, form %d", through(r), again.form)
	}
}

func TestPartiesForms(t *testing.T) {
	for _, tt := range []struct {
		name         string
		bill         billfile.Bill
		known        map[ledger.PartyRef]ledger.Party
		form         ledger.Form
		account, cus string
	}{
		{"account id", billfile.Bill{AccountID: "bacc_9", CustomerReference: "C"}, nil, ledger.FormAccount, "bacc_9", ""},
		{"customer id", billfile.Bill{CustomerID: "bcus_9"}, nil, ledger.FormCustomer, "", "bcus_9"},
		{"new account of a known id", billfile.Bill{AccountReference: "A", CustomerID: "bcus_9"}, nil, ledger.FormNewAccount, "", "bcus_9"},
		{"account alone, unknown", billfile.Bill{AccountReference: "A"}, nil, ledger.FormNone, "", ""},
		{"account alone, known", billfile.Bill{AccountReference: "A"}, map[ledger.PartyRef]ledger.Party{
			{Kind: ledger.Account, Reference: "A"}: {ID: "bacc_1"}}, ledger.FormAccount, "bacc_1", ""},
		{"customer known", *bill("", "C"), map[ledger.PartyRef]ledger.Party{
			{Kind: ledger.Customer, Reference: "C"}: {ID: "bcus_1"}}, ledger.FormCustomer, "", "bcus_1"},
		{"customer known, account new", *bill("A", "C"), map[ledger.PartyRef]ledger.Party{
			{Kind: ledger.Customer, Reference: "C"}: {ID: "bcus_1"}}, ledger.FormNewAccount, "", "bcus_1"},
		{"a customer's reference is no account's", *bill("X", ""), map[ledger.PartyRef]ledger.Party{
			{Kind: ledger.Customer, Reference: "X"}: {ID: "bcus_1"}}, ledger.FormNone, "", ""},
	} {
		p := newParties()
		c := p.lease(&tt.bill)
		p.load(p.notLoaded([]*lease{c}), tt.known)
		if r := p.acquire(c); !through(r) {
			t.Errorf("%s: waits", tt.name)
		}
		if c.form != tt.form || c.accountID != tt.account || c.customerID != tt.cus {
			t.Errorf("%s: form %d, account %q, customer %q", tt.name, c.form, c.accountID, c.customerID)
		}
	}
}
