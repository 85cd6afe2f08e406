package ledgertest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"billdrop/ingest/ledger"
)

// RunPayments holds an engine to the contract of ledger.Payments. open opens the payments in a
// directory, and may be called while others have them open.
func RunPayments(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, func(t *testing.T, dir string) ledger.Payments)
	}{
		{"ReceivedOnce", paymentsReceivedOnce},
		{"ReportsHaveEachOnce", paymentsReportedOnce},
		{"ReportsOneAtATime", paymentsOneReport},
		{"OneLeads", paymentsOneLeads},
		{"PartyBills", paymentsPartyBills},
		{"ListsAndSums", paymentsListed},
		{"TwoAtOnce", paymentsTwoAtOnce},
		{"Closed", paymentsClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

var payScope = ledger.Scope{Merchant: "acme", Mode: "test"}

// payment is the nth one. Its times are what every engine can keep.
func payment(n int) ledger.Payment {
	return ledger.Payment{ReceivedAt: time.UnixMicro(1_800_000_000_000_000 + int64(n)).UTC(), EventID: fmt.Sprintf("evt_%d", n), Type: "obligation.amount_applied",
		ObligationID: fmt.Sprintf("ob_%d", n), PaymentID: fmt.Sprintf("pay_%d", n), Currency: "ZAR", Amount: int64(100 + n), AccountID: "bacc_1"}
}

func mustReceive(t *testing.T, p ledger.Payments, s ledger.Scope, webhookID string, e ledger.Payment, repeated bool) {
	t.Helper()
	if got, err := p.Receive(t.Context(), s, webhookID, e); err != nil || got != repeated {
		t.Fatalf("Receive %s %s: repeated %v, %v; want %v", webhookID, e.EventID, got, err, repeated)
	}
}

func mustClose(t *testing.T, p ledger.Payments) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func unsettled(t *testing.T, p ledger.Payments) []ledger.Payment {
	t.Helper()
	last, err := p.Last(t.Context(), payScope)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.Unsettled(t.Context(), payScope, 0, last, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// paymentsReceivedOnce: once by webhook id, once by event id, and still so after it was opened
// again.
func paymentsReceivedOnce(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	dir := t.TempDir()
	p := open(t, dir)
	if list := unsettled(t, p); len(list) != 0 {
		t.Fatalf("a new store has %v", list)
	}
	mustReceive(t, p, payScope, "msg_1", payment(1), false)
	mustReceive(t, p, payScope, "msg_1", payment(1), true)
	mustReceive(t, p, payScope, "msg_2", payment(1), true) // the event again, under another id
	mustReceive(t, p, payScope, "msg_1", payment(2), true) // another event under the id of the first
	mustReceive(t, p, payScope, "msg_3", payment(3), false)
	other := ledger.Scope{Merchant: "other", Mode: "test"}
	mustReceive(t, p, other, "msg_1", payment(1), false)
	mustClose(t, p)
	p = open(t, dir)
	defer mustClose(t, p)
	mustReceive(t, p, payScope, "msg_3", payment(3), true)
	list := unsettled(t, p)
	if len(list) != 2 || list[0].EventID != "evt_1" || list[1].EventID != "evt_3" || list[0].Seq >= list[1].Seq {
		t.Fatalf("received %+v", list)
	}
	want := payment(3)
	want.Seq = list[1].Seq
	if list[1] != want {
		t.Errorf("got %+v, want %+v", list[1], want)
	}
}

// paymentsReportedOnce: a settled payment is in the report that was begun, and in no other.
func paymentsReportedOnce(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	defer mustClose(t, p)
	for n := range 5 {
		mustReceive(t, p, payScope, fmt.Sprint("msg_", n), payment(n), false)
	}
	list := unsettled(t, p)
	begun := time.UnixMicro(1_800_000_001_000_000).UTC()
	if err := p.BeginReport(t.Context(), payScope, ledger.PaymentReport{Name: "one.csv", UpTo: list[3].Seq, Begun: begun}); err != nil {
		t.Fatal(err)
	}
	due, paid := int64(2000), int64(104)
	settled := list[:2:2]
	settled[0].MatchedBy = ledger.ByNone
	settled[1].MatchedBy, settled[1].Reference, settled[1].BillID, settled[1].CustomerID = ledger.ByAccount, "B-1", "bill_1", "bcus_1"
	settled[1].State = ledger.BillMoney{Status: "unpaid", Due: &due, Paid: &paid}
	account := ledger.BillAccount{Reference: "B-1", Accounted: 104, PaidAt: begun}
	if err := p.Settle(t.Context(), payScope, "one.csv", settled, []ledger.BillAccount{account}); err != nil {
		t.Fatal(err)
	}
	if err := p.Settle(t.Context(), payScope, "one.csv", list[1:3], nil); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("a payment was settled twice: %v", err)
	}
	if rest, err := p.Unsettled(t.Context(), payScope, 0, list[3].Seq, 10); err != nil || len(rest) != 2 {
		t.Errorf("unsettled, up to the report: %+v, %v", rest, err)
	}
	if err := p.ComposedReport(t.Context(), payScope, "one.csv", "abc", 1); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("composed with a payment too few: %v", err)
	}
	if err := p.ComposedReport(t.Context(), payScope, "one.csv", "abc", 2); err != nil {
		t.Fatal(err)
	}
	if err := p.Settle(t.Context(), payScope, "one.csv", list[2:3], nil); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a composed report grew: %v", err)
	}
	if err := p.ComposedReport(t.Context(), payScope, "one.csv", "def", 2); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("composed twice: %v", err)
	}
	last, err := p.LastReport(t.Context(), payScope)
	if want := (ledger.PaymentReport{Name: "one.csv", UpTo: list[3].Seq, SHA256: "abc", Rows: 2, Begun: begun}); err != nil || last == nil || *last != want {
		t.Errorf("LastReport %+v, %v, want %+v", last, err, want)
	}
	got, err := p.Reported(t.Context(), payScope, "one.csv", 0, 10)
	if err != nil || len(got) != 2 {
		t.Fatalf("Reported %+v, %v", got, err)
	}
	if e := got[1]; e.Report != "one.csv" || e.Reference != "B-1" || e.MatchedBy != ledger.ByAccount || e.State.Status != "unpaid" ||
		*e.State.Due != 2000 || *e.State.Paid != 104 || e.State.Remaining != nil || e.CustomerID != "bcus_1" || e.AccountID != "bacc_1" {
		t.Errorf("settled as %+v", e)
	}
	if more, err := p.Reported(t.Context(), payScope, "one.csv", got[0].Seq, 10); err != nil || len(more) != 1 {
		t.Errorf("the second page: %+v, %v", more, err)
	}
	accounts, err := p.Accounts(t.Context(), payScope, []string{"B-1", "B-2"})
	if err != nil || len(accounts) != 1 || accounts["B-1"] != account {
		t.Errorf("Accounts %+v, %v", accounts, err)
	}
	at := begun.Add(time.Second)
	if err := p.PublishedReport(t.Context(), payScope, "one.csv", at); err != nil {
		t.Fatal(err)
	}
	if last, err := p.LastReport(t.Context(), payScope); err != nil || !last.Published.Equal(at) {
		t.Errorf("LastReport %+v, %v", last, err)
	}
	if err := p.Settle(t.Context(), payScope, "one.csv", list[2:3], nil); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a published report grew: %v", err)
	}
	if list := unsettled(t, p); len(list) != 3 {
		t.Errorf("%d are left", len(list))
	}
}

// paymentsOneReport: one report at a time, each name once.
func paymentsOneReport(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	defer mustClose(t, p)
	if last, err := p.LastReport(t.Context(), payScope); last != nil || err != nil {
		t.Fatalf("a new store has the report %+v, %v", last, err)
	}
	begin := func(name string) error {
		return p.BeginReport(t.Context(), payScope, ledger.PaymentReport{Name: name})
	}
	if err := begin("one.csv"); err != nil {
		t.Fatal(err)
	}
	if err := begin("two.csv"); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("a second report was begun: %v", err)
	}
	if err := p.DropReport(t.Context(), payScope, "one.csv"); err != nil {
		t.Fatal(err)
	}
	if err := begin("one.csv"); err != nil {
		t.Errorf("a name that was dropped: %v", err)
	}
	mustReceive(t, p, payScope, "msg_1", payment(1), false)
	list := unsettled(t, p)
	list[0].MatchedBy = ledger.ByNone
	if err := p.Settle(t.Context(), payScope, "one.csv", list, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.DropReport(t.Context(), payScope, "one.csv"); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("a report with a payment was dropped: %v", err)
	}
	if err := p.PublishedReport(t.Context(), payScope, "one.csv", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := begin("one.csv"); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("a name was used twice: %v", err)
	}
	if err := p.ComposedReport(t.Context(), payScope, "nosuch.csv", "", 0); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a report that was not begun: %v", err)
	}
}

// paymentsOneLeads: one at a time leads, until it gives the lead back or its time is over.
func paymentsOneLeads(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	defer mustClose(t, p)
	lead := func(holder string, lasts time.Duration, want bool) {
		t.Helper()
		if got, err := p.Lead(t.Context(), payScope, holder, lasts); got != want || err != nil {
			t.Errorf("%s leads: %v, %v, want %v", holder, got, err, want)
		}
	}
	lead("a", time.Hour, true)
	lead("b", time.Hour, false)
	lead("a", time.Hour, true)
	lead("a", 0, true)
	lead("b", time.Millisecond, true)
	for deadline := time.Now().Add(time.Minute); ; {
		got, err := p.Lead(t.Context(), payScope, "a", time.Hour)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the time of b is not over: %v", err)
		}
		if got {
			break
		}
	}
	lead("b", time.Hour, false)
	if got, err := p.Lead(t.Context(), ledger.Scope{Merchant: "other", Mode: "test"}, "b", time.Hour); !got || err != nil {
		t.Errorf("another merchant: %v, %v", got, err)
	}
}

func paymentsPartyBills(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	defer mustClose(t, p)
	var bills []ledger.PartyBill
	for _, ref := range []string{"B-3", "B-1", "B-2", "B-1"} {
		bills = append(bills, ledger.PartyBill{PartyID: "bacc_1", Reference: ref})
	}
	bills = append(bills, ledger.PartyBill{PartyID: "bcus_1", Reference: "C-1"})
	if err := p.AddPartyBills(t.Context(), payScope, bills, "f1", "1024"); err != nil {
		t.Fatal(err)
	}
	if mark, err := p.Mark(t.Context(), payScope, "f1"); mark != "1024" || err != nil {
		t.Errorf("mark %q, %v", mark, err)
	}
	if err := p.AddPartyBills(t.Context(), payScope, bills[:1], "f1", "done"); err != nil {
		t.Fatal(err)
	}
	if mark, err := p.Mark(t.Context(), payScope, "f1"); mark != "done" || err != nil {
		t.Errorf("mark %q, %v", mark, err)
	}
	check := func(limit int, open, last string) {
		t.Helper()
		gotOpen, gotLast, err := p.PartyBills(t.Context(), payScope, "bacc_1", limit)
		if fmt.Sprint(gotOpen) != open || gotLast != last || err != nil {
			t.Errorf("PartyBills %v, %q, %v; want %s, %q", gotOpen, gotLast, err, open, last)
		}
	}
	check(10, "[B-1 B-2 B-3]", "")
	check(2, "[B-1 B-2]", "")
	if err := p.BeginReport(t.Context(), payScope, ledger.PaymentReport{Name: "one.csv"}); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMicro(1_800_000_000_000_000).UTC()
	err := p.Settle(t.Context(), payScope, "one.csv", nil, []ledger.BillAccount{
		{Reference: "B-1", Accounted: 1, Closed: true, PaidAt: at}, {Reference: "B-2", Closed: true, PaidAt: at.Add(time.Second)}, {Reference: "B-3", Closed: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	check(10, "[]", "B-2")
}

func paymentsListed(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	defer mustClose(t, p)
	for n := range 4 {
		mustReceive(t, p, payScope, fmt.Sprint("msg_", n), payment(n), false)
	}
	list := unsettled(t, p)
	if err := p.BeginReport(t.Context(), payScope, ledger.PaymentReport{Name: "one.csv", UpTo: list[0].Seq}); err != nil {
		t.Fatal(err)
	}
	list[0].MatchedBy, list[0].Reference = ledger.ByBill, "B-1"
	if err := p.Settle(t.Context(), payScope, "one.csv", list[:1], nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q    ledger.PaymentQuery
		want string
	}{
		{ledger.PaymentQuery{}, "[evt_3 evt_2 evt_1 evt_0]"},
		{ledger.PaymentQuery{Limit: 2}, "[evt_3 evt_2]"},
		{ledger.PaymentQuery{Reference: "B-1"}, "[evt_0]"},
		{ledger.PaymentQuery{Reference: "b-1"}, "[]"},
		{ledger.PaymentQuery{Since: payment(2).ReceivedAt}, "[evt_3 evt_2]"},
	} {
		found, err := p.List(t.Context(), payScope, c.q)
		ids := make([]string, len(found))
		for i := range found {
			ids[i] = found[i].EventID
		}
		if fmt.Sprint(ids) != c.want || err != nil {
			t.Errorf("%+v: %v, %v, want %s", c.q, ids, err, c.want)
		}
	}
	sums, err := p.Sums(t.Context(), payScope)
	if err != nil || sums.By[ledger.ByBill] != 1 || len(sums.By) != 1 || sums.Amounts["ZAR"] != 100+101+102+103 || sums.Unreported != 4 || !sums.Oldest.Equal(payment(0).ReceivedAt) {
		t.Errorf("Sums %+v, %v", sums, err)
	}
	if err := p.PublishedReport(t.Context(), payScope, "one.csv", time.Now()); err != nil {
		t.Fatal(err)
	}
	if sums, err := p.Sums(t.Context(), payScope); err != nil || sums.By[ledger.ByBill] != 1 || sums.Unreported != 3 || !sums.Oldest.Equal(payment(1).ReceivedAt) {
		t.Errorf("Sums, once it is published: %+v, %v", sums, err)
	}
}

// paymentsTwoAtOnce: two that have the payments open receive and settle at once, and nothing is
// lost or doubled.
func paymentsTwoAtOnce(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	dir := t.TempDir()
	stores := make([]ledger.Payments, 2)
	var opening sync.WaitGroup
	for i := range stores { // the first opening makes them
		opening.Go(func() { stores[i] = open(t, dir) })
	}
	opening.Wait()
	if t.Failed() {
		t.FailNow()
	}
	defer mustClose(t, stores[0])
	defer mustClose(t, stores[1])
	const senders, each = 8, 40
	var mu sync.Mutex
	added := 0
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			for n := range each {
				for _, p := range []ledger.Payments{stores[s%2], stores[(s+1)%2]} {
					repeated, err := p.Receive(t.Context(), payScope, fmt.Sprint("msg_", n), payment(n))
					if err != nil {
						t.Error(err)
						return
					}
					if !repeated {
						mu.Lock()
						added++
						mu.Unlock()
					}
				}
			}
		})
	}
	sending.Wait()
	if list := unsettled(t, stores[1]); added != each || len(list) != each {
		t.Errorf("%d were new, %d are there, want %d", added, len(list), each)
	}
}

func paymentsClosed(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	mustClose(t, p)
	mustClose(t, p)
	if _, err := p.Receive(t.Context(), payScope, "msg_1", payment(1)); !errors.Is(err, ledger.ErrUnusable) {
		t.Errorf("received after it was closed: %v", err)
	}
}
