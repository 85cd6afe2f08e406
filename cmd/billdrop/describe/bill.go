package describe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Bill is all that the ledger knows of one reference in one scope. Keys of its JSON may
// be added at any time.
type Bill struct {
	BillReference string       `json:"bill_reference"`
	Status        string       `json:"status"`  // what became of it, as a row status
	BillID        string       `json:"bill_id"` // "" unless a bill is known to exist
	Merchant      string       `json:"merchant"`
	Mode          string       `json:"mode"`
	Held          *HeldBill    `json:"bill"`            // as the API held it when last seen; null unless it exists
	Sightings     []Sighting   `json:"sightings"`       // rows that name it and have an outcome, oldest file first
	Attempts      []Attempt    `json:"attempts"`        // requests to create it, oldest first
	Request       *Link        `json:"payment_request"` // null: it has none, and was to have none
	Payments      []Payment    `json:"payments"`        // that were matched with it, newest first
	Also          []*Bill      `json:"also,omitempty"`
	known         *ledger.Bill // nil if nothing was ever sent for it
}

// HeldBill is a bill as the API holds it.
type HeldBill struct {
	CustomerID string `json:"customer_id"`
	AccountID  string `json:"account_id"` // "" if billed directly to the customer
	Currency   string `json:"currency"`
	AmountDue  int64  `json:"amount_due"` // minor units
	BillDate   string `json:"bill_date"`
	DueDate    string `json:"due_date"`
	Voided     bool   `json:"voided"`
}

// Sighting is a row that names a bill.
type Sighting struct {
	FileID string        `json:"file_id"`
	File   string        `json:"file"`
	Line   int           `json:"line"`
	Status ledger.Status `json:"status"`
	Code   string        `json:"code"`
	Detail string        `json:"detail"`
}

// Attempt is a request to create a bill.
type Attempt struct {
	At             report.Timestamp `json:"at"`
	IdempotencyKey string           `json:"idempotency_key"`
	Generation     int              `json:"generation"`
	Answer         string           `json:"answer"` // "" if none was recorded
	FileID         string           `json:"file_id"`
}

// ReadBills reads what the ledger knows of a reference, scope by scope.
func ReadBills(ctx context.Context, led ledger.Ledger, scopes []ledger.Scope, reference string) ([]*Bill, error) {
	var bills []*Bill
	for _, scope := range scopes {
		h, err := led.History(ctx, scope, reference)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		links, err := led.Links(ctx, scope, []string{reference})
		if err != nil {
			return nil, err
		}
		bill := newBill(scope, reference, h)
		link, known := links[reference]
		bill.Request = newLink(link, known, h.Sightings)
		bills = append(bills, bill)
	}
	return bills, nil
}

func newBill(scope ledger.Scope, reference string, h *ledger.History) *Bill {
	bill := &Bill{
		BillReference: reference, Status: string(statusOf(h)), Merchant: scope.Merchant, Mode: scope.Mode,
		Sightings: []Sighting{}, Attempts: []Attempt{}, Payments: []Payment{}, known: h.Bill,
	}
	if b := h.Bill; b != nil && b.State == ledger.Exists {
		bill.BillID = b.Observed.BillID
		bill.Held = &HeldBill{
			CustomerID: b.Observed.CustomerID, AccountID: b.Observed.AccountID, Currency: b.Observed.Currency,
			AmountDue: b.Observed.Amount, BillDate: b.Observed.BillDate, DueDate: b.Observed.DueDate, Voided: b.Observed.Voided,
		}
	}
	for _, g := range h.Sightings {
		bill.Sightings = append(bill.Sightings, Sighting{g.File, g.Name, g.Line, g.Status, g.Code, g.Detail})
	}
	for _, a := range h.Attempts {
		bill.Attempts = append(bill.Attempts, Attempt{report.At(a.At), a.Key, a.Generation, a.Answer, a.File})
	}
	return bill
}

// statusOf is what became of a bill: created if any row created it, else the status of
// the latest row that names it. If those rows were pruned, the bill's own record decides.
// A bill that was sent for and has no outcome yet is unknown.
func statusOf(h *ledger.History) ledger.Status {
	last := ledger.Unknown
	for _, g := range h.Sightings {
		if last = g.Status; last == ledger.Created {
			return last
		}
	}
	if h.Bill == nil || h.Bill.State != ledger.Exists || (last != ledger.Unknown && last != ledger.Existing) {
		return last
	}
	if slices.ContainsFunc(h.Attempts, func(a ledger.Attempt) bool { return a.Answer == "201" }) {
		return ledger.Created
	}
	return ledger.Existing
}

// notSent begins the recorded answer to a request that did not leave. The reason follows, if there
// is one; see client.Answer.Label.
const notSent = "not sent"

// reasonNotSent is the reason in such an answer, in brackets, or "".
func reasonNotSent(answer string) string {
	if _, reason, ok := strings.Cut(answer, ": "); ok {
		return " (" + reason + ")"
	}
	return ""
}

// Text describes the bill: what the API holds, the rows that name it, the requests, the
// payment request and the payments.
func (bill *Bill) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (merchant %s, %s mode)\n", Reference(bill.BillReference), bill.Status, bill.Merchant, bill.Mode)
	switch {
	case bill.Held != nil:
		fmt.Fprintf(&b, "  the API holds %s: %s\n", bill.BillID, bill.Held.text())
	case bill.known == nil:
		b.WriteString("  nothing was ever sent for it\n")
	case bill.known.State == ledger.Gone:
		b.WriteString("  no such bill: the API refused to create it, or has none with this reference\n")
	case !bill.known.InDoubt() && strings.HasPrefix(bill.known.Send.Answer, notSent):
		fmt.Fprintf(&b, "  nothing was sent for it yet%s; the next run, or billdrop retry FILE_ID, sends it\n", reasonNotSent(bill.known.Send.Answer))
	default:
		b.WriteString("  a request was sent, and whether the API holds the bill is not known yet; the next run, or billdrop retry FILE_ID, finds out\n")
	}
	if len(bill.Sightings) > 0 {
		fmt.Fprintf(&b, "\nNamed by %s:\n", Count(len(bill.Sightings), "row"))
	}
	for _, g := range bill.Sightings {
		fmt.Fprintf(&b, "  %s line %d (file %s): %s\n", g.File, g.Line, g.FileID, rowStatus(g.Status, g.Code, g.Detail))
	}
	if len(bill.Attempts) > 0 {
		fmt.Fprintf(&b, "\n%s to create it:\n%s\n", Count(len(bill.Attempts), "request"), attemptTable(bill.Attempts))
	}
	if bill.Request != nil {
		b.WriteString(bill.Request.text())
	}
	if len(bill.Payments) > 0 {
		b.WriteString(paid(bill.Payments))
	}
	return b.String()
}

func (h *HeldBill) text() string {
	text := h.Currency + " " + Money(h.Currency, h.AmountDue)
	for _, part := range []struct{ name, value string }{
		{"bill date", h.BillDate}, {"due", h.DueDate}, {"customer", h.CustomerID}, {"account", h.AccountID},
	} {
		if part.value != "" {
			text += ", " + part.name + " " + part.value
		}
	}
	if h.Voided {
		text += ", voided"
	}
	return text + " (when last seen)"
}

func attemptTable(attempts []Attempt) string {
	t := NewTable("idempotency key", "answer", "file id")
	t.AppendHeader(table.Row{"at", "generation", "idempotency key", "answer", "file id"})
	for _, a := range attempts {
		answer := a.Answer
		if answer == "" {
			answer = "none recorded"
		}
		t.AppendRow(table.Row{
			a.At.Local().Format("2006-01-02 15:04:05.000"), a.Generation, a.IdempotencyKey, answer, a.FileID,
		})
	}
	return t.Render()
}
