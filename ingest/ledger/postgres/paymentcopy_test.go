package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
	"billdrop/ingest/ledger/sqlite"
)

// fillPayments records something of each kind: a published report, one that is composed,
// payments in none, accounts of bills, and which bills parties have; also of a merchant that
// has no bill.
func fillPayments(t *testing.T, p ledger.Payments) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := time.UnixMicro(1_800_000_000_123_456).UTC()
	for n := range 3000 {
		_, err := p.Receive(t.Context(), scope, fmt.Sprint("msg_", n), received(n))
		check(err)
	}
	_, err := p.Receive(t.Context(), ledger.Scope{Merchant: "paid alone", Mode: "live"}, "msg \xff", received(1))
	check(err)
	due, paid := int64(2000), int64(100)
	for i, name := range []string{"one.csv", "two.csv"} {
		list, err := p.Unsettled(t.Context(), scope, 0, 1<<40, 2)
		check(err)
		check(p.BeginReport(t.Context(), scope, ledger.PaymentReport{Name: name, UpTo: list[1].Seq, Begun: at.Add(time.Duration(i) * time.Hour)}))
		list[0].MatchedBy, list[1].MatchedBy, list[1].Reference = ledger.ByNone, ledger.ByAccount, "B-1"
		list[1].BillID, list[1].State = "bill_1", ledger.BillMoney{Status: "unpaid", Due: &due, Paid: &paid}
		check(p.Settle(t.Context(), scope, name, list, []ledger.BillAccount{{Reference: "B-1", Accounted: 100, PaidAt: at}}))
		check(p.ComposedReport(t.Context(), scope, name, "abc", 2))
		if i == 0 {
			check(p.PublishedReport(t.Context(), scope, name, at))
		}
	}
	check(p.AddPartyBills(t.Context(), scope, []ledger.PartyBill{{PartyID: "bacc_1", Reference: "B-1"}, {PartyID: "bcus_1", Reference: "B-2"}}, "f1", "row 7"))
}

// TestCopyPayments: payments go from one engine to the other and back, and are the same.
func TestCopyPayments(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	type side struct {
		ledger.Store
		payments ledger.PaymentStore
	}
	file := func() side {
		path := filepath.Join(t.TempDir(), "ledger.db")
		l, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		p, err := sqlite.OpenPayments(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return side{l, p}
	}
	first, last := file(), file()
	l := open(t, url)
	t.Cleanup(func() { l.Close() })
	database := side{l, openPayments(t, url)}
	t.Cleanup(func() { database.payments.Close() })
	fillPayments(t, first.payments)
	whole := func(s side) ledger.Store { return ledger.WithPayments(s.Store, s.payments) }
	rows := func(s side) (lines []string) {
		err := whole(s).Export(t.Context(), func(r ledger.Row) error {
			if p, ok := r.(ledger.PaymentRow); ok { // whose amounts are pointers
				lines = append(lines, fmt.Sprintf("%+v %v %v", p.Payment.State.Status, p.Payment.State.Due != nil && *p.Payment.State.Due == 2000, p.WebhookID))
				p.Payment.State = ledger.BillMoney{}
				lines = append(lines, fmt.Sprintf("%+v", p))
				return nil
			}
			lines = append(lines, fmt.Sprintf("%T %+v", r, r))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(lines)
		return lines
	}
	for _, step := range []struct{ from, to side }{{first, database}, {database, last}} {
		counts, err := ledger.Copy(t.Context(), whole(step.from), whole(step.to))
		if want := (ledger.Counts{Payments: 3001, PaymentReports: 2, BillAccounts: 1, PartyBills: 2, PartyReads: 1, Scopes: 2, Totals: 1}); err != nil || counts != want {
			t.Fatalf("copied %+v, %v, want %+v", counts, err, want)
		}
		if want, got := rows(step.from), rows(step.to); !slices.Equal(want, got) {
			t.Errorf("the copy has %d rows, the ledger %d, or they differ", len(got), len(want))
		}
		// The copy goes on where the store was.
		if repeated, err := step.to.payments.Receive(t.Context(), scope, "msg_7", received(7)); err != nil || !repeated {
			t.Errorf("what was received before: %v, %v", repeated, err)
		}
		report, err := step.to.payments.LastReport(t.Context(), scope)
		if err != nil || report.Name != "two.csv" || report.SHA256 != "abc" || !report.Published.IsZero() {
			t.Errorf("LastReport %+v, %v", report, err)
		}
	}
	if _, err := database.payments.Receive(t.Context(), scope, "msg_new", received(5000)); err != nil {
		t.Errorf("received in the copy: %v", err)
	}
	if _, err := ledger.Copy(t.Context(), whole(first), whole(last)); !errors.Is(err, ledger.ErrExists) {
		t.Errorf("Copy into payments that hold something: %v, want ErrExists", err)
	}
}

// receiving is a Store whose payments grow while they are copied, as beside a receiver.
type receiving struct {
	ledger.PaymentStore
	t *testing.T
}

func (r receiving) Export(ctx context.Context, put func(ledger.Row) error) error {
	err := r.PaymentStore.Export(ctx, put)
	if _, err := r.Receive(ctx, scope, "msg_late", received(9000)); err != nil {
		r.t.Error(err)
	}
	return err
}

// TestCopyBesideReceiver: a copy without the latest payment is not finished.
func TestCopyBesideReceiver(t *testing.T) {
	server := pgtest.Start(t)
	from, to := server.Database(t), server.Database(t)
	a, b := open(t, from), open(t, to)
	t.Cleanup(func() { a.Close() })
	t.Cleanup(func() { b.Close() })
	p, q := openPayments(t, from), openPayments(t, to)
	t.Cleanup(func() { p.Close() })
	t.Cleanup(func() { q.Close() })
	_, err := ledger.Copy(t.Context(), ledger.WithPayments(a, receiving{p, t}), ledger.WithPayments(b, q))
	if !errors.Is(err, ledger.ErrInUse) {
		t.Errorf("Copy while a payment was received: %v, want ErrInUse", err)
	}
	if _, err := postgres.Open(t.Context(), to, postgres.Options{}); err == nil {
		t.Error("the copy can be opened")
	}
}
