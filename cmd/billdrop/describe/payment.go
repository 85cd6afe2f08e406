package describe

import (
	"cmp"
	"fmt"
	"strings"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Payment is a payment that was received. Its keys are the columns of the payment report; what
// a report has as an empty cell is "" or null.
type Payment struct {
	ReceivedAt    report.Timestamp `json:"received_at"`
	EventID       string           `json:"event_id"`
	Type          string           `json:"type"`
	PaymentID     string           `json:"payment_id"`
	ObligationID  string           `json:"obligation_id"`
	Currency      string           `json:"currency"`
	Amount        int64            `json:"amount"`     // minor units
	MatchedBy     ledger.MatchedBy `json:"matched_by"` // "" before it is in a report
	BillReference string           `json:"bill_reference"`
	BillID        string           `json:"bill_id"`
	AccountID     string           `json:"account_id"`
	CustomerID    string           `json:"customer_id"`
	BillStatus    string           `json:"bill_status"`
	Due           *int64           `json:"bill_amount_due"`
	Paid          *int64           `json:"bill_amount_paid"`
	Remaining     *int64           `json:"bill_amount_remaining"`
	// Beyond the columns:
	Report   string `json:"report"` // name of its report; "" = in none yet
	Merchant string `json:"merchant"`
	Mode     string `json:"mode"`
}

// NewPayment describes a payment of a merchant.
func NewPayment(s ledger.Scope, p *ledger.Payment) Payment {
	return Payment{
		ReceivedAt: report.At(p.ReceivedAt), EventID: p.EventID, Type: p.Type, PaymentID: p.PaymentID, ObligationID: p.ObligationID,
		Currency: p.Currency, Amount: p.Amount, MatchedBy: p.MatchedBy, BillReference: p.Reference, BillID: p.BillID, AccountID: p.AccountID,
		CustomerID: p.CustomerID, BillStatus: p.State.Status, Due: p.State.Due, Paid: p.State.Paid, Remaining: p.State.Remaining,
		Report: p.Report, Merchant: s.Merchant, Mode: s.Mode,
	}
}

// Payments lists payments: all of them, or those for the bill of reference.
func Payments(payments []Payment, reference string) string {
	switch {
	case len(payments) > 0:
		return paymentTable(payments)
	case reference != "":
		return "no payment was matched with " + Reference(reference)
	}
	return "no payment was received"
}

func paymentTable(payments []Payment) string {
	t := NewTable("bill", "matched by", "payment", "report")
	t.AppendHeader([]any{"received", "amount", "bill", "matched by", "payment", "report"})
	for _, p := range payments {
		t.AppendRow([]any{
			p.ReceivedAt.Local().Format("2006-01-02 15:04:05"), p.Currency + " " + Money(p.Currency, p.Amount), cmp.Or(Reference(p.BillReference), "-"),
			cmp.Or(string(p.MatchedBy), "not yet"), p.PaymentID, cmp.Or(p.Report, "not yet"),
		})
	}
	return t.Render()
}

// paid writes what a bill got, by the payments that were matched with it.
func paid(payments []Payment) string {
	sum := make(map[string]int64)
	for _, p := range payments {
		sum[p.Currency] += p.Amount
	}
	return fmt.Sprintf("\n%s for it, %s:\n%s\n", Count(len(payments), "payment"), strings.Join(Amounts(sum), ", "), paymentTable(payments))
}
