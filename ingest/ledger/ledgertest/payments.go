package ledgertest

import (
	"fmt"
	"slices"
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
		{"PartyBills", paymentsPartyBills},
		{"ListsAndSums", paymentsListed},
		{"SumsByTime", paymentsByTime},
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
	ok(t, "Close", p.Close())
}

func unsettled(t *testing.T, p ledger.Payments) []ledger.Payment {
	t.Helper()
	last, err := p.Last(t.Context(), payScope)
	ok(t, "Last", err)
	list, err := p.Unsettled(t.Context(), payScope, 0, last, 1000)
	ok(t, "Unsettled", err)
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
	ok(t, "BeginReport", p.BeginReport(t.Context(), payScope, ledger.PaymentReport{Name: "one.csv", UpTo: list[3].Seq, Begun: begun}))
	due, paid := int64(2000), int64(104)
	settled := list[:2:2]
	settled[0].MatchedBy = ledger.ByNone
	settled[1].MatchedBy, settled[1].Reference, settled[1].BillID, settled[1].CustomerID = ledger.ByAccount, "B-1", "bill_1", "bcus_1"
	settled[1].State = ledger.BillMoney{Status: "unpaid", Due: &due, Paid: &paid}
	account := ledger.BillAccount{Reference: "B-1", Accounted: 104, PaidAt: begun}
	ok(t, "Settle", p.Settle(t.Context(), payScope, "one.csv", settled, []ledger.BillAccount{account}))
	refused(t, "a payment was settled twice", p.Settle(t.Context(), payScope, "one.csv", list[1:3], nil), ledger.ErrExists)
	if rest, err := p.Unsettled(t.Context(), payScope, 0, list[3].Seq, 10); err != nil || len(rest) != 2 {
		t.Errorf("unsettled, up to the report: %+v, %v", rest, err)
	}
	refused(t, "a report was composed without one of its payments", p.ComposedReport(t.Context(), payScope, "one.csv", "abc", 1), ledger.ErrExists)
	ok(t, "ComposedReport", p.ComposedReport(t.Context(), payScope, "one.csv", "abc", 2))
	refused(t, "a composed report was composed otherwise", p.ComposedReport(t.Context(), payScope, "one.csv", "other", 3), ledger.ErrExists)
	refused(t, "a composed report grew", p.Settle(t.Context(), payScope, "one.csv", list[2:3], nil), ledger.ErrNotFound)
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
	ok(t, "PublishedReport", p.PublishedReport(t.Context(), payScope, "one.csv", at))
	if last, err := p.LastReport(t.Context(), payScope); err != nil || !last.Published.Equal(at) {
		t.Errorf("LastReport %+v, %v", last, err)
	}
	refused(t, "a published report grew", p.Settle(t.Context(), payScope, "one.csv", list[2:3], nil), ledger.ErrNotFound)
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
	ok(t, "BeginReport", begin("one.csv"))
	refused(t, "a second report was begun", begin("two.csv"), ledger.ErrExists)
	ok(t, "DropReport", p.DropReport(t.Context(), payScope, "one.csv"))
	if err := begin("one.csv"); err != nil {
		t.Errorf("a name that was dropped: %v", err)
	}
	mustReceive(t, p, payScope, "msg_1", payment(1), false)
	list := unsettled(t, p)
	list[0].MatchedBy = ledger.ByNone
	ok(t, "Settle", p.Settle(t.Context(), payScope, "one.csv", list, nil))
	refused(t, "a report with a payment was dropped", p.DropReport(t.Context(), payScope, "one.csv"), ledger.ErrExists)
	ok(t, "PublishedReport", p.PublishedReport(t.Context(), payScope, "one.csv", time.Now()))
	refused(t, "a name was used twice", begin("one.csv"), ledger.ErrExists)
	refused(t, "a report that was not begun", p.ComposedReport(t.Context(), payScope, "nosuch.csv", "", 0), ledger.ErrNotFound)
}

func paymentsPartyBills(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	defer mustClose(t, p)
	var bills []ledger.PartyBill
	for _, ref := range []string{"B-3", "B-1", "B-2", "B-1"} {
		bills = append(bills, ledger.PartyBill{PartyID: "bacc_1", Reference: ref})
	}
	bills = append(bills, ledger.PartyBill{PartyID: "bcus_1", Reference: "C-1"})
	ok(t, "AddPartyBills", p.AddPartyBills(t.Context(), payScope, bills, "f1", "1024"))
	if mark, err := p.Mark(t.Context(), payScope, "f1"); mark != "1024" || err != nil {
		t.Errorf("mark %q, %v", mark, err)
	}
	ok(t, "AddPartyBills", p.AddPartyBills(t.Context(), payScope, bills[:1], "f1", "done"))
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
	ok(t, "BeginReport", p.BeginReport(t.Context(), payScope, ledger.PaymentReport{Name: "one.csv"}))
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
	ok(t, "BeginReport", p.BeginReport(t.Context(), payScope, ledger.PaymentReport{Name: "one.csv", UpTo: list[0].Seq}))
	list[0].MatchedBy, list[0].Reference = ledger.ByBill, "B-1"
	ok(t, "Settle", p.Settle(t.Context(), payScope, "one.csv", list[:1], nil))
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
	ok(t, "PublishedReport", p.PublishedReport(t.Context(), payScope, "one.csv", time.Now()))
	if sums, err := p.Sums(t.Context(), payScope); err != nil || sums.By[ledger.ByBill] != 1 || sums.Unreported != 3 || !sums.Oldest.Equal(payment(1).ReceivedAt) {
		t.Errorf("Sums, once it is published: %+v, %v", sums, err)
	}
}

// paymentsByTime: sums by quarters of an hour, and then of what is new alone.
func paymentsByTime(t *testing.T, open func(t *testing.T, dir string) ledger.Payments) {
	p := open(t, t.TempDir())
	defer mustClose(t, p)
	base := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	receive := func(n int, after time.Duration, currency string, amount int64) {
		e := payment(n)
		e.ReceivedAt, e.Currency, e.Amount = base.Add(after), currency, amount
		mustReceive(t, p, payScope, fmt.Sprint("msg_", n), e, false)
	}
	check := func(after int64, since time.Duration, want ...ledger.PaidSum) int64 {
		t.Helper()
		sums, last, err := p.PaidSince(t.Context(), payScope, after, base.Add(since))
		if !slices.Equal(sums, want) || err != nil {
			t.Errorf("PaidSince(%d, %v): %+v, %v, want %+v", after, since, sums, err, want)
		}
		return last
	}
	if last := check(0, 0); last != 0 {
		t.Errorf("a new store has a payment %d", last)
	}
	receive(1, 0, "ZAR", 100)
	receive(2, 15*time.Minute-time.Millisecond, "ZAR", 200)
	receive(3, 15*time.Minute, "ZAR", 400)
	receive(4, 15*time.Minute, "USD", 5)
	mustReceive(t, p, ledger.Scope{Merchant: "other", Mode: "test"}, "msg_1", payment(1), false)
	first, second := ledger.PaidSum{At: base, Currency: "ZAR", Payments: 2, Amount: 300}, ledger.PaidSum{At: base.Add(15 * time.Minute), Currency: "ZAR", Payments: 1, Amount: 400}
	dollars := ledger.PaidSum{At: second.At, Currency: "USD", Payments: 1, Amount: 5}
	last := check(0, 0, first, dollars, second)
	check(0, 15*time.Minute, dollars, second)
	if again := check(last, 0); again != last {
		t.Errorf("nothing is new, and the latest payment is %d, before %d", again, last)
	}
	receive(5, time.Hour, "ZAR", 1)
	check(last, 0, ledger.PaidSum{At: base.Add(time.Hour), Currency: "ZAR", Payments: 1, Amount: 1})
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
	refused(t, "received after it was closed", errOf(p.Receive(t.Context(), payScope, "msg_1", payment(1))), ledger.ErrUnusable)
}
