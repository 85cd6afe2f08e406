package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/ledger/postgres"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// openPayments opens the payments at url; the caller closes them.
func openPayments(t testing.TB, url string) *postgres.Payments {
	t.Helper()
	p, err := postgres.OpenPayments(t.Context(), url, postgres.Options{Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPaymentsConformance(t *testing.T) {
	server := pgtest.Start(t)
	var urls sync.Map // directory → URL of its database
	var making sync.Mutex
	ledgertest.RunPayments(t, func(t *testing.T, dir string) ledger.Payments {
		t.Helper()
		making.Lock()
		url, ok := urls.Load(dir)
		if !ok {
			url = server.Database(t)
			urls.Store(dir, url)
		}
		making.Unlock()
		return openPayments(t, url.(string))
	})
}

// received is a payment of a test.
func received(n int) ledger.Payment {
	return ledger.Payment{ReceivedAt: time.UnixMicro(1_800_000_000_000_000 + int64(n)).UTC(), EventID: fmt.Sprint("evt_", n), Type: "obligation.amount_applied",
		Currency: "ZAR", Amount: 100}
}

// TestReceiveCutOff: an answer that was lost on the way does not lose a payment, nor double one; a
// server that is away is waited for.
func TestReceiveCutOff(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t)
	r, url := newRelay(t, database)
	p := openPayments(t, url)
	defer p.Close()
	if _, err := p.Receive(t.Context(), scope, "msg_0", received(0)); err != nil {
		t.Fatal(err)
	}
	r.set(func() { r.lose = true })
	if _, err := p.Receive(t.Context(), scope, "msg_1", received(1)); err != nil {
		t.Errorf("Receive whose answer was lost: %v", err)
	}
	list, err := p.Unsettled(t.Context(), scope, 0, 100, 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	begun := ledger.PaymentReport{Name: "one.csv", UpTo: list[1].Seq, Begun: received(9).ReceivedAt}
	list[0].MatchedBy, list[1].MatchedBy = ledger.ByNone, ledger.ByNone
	for _, c := range []struct {
		name  string
		write func() error
	}{
		{"BeginReport", func() error { return p.BeginReport(t.Context(), scope, begun) }},
		{"Settle", func() error { return p.Settle(t.Context(), scope, begun.Name, list, nil) }},
		{"ComposedReport", func() error { return p.ComposedReport(t.Context(), scope, begun.Name, "abc", 2) }},
		{"PublishedReport", func() error { return p.PublishedReport(t.Context(), scope, begun.Name, time.Now()) }},
	} {
		r.set(func() { r.lose = true })
		if err := c.write(); err != nil {
			t.Errorf("%s whose answer was lost: %v", c.name, err)
		}
	}
	last, err := p.LastReport(t.Context(), scope)
	if err != nil || last == nil || last.SHA256 != "abc" || last.Rows != 2 || last.Published.IsZero() {
		t.Errorf("LastReport %+v, %v", last, err)
	}
}

// TestPaymentsReadOnly: they need a ledger, which a reader does not make.
func TestPaymentsReadOnly(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	if _, err := postgres.OpenPayments(t.Context(), url, postgres.Options{ReadOnly: true}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("read before there is a ledger: %v", err)
	}
	p := openPayments(t, url)
	defer p.Close()
	ro, err := postgres.OpenPayments(t.Context(), url, postgres.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if _, err := p.Receive(t.Context(), scope, "msg_1", received(1)); err != nil {
		t.Fatal(err)
	}
	if list, err := ro.List(t.Context(), scope, ledger.PaymentQuery{}); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
