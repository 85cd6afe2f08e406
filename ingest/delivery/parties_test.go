package delivery

import (
	"testing"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// isReady reports whether a row may go ahead.
func isReady(ready <-chan struct{}) bool {
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

func sending(form ledger.Form) route { return route{Do: routeSend, Form: form} }

func TestPartiesFirstRowLeads(t *testing.T) {
	p := newParties()
	first, second, third := p.lease(bill("A1", "C1")), p.lease(bill("A1", "C1")), p.lease(bill("A2", "C1"))
	if r := p.acquire(first); !isReady(r) || first.route != sending(ledger.FormNewAccountCustomer) {
		t.Fatalf("first row: %+v, ready %v", first.route, isReady(r))
	}
	r2, r3 := p.acquire(second), p.acquire(third)
	if isReady(r2) || isReady(r3) {
		t.Fatal("a row of the leader's party went ahead before its answer")
	}
	if r := p.acquire(p.lease(bill("B1", "D1"))); !isReady(r) {
		t.Fatal("a row of another party waits")
	}
	p.learn(ledger.Party{PartyRef: first.account.ref, ID: "bacc_1", CustomerID: "bcus_1"})
	p.learn(ledger.Party{PartyRef: first.customer.ref, ID: "bcus_1"})
	p.release(first)
	if !isReady(r2) || second.route != sending(ledger.FormAccount) || p.known(second).AccountID != "bacc_1" {
		t.Errorf("same account: %+v, %+v", second.route, p.known(second))
	}
	if !isReady(r3) || third.route != sending(ledger.FormNewAccount) || p.known(third).CustomerID != "bcus_1" {
		t.Errorf("another account of the customer: %+v, %+v", third.route, p.known(third))
	}
}

func TestPartiesFailedLeaderIsFollowed(t *testing.T) {
	p := newParties()
	first, second, third := p.lease(bill("", "C1")), p.lease(bill("", "C1")), p.lease(bill("", "C1"))
	p.acquire(first)
	r2, r3 := p.acquire(second), p.acquire(third)
	p.release(first) // failed: nothing learnt
	if !isReady(r2) || second.route != sending(ledger.FormNewCustomer) {
		t.Fatalf("second row does not lead: %+v", second.route)
	}
	if isReady(r3) {
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
	if !isReady(r3) {
		t.Error("the row behind one that gave up is stuck")
	}
}

// A recorded nested body is sent again under the lead of its parties, also where these are known
// by now.
func TestPartiesReacquire(t *testing.T) {
	p := newParties()
	first, again := p.lease(bill("A1", "C1")), p.lease(bill("A1", "C1"))
	p.acquire(first)
	r := p.reacquire(again, ledger.FormNewAccountCustomer)
	if isReady(r) {
		t.Fatal("two nested bodies of one party at a time")
	}
	p.learn(ledger.Party{PartyRef: first.account.ref, ID: "bacc_1", CustomerID: "bcus_1"})
	p.learn(ledger.Party{PartyRef: first.customer.ref, ID: "bcus_1"})
	p.release(first)
	if !isReady(r) {
		t.Error("the second is stuck")
	}
}

// Whoever asks for a party leads it: other rows of the pair wait for what it learns.
func TestPartiesAskOnce(t *testing.T) {
	p := newParties()
	start := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	known := map[ledger.PartyRef]ledger.Party{
		{Kind: ledger.Account, Reference: "A1"}: {ID: "bacc_1", CustomerID: "bcus_9", Since: start.Add(-time.Hour)}}
	first, second, other := p.lease(bill("A1", "C1")), p.lease(bill("A1", "C1")), p.lease(bill("A2", "C2"))
	p.load(p.notLoaded([]*lease{first, second, other}), known, recordedBefore(start))
	if r := p.acquire(first); !isReady(r) || first.route.Do != routeAskCustomer {
		t.Fatalf("first row: %+v", first.route)
	}
	r2 := p.acquire(second)
	if isReady(r2) {
		t.Fatal("the same is asked for twice")
	}
	if r := p.acquire(other); !isReady(r) {
		t.Error("a row of other parties waits")
	}
	p.setAsked(first.customer)
	p.handOver(first)
	if r := p.acquire(first); !isReady(r) || first.route.Do != routeMismatch {
		t.Errorf("a customer that is not there: %+v", first.route)
	}
	if !isReady(r2) || second.route.Do != routeMismatch {
		t.Errorf("second row: %+v, ready %v", second.route, isReady(r2))
	}
	p.release(first)
	p.release(second)
	third := p.lease(bill("A1", "C1"))
	p.load(p.notLoaded([]*lease{third}), known, recordedBefore(start))
	if p.acquire(third); third.route.Do != routeMismatch {
		t.Errorf("asked for again in the same run: %+v", third.route)
	}
	p.release(third)
	creator := p.lease(bill("", "C1"))
	p.nesting(creator, ledger.FormNewCustomer) // whether it came to be is not known
	p.release(creator)
	third = p.lease(bill("A1", "C1"))
	p.load(p.notLoaded([]*lease{third}), known, recordedBefore(start))
	if p.acquire(third); third.route.Do != routeAskCustomer {
		t.Errorf("not asked for although it may be there now: %+v", third.route)
	}
	p.setAsked(third.customer)
	p.release(third)
	p.newRun()
	fourth := p.lease(bill("A1", "C1"))
	p.load(p.notLoaded([]*lease{fourth}), known, recordedBefore(start))
	if p.acquire(fourth); fourth.route.Do != routeAskCustomer {
		t.Errorf("not asked for in a new run: %+v", fourth.route)
	}
}

// What the ledger knows of a row's parties decides how they are named.
func TestPartiesForms(t *testing.T) {
	start := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	before, since := start.Add(-time.Second), start.Add(time.Microsecond)
	account := func(id, owner string) map[ledger.PartyRef]ledger.Party {
		return map[ledger.PartyRef]ledger.Party{
			{Kind: ledger.Account, Reference: "A"}:      {ID: id, CustomerID: owner, Since: before},
			{Kind: ledger.Account, Reference: "bacc_9"}: {ID: "bacc_9", CustomerID: owner, Since: before},
		}
	}
	customer := func(id string, since time.Time) map[ledger.PartyRef]ledger.Party {
		return map[ledger.PartyRef]ledger.Party{{Kind: ledger.Customer, Reference: "C"}: {ID: id, Since: since}}
	}
	for _, tt := range []struct {
		name  string
		bill  billfile.Bill
		known map[ledger.PartyRef]ledger.Party
		want  route
	}{
		{"account id", billfile.Bill{AccountID: "bacc_9"}, nil, sending(ledger.FormAccount)},
		{"account id and customer", billfile.Bill{AccountID: "bacc_9", CustomerReference: "C"}, nil, route{Do: routeAskAccount}},
		{"account id and its customer's id", billfile.Bill{AccountID: "bacc_9", CustomerID: "bcus_1"}, account("bacc_1", "bcus_1"), sending(ledger.FormAccount)},
		{"account id and another customer's id", billfile.Bill{AccountID: "bacc_9", CustomerID: "bcus_2"}, account("bacc_1", "bcus_1"), route{Do: routeMismatch}},
		{"customer id", billfile.Bill{CustomerID: "bcus_9"}, nil, sending(ledger.FormCustomer)},
		{"unknown account of a customer id", billfile.Bill{AccountReference: "A", CustomerID: "bcus_9"}, nil, route{Do: routeAskAccount}},
		{"account alone, unknown", billfile.Bill{AccountReference: "A"}, nil, route{Do: routeAskAccount}},
		{"account alone, known", billfile.Bill{AccountReference: "A"}, account("bacc_1", ""), sending(ledger.FormAccount)},
		{"account known without its owner", *bill("A", "C"), account("bacc_1", ""), route{Do: routeAskAccount}},
		{"account known, customer not", *bill("A", "C"), account("bacc_1", "bcus_1"), route{Do: routeAskCustomer}},
		{"customer known", *bill("", "C"), customer("bcus_1", before), sending(ledger.FormCustomer)},
		{"customer known from before, account not", *bill("A", "C"), customer("bcus_1", before), route{Do: routeAskAccount}},
		{"customer known from the moment before, account not", *bill("A", "C"), customer("bcus_1", start), route{Do: routeAskAccount}},
		{"customer known from this file, account not", *bill("A", "C"), customer("bcus_1", since), sending(ledger.FormNewAccount)},
		{"a customer's reference is not an account's", *bill("C", ""), customer("bcus_1", before), route{Do: routeAskAccount}},
	} {
		p := newParties()
		l := p.lease(&tt.bill)
		p.load(p.notLoaded([]*lease{l}), tt.known, recordedBefore(start))
		if r := p.acquire(l); !isReady(r) || l.route != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, l.route, tt.want)
		}
	}
}

// recordedBefore reports whether a party was recorded before a time.
func recordedBefore(start time.Time) func(ledger.Party) bool {
	return func(p ledger.Party) bool { return !p.Since.After(start) }
}
