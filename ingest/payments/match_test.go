package payments

import (
	"fmt"
	"strings"
	"testing"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

// matched is what the lines of a report say of each payment: how it was matched, and the bill.
func matched(lines []map[string]string) string {
	var words []string
	for _, l := range lines {
		words = append(words, strings.TrimSuffix(l["matched_by"]+":"+l["bill_reference"], ":"))
	}
	return strings.Join(words, " ")
}

// TestMatching goes through the rules.
func TestMatching(t *testing.T) {
	const bill, account, customer, link = emulator.AsBill, emulator.AsAccount, emulator.AsCustomer, emulator.AsPaymentRequest
	type step struct {
		reference string
		amount    int64
		as        string
	}
	for _, tc := range []struct {
		name    string
		bills   []string // reference/account, or reference//customer
		reports [][]step // what is paid before each report
		want    []string // of each report
	}{
		{"by bill", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-2", 100, bill}}}, []string{"bill_id:B-2"}},
		{"by link", []string{"B-1/A-1"}, [][]step{{{"B-1", 0, link}}}, []string{"payment_request:B-1"}},
		{"the only bill of an account", []string{"B-1/A-1", "B-2/A-2"}, [][]step{{{"B-1", 100, account}}}, []string{"account_id:B-1"}},
		{"the only bill of a customer", []string{"B-1//C-1", "B-2/A-2"}, [][]step{{{"B-1", 100, customer}}}, []string{"customer_id:B-1"}},
		{"of several, the one that grew", []string{"B-1/A-1", "B-2/A-1", "B-3/A-1"}, [][]step{{{"B-2", 100, account}}}, []string{"account_id:B-2"}},
		{"paid in parts", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-2", 100, account}}, {{"B-2", 100, account}}, {{"B-1", 50, account}}},
			[]string{"account_id:B-2", "account_id:B-2", "account_id:B-1"}},
		{"one was paid off earlier, so one is open", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-1", 1000, account}}, {{"B-2", 100, account}}},
			[]string{"account_id:B-1", "account_id:B-2"}},
		{"paid off now, beside an open one", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-2", 1000, account}}}, []string{"account_id:B-2"}},
		{"two payments of different amounts at once", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-1", 100, account}, {"B-2", 200, account}}},
			[]string{"account_id:B-1 account_id:B-2"}},
		{"two of the same amount at once", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-1", 100, account}, {"B-2", 100, account}}}, []string{"several several"}},
		{"and what comes after that is clear", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-1", 100, account}, {"B-2", 100, account}}, {{"B-2", 100, account}}},
			[]string{"several several", "account_id:B-2"}},
		{"what a bill is known to have got does not count", []string{"B-1/A-1", "B-2/A-1"}, [][]step{{{"B-2", 100, account}, {"B-1", 100, bill}}},
			[]string{"account_id:B-2 bill_id:B-1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			for _, b := range tc.bills {
				parts := append(strings.Split(b, "/"), "", "")
				made := w.bill(parts[0], parts[1], parts[2], false)
				if a := w.client().CreatePaymentRequest(t.Context(), "link-"+parts[0], parts[0], client.EncodePaymentRequest(client.PaymentRequestBody{
					Amount: 1000, Currency: "ZAR", ExternalReference: parts[0], Metadata: map[string]string{"bill": made.ID}})); a.Kind != client.Created {
					t.Fatal(a.Kind, a.Err)
				}
			}
			w.done()
			for i, steps := range tc.reports {
				var sent []string
				for _, s := range steps {
					sent = append(sent, w.pay(s.reference, s.amount, s.as))
				}
				lines := w.report()
				if got := matched(lines); got != tc.want[i] {
					t.Errorf("report %d: %s, want %s", i, got, tc.want[i])
				}
				for n, l := range lines {
					b := w.api.Bills(steps[n].reference)[0]
					if l["event_id"] != sent[n] {
						t.Errorf("line %d is about %s, want %s", n, l["event_id"], sent[n])
					}
					if l["bill_reference"] == "" {
						if l["bill_status"]+l["bill_amount_due"]+l["bill_amount_paid"]+l["bill_amount_remaining"] != "" || l["account_id"] != b.AccountID {
							t.Errorf("line without a bill: %v", l)
						}
						continue
					}
					if l["bill_id"] != b.ID || l["account_id"] != b.AccountID || l["customer_id"] != b.CustomerID || l["bill_status"] != b.Status ||
						l["bill_amount_due"] != "1000" || l["bill_amount_paid"] != fmt.Sprint(b.AmountPaid) || l["bill_amount_remaining"] != fmt.Sprint(b.AmountRemaining) {
						t.Errorf("line %v, bill %+v", l, b)
					}
				}
			}
		})
	}
}

// Ids that nothing is known of are reported as none; while a file is being sent they wait, and
// so does a payment of a bill whose answer is not recorded yet.
func TestUnknownIDsWait(t *testing.T) {
	for _, as := range []string{emulator.AsBill, emulator.AsAccount} {
		t.Run(as, func(t *testing.T) {
			w := newWorld(t)
			w.bill("B-1", "A-1", "", false)
			early := w.bill("B-2", "A-2", "", true)
			w.pay("B-2", 100, as) // before the bill's own answer is recorded
			w.receive(ledger.Payment{EventID: "evt_x", Type: client.AmountApplied, ObligationID: "ob_x", Currency: "ZAR", Amount: 1, BillID: "bill_x"})
			w.receive(ledger.Payment{EventID: "evt_y", Type: client.AmountApplied, ObligationID: "ob_y", Currency: "ZAR", Amount: 1, AccountID: "bacc_y"})
			w.receive(ledger.Payment{EventID: "evt_z", Type: client.AmountApplied, ObligationID: "ob_z", Currency: "ZAR", Amount: 1})
			if lines := w.report(); len(lines) != 0 {
				t.Fatalf("reported while the file is sent: %v", lines)
			}
			w.pay("B-1", 100, as)
			if got := matched(w.report()); got != as+":B-1" {
				t.Errorf("a known one beside them: %s", got)
			}
			w.record(early)
			w.done()
			if got := matched(w.report()); got != as+":B-2 none none none" {
				t.Errorf("once it was sent: %s", got)
			}
			if lines := w.report(); lines != nil {
				t.Errorf("reported again: %v", lines)
			}
		})
	}
}

// A bill of an account that is not recorded yet is not confused with an older one that is open.
func TestNewerBillOfAnAccount(t *testing.T) {
	w := newWorld(t)
	w.bill("B-1", "A-1", "", false)
	newer := w.bill("B-2", "A-1", "", true)
	w.pay("B-2", 100, emulator.AsAccount)
	if lines := w.report(); lines != nil {
		t.Errorf("reported as %s", matched(lines))
	}
	w.record(newer)
	w.done()
	if got := matched(w.report()); got != "account_id:B-2" {
		t.Errorf("reported as %s", got)
	}
}

// An account with many bills that were paid before anything was received: it takes a few payments
// until all of them are accounted for, and never more than a few requests for one.
func TestManyOldBills(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		ref := fmt.Sprintf("B-%02d", i)
		w.bill(ref, "A-1", "", false)
		if i < 29 {
			if _, err := w.api.Pay(ref, 0, emulator.AsBill); err != nil { // nothing is received of it
				t.Fatal(err)
			}
		}
	}
	w.done()
	var got []string
	for range 4 {
		before := w.api.State().Gets
		w.pay("B-29", 10, emulator.AsAccount)
		got = append(got, matched(w.report()))
		if gets := w.api.State().Gets - before; gets > maxCandidates {
			t.Errorf("%d requests for one payment", gets)
		}
	}
	if last := got[len(got)-1]; last != "account_id:B-29" || got[0] != "several" {
		t.Errorf("%v", got)
	}
}

// Of bills that are all paid, the one that was paid last is taken.
func TestNoneIsOpen(t *testing.T) {
	w := newWorld(t)
	for _, ref := range []string{"B-1", "B-2", "B-3"} {
		w.bill(ref, "A-1", "", false)
	}
	w.done()
	for _, ref := range []string{"B-1", "B-3", "B-2"} {
		w.pay(ref, 1000, emulator.AsAccount)
		w.report()
	}
	w.receive(ledger.Payment{EventID: "evt_more", Type: client.AmountApplied, ObligationID: "ob_more", Currency: "ZAR", Amount: 5, AccountID: w.api.Bills("B-1")[0].AccountID})
	if got := matched(w.report()); got != "account_id:B-2" {
		t.Errorf("reported as %s", got)
	}
}
