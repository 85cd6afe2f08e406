package client

import (
	"encoding/json"
	"strings"
	"time"
)

// Types of events that say that something was paid.
const (
	AmountApplied      = "obligation.amount_applied"
	PaymentRequestPaid = "payment_request.paid"
)

// maxEventID is the longest event id that is accepted, in bytes. The API's own have 24 to 50
// characters.
const maxEventID = 64

// maxPaid is the largest amount of one payment that is accepted, in minor units: far above
// the largest bill, and far from an overflow of sums.
const maxPaid = 1_000_000_000_000

// Event is a payment as a webhook reports it. It has ids, an amount and times, and nothing
// of the metadata but a bill's id, which billdrop itself put there.
type Event struct {
	ID   string // evt_…
	Type string // AmountApplied or PaymentRequestPaid
	// ObligationID is ob_…, or the pr_… of a payment request.
	ObligationID string
	PaymentID    string // pay_… or p_…
	Currency     string
	Amount       int64 // minor units
	// At most one of these three is told of an obligation. BillID of a payment request is
	// that in its metadata.
	BillID, AccountID, CustomerID string
	CreatedAt                     time.Time // zero = not told
}

// EventKind is the verdict on the body of a delivery.
type EventKind uint8

const (
	// Nonsense: not JSON, not an event, or a payment without an id, amount or currency.
	Nonsense EventKind = iota
	// Ignored: an event of a type that reports no payment.
	Ignored
	// Payment: the Event is set.
	Payment
)

// ReadEvent reads the body of a delivery whose signature was verified. It quotes nothing.
func ReadEvent(body []byte) (Event, EventKind) {
	var in struct {
		ID   string          `json:"id"`
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(body, &in) != nil || in.Type == "" || !validID(in.ID) || len(in.ID) > maxEventID {
		return Event{}, Nonsense
	}
	if in.Type != AmountApplied && in.Type != PaymentRequestPaid {
		return Event{}, Ignored
	}
	e, ok := readPayment(in.Type, in.Data)
	if !ok {
		return Event{}, Nonsense
	}
	e.ID, e.Type = in.ID, in.Type
	return e, Payment
}

// readPayment reads the data of an event that reports a payment.
func readPayment(kind string, data []byte) (e Event, ok bool) {
	var in struct {
		ID         string          `json:"id"`
		Amount     int64           `json:"amount"`
		Currency   string          `json:"currency"`
		PaymentID  string          `json:"payment_id"`
		BillID     string          `json:"bill_id"`
		AccountID  string          `json:"account_id"`
		CustomerID string          `json:"customer_id"`
		CreatedAt  string          `json:"created_at"`
		Metadata   json.RawMessage `json:"metadata"`
	}
	if json.Unmarshal(data, &in) != nil || in.Amount < 1 || in.Amount > maxPaid || !isCurrency(in.Currency) || !validID(in.ID) {
		return e, false
	}
	e = Event{ObligationID: in.ID, PaymentID: in.PaymentID, Currency: in.Currency, Amount: in.Amount}
	e.CreatedAt, _ = time.Parse(time.RFC3339, in.CreatedAt)
	if kind == PaymentRequestPaid {
		var metadata struct{ Bill string }
		_ = json.Unmarshal(in.Metadata, &metadata) // of a request that was made elsewhere, it may be anything
		if strings.HasPrefix(metadata.Bill, kinds[bills].idPrefix) && validID(metadata.Bill) {
			e.BillID = metadata.Bill
		}
	} else {
		e.BillID, e.AccountID, e.CustomerID = in.BillID, in.AccountID, in.CustomerID
	}
	for _, id := range []string{e.PaymentID, e.BillID, e.AccountID, e.CustomerID} {
		if id != "" && !validID(id) {
			return e, false
		}
	}
	return e, true
}

// isCurrency reports whether s has the form of an ISO 4217 code.
func isCurrency(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
