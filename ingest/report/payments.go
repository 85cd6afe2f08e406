package report

import (
	"io"
	"strconv"
	"time"

	"billdrop/ingest/ledger"
)

// PaymentColumns are the columns of a payment report, in order.
var PaymentColumns = [...]string{
	"received_at", "event_id", "type", "payment_id", "obligation_id", "currency", "amount", "matched_by", "bill_reference", "bill_id",
	"account_id", "customer_id", "bill_status", "bill_amount_due", "bill_amount_paid", "bill_amount_remaining",
}

// PaymentsName returns the file name of the nth report (from 1) of a merchant's payments that
// is begun in the second of at.
func PaymentsName(merchant string, at time.Time, n int) string {
	name := "payments-" + merchant + "-" + at.UTC().Format("20060102T150405Z")
	if n > 1 {
		name += "-" + strconv.Itoa(n)
	}
	return name + ".csv"
}

// PaymentsWriter writes a payment report.
type PaymentsWriter struct{ lines }

// NewPaymentsWriter writes the header.
func NewPaymentsWriter(w io.Writer) *PaymentsWriter {
	return &PaymentsWriter{newLines(w, PaymentColumns[:])}
}

// Write writes one line.
func (p *PaymentsWriter) Write(e *ledger.Payment) error {
	return p.csv.Write([]string{
		e.ReceivedAt.UTC().Format(timestampLayout), cell(e.EventID), cell(e.Type), cell(e.PaymentID), cell(e.ObligationID), cell(e.Currency),
		strconv.FormatInt(e.Amount, 10), string(e.MatchedBy), cell(e.Reference), cell(e.BillID), cell(e.AccountID), cell(e.CustomerID),
		cell(e.State.Status), minor(e.State.Due), minor(e.State.Paid), minor(e.State.Remaining),
	})
}
