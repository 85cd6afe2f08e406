package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// PaymentStore is what an engine offers beside Payments to those who copy them. Rows are
// handed out and taken in this order: PaymentReportRow (in the order in which reports were
// begun), PaymentRow, BillAccountRow, PartyBillRow, PartyReadRow.
type PaymentStore interface {
	Payments
	// State returns a text that differs once anything was received or reported in between.
	State(ctx context.Context) (string, error)
	// Export hands out every row, all as they are at one moment.
	Export(ctx context.Context, put func(Row) error) error
	// Import fills the store with the rows that export hands out. ErrExists unless it is empty.
	Import(ctx context.Context, export func(put func(Row) error) error) error
}

// Rows of payments.
type (
	PaymentReportRow struct {
		Scope  Scope
		Report PaymentReport
	}
	PaymentRow struct {
		Scope     Scope
		WebhookID string
		Payment   Payment
	}
	BillAccountRow struct {
		Scope   Scope
		Account BillAccount
	}
	PartyBillRow struct {
		Scope Scope
		Bill  PartyBill
	}
	// PartyReadRow is a mark of AddPartyBills.
	PartyReadRow struct {
		Scope      Scope
		File, Mark string
	}
)

// paymentRow is a row that a PaymentStore keeps.
type paymentRow interface {
	Row
	of() Scope
}

func (r PaymentReportRow) of() Scope { return r.Scope }
func (r PaymentRow) of() Scope       { return r.Scope }
func (r BillAccountRow) of() Scope   { return r.Scope }
func (r PartyBillRow) of() Scope     { return r.Scope }
func (r PartyReadRow) of() Scope     { return r.Scope }

// PaymentScope returns the scope of a row that a PaymentStore keeps; false for other rows.
func PaymentScope(r Row) (Scope, bool) {
	p, ok := r.(paymentRow)
	if !ok {
		return Scope{}, false
	}
	return p.of(), true
}

func (PaymentReportRow) count(c *Counts) *int64 { return &c.PaymentReports }
func (PaymentRow) count(c *Counts) *int64       { return &c.Payments }
func (BillAccountRow) count(c *Counts) *int64   { return &c.BillAccounts }
func (PartyBillRow) count(c *Counts) *int64     { return &c.PartyBills }
func (PartyReadRow) count(c *Counts) *int64     { return &c.PartyReads }

func (r PaymentReportRow) digested(s summer) (summer, error) {
	s = s.without(&r.Report.Begun, &r.Report.Published)
	return s.rest(r.Scope, r.Report)
}

func (r PaymentRow) digested(s summer) (summer, error) {
	s = s.text(r.WebhookID).without(&r.Payment.ReceivedAt)
	return s.rest(r.Scope, r.Payment)
}

func (r BillAccountRow) digested(s summer) (summer, error) {
	s = s.without(&r.Account.PaidAt)
	return s.rest(r.Scope, r.Account)
}

func (r PartyBillRow) digested(s summer) (summer, error) { return s.rest(r.Scope, r.Bill) }

func (r PartyReadRow) digested(s summer) (summer, error) {
	return s.text(r.File, r.Mark).rest(r.Scope, nil)
}

// without adds times, and takes them out of the value that rest is to add.
func (s summer) without(times ...*time.Time) summer {
	for _, t := range times {
		s = s.time(*t)
		*t = time.Time{}
	}
	return s
}

// rest adds a scope and a value.
func (s summer) rest(of Scope, value any) (summer, error) {
	b, err := json.Marshal(value)
	return s.text(of.Merchant, of.Mode, string(b)), err
}

// WithPayments returns a Store that has the rows of payments, too.
func WithPayments(s Store, p PaymentStore) Store { return &withPayments{s, p} }

type withPayments struct {
	Store
	payments PaymentStore
}

// Idle implements Store. A receiver is not a worker: it is seen by what it has recorded meanwhile.
func (w *withPayments) Idle(ctx context.Context) (string, error) {
	state, err := w.Store.Idle(ctx)
	if err != nil {
		return "", err
	}
	received, err := w.payments.State(ctx)
	return state + " " + received, err
}

// Export implements Store. A merchant of which only payments are known is handed out as a ScopeRow,
// because one engine keeps merchants once for both.
func (w *withPayments) Export(ctx context.Context, put func(Row) error) error {
	known := make(map[Scope]bool)
	err := w.Store.Export(ctx, func(r Row) error {
		if s, ok := r.(ScopeRow); ok {
			known[s.Scope] = true
		}
		return put(r)
	})
	if err != nil {
		return err
	}
	return w.payments.Export(ctx, func(r Row) error {
		if s, ok := PaymentScope(r); ok && !known[s] {
			known[s] = true
			if err := put(ScopeRow{Scope: s}); err != nil {
				return err
			}
		}
		return put(r)
	})
}

// Import implements Store.
func (w *withPayments) Import(ctx context.Context, export func(put func(Row) error) error) error {
	return w.Store.Import(ctx, func(putLedger func(Row) error) error {
		return w.payments.Import(ctx, func(putPayment func(Row) error) error {
			return export(func(r Row) error {
				if _, ok := PaymentScope(r); ok {
					return putPayment(r)
				}
				return putLedger(r)
			})
		})
	})
}

// PaymentsExist is the error of a store that is to be filled and holds something.
func PaymentsExist() error {
	return &Error{Err: fmt.Errorf("it holds payments: %w", ErrExists), Hint: "a ledger is copied into an empty one; name a new file, or an empty database"}
}

// ErrUnknownRow is the error of a store that is handed a row of another store.
var ErrUnknownRow = errors.New("a kind of row that is not known")
