package delivery

import (
	"testing"

	"billdrop/ingest/ledger"
)

func TestChooseRoute(t *testing.T) {
	both := partyFacts{NamesAccount: true, NamesCustomer: true}
	with := func(f partyFacts, change func(*partyFacts)) partyFacts { change(&f); return f }
	known := with(both, func(f *partyFacts) { f.AccountID, f.Owner = "bacc_1", "bcus_1" })
	for _, tt := range []struct {
		name string
		f    partyFacts
		want route
	}{
		{"customer alone, unknown", partyFacts{NamesCustomer: true}, sending(ledger.FormNewCustomer)},
		{"customer alone, known", partyFacts{NamesCustomer: true, CustomerID: "bcus_1"}, sending(ledger.FormCustomer)},
		{"account alone, unknown", partyFacts{NamesAccount: true}, route{Do: routeAskAccount}},
		{"account alone, not there", partyFacts{NamesAccount: true, AccountAsked: true}, route{Do: routeUnknownAccount}},
		{"account alone, known", partyFacts{NamesAccount: true, AccountID: "bacc_1"}, sending(ledger.FormAccount)},
		{"neither known", both, sending(ledger.FormNewAccountCustomer)},
		{"neither known, the account asked for", with(both, func(f *partyFacts) { f.AccountAsked = true }), sending(ledger.FormNewAccountCustomer)},
		{"customer of this file, account unknown", with(both, func(f *partyFacts) { f.CustomerID = "bcus_1" }), sending(ledger.FormNewAccount)},
		{"customer of before, account unknown", with(both, func(f *partyFacts) { f.CustomerID, f.CustomerOld = "bcus_1", true }), route{Do: routeAskAccount}},
		{"customer of before, account not there", with(both, func(f *partyFacts) { f.CustomerID, f.CustomerOld, f.AccountAsked = "bcus_1", true, true }), sending(ledger.FormNewAccount)},
		{"owner unknown", with(both, func(f *partyFacts) { f.AccountID, f.CustomerID = "bacc_1", "bcus_1" }), route{Do: routeAskAccount}},
		{"owner not told", with(both, func(f *partyFacts) { f.AccountID, f.CustomerID, f.AccountAsked = "bacc_1", "bcus_1", true }), sending(ledger.FormAccount)},
		{"owner not told, customer unknown", with(both, func(f *partyFacts) { f.AccountID, f.AccountAsked = "bacc_1", true }), route{Do: routeAskCustomer}},
		{"owner not told, customer not there", with(both, func(f *partyFacts) { f.AccountID, f.AccountAsked, f.CustomerAsked = "bacc_1", true, true }), sending(ledger.FormAccount)},
		{"customer unknown", known, route{Do: routeAskCustomer}},
		{"customer not there", with(known, func(f *partyFacts) { f.CustomerAsked = true }), route{Do: routeMismatch}},
		{"the owner", with(known, func(f *partyFacts) { f.CustomerID = "bcus_1" }), sending(ledger.FormAccount)},
		{"another customer", with(known, func(f *partyFacts) { f.CustomerID = "bcus_2" }), route{Do: routeMismatch}},
		{"another customer, of before", with(known, func(f *partyFacts) { f.CustomerID, f.CustomerOld = "bcus_2", true }), route{Do: routeMismatch}},
	} {
		if got := chooseRoute(tt.f); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// Whatever is known, a pair is sent on a known account only if the owner is the row's customer or
// cannot be found out, and at most two questions are asked.
func TestChooseRouteNeverBillsAnother(t *testing.T) {
	for _, id := range []string{"", "bacc_1"} {
		for _, owner := range []string{"", "bcus_1"} {
			for _, customer := range []string{"", "bcus_1", "bcus_2"} {
				for bits := range 8 {
					f := partyFacts{
						NamesAccount: true, NamesCustomer: true, AccountID: id, Owner: owner, CustomerID: customer,
						AccountAsked: bits&1 > 0, CustomerAsked: bits&2 > 0, CustomerOld: bits&4 > 0,
					}
					if id == "" && owner != "" {
						continue
					}
					r := chooseRoute(f)
					if r == sending(ledger.FormAccount) && owner != customer && owner != "" {
						t.Errorf("%+v: sent on another customer's account", f)
					}
					if r.Do == routeAskAccount && f.AccountAsked || r.Do == routeAskCustomer && f.CustomerAsked {
						t.Errorf("%+v: asked twice", f)
					}
					if r.Form.NestsAccount() && id != "" || r.Form.NestsCustomer() && customer != "" {
						t.Errorf("%+v: nests what is known", f)
					}
				}
			}
		}
	}
}
