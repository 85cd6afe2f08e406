package describe

import (
	"fmt"
	"strings"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Link is the payment request of a bill, as the ledger has it.
type Link struct {
	State            string           `json:"state"`              // made, asked, none or failed; see ledger.LinkState
	PaymentRequestID string           `json:"payment_request_id"` // "" unless it was made
	PaymentLink      string           `json:"payment_link"`       // likewise
	IdempotencyKey   string           `json:"idempotency_key"`    // "" if it was never asked for
	KeyFirstUsedAt   report.Timestamp `json:"key_first_used_at"`  // not later than the first request; null: nothing was sent
	ExpiresAt        report.Timestamp `json:"expires_at"`         // as the request says it; null if there is none
	Answer           string           `json:"answer"`             // to the latest request; "" = none recorded
	Code             string           `json:"code"`               // why it is missing, as in the results; "" if it is not, or not known yet
	Detail           string           `json:"detail"`             // of Code
}

// linkStates are the words of the ledger's view link.
var linkStates = map[ledger.LinkState]string{
	ledger.LinkAsked: "asked", ledger.LinkMade: "made", ledger.LinkNone: "none", ledger.LinkFailed: "failed",
}

// newLink describes the payment request of a bill; nil if it has none and was to have none.
// The latest row of the bill whose link is missing says why.
func newLink(link ledger.Link, known bool, rows []ledger.Sighting) *Link {
	d := &Link{State: linkStates[ledger.LinkNone]}
	if known {
		d = &Link{
			State: linkStates[link.State], PaymentRequestID: link.RequestID, PaymentLink: link.URL, IdempotencyKey: link.Key,
			KeyFirstUsedAt: report.At(link.KeyFirstUsed), ExpiresAt: report.At(link.ExpiresAt), Answer: link.Answer,
		}
	}
	for _, g := range rows {
		if o := (ledger.Outcome{Status: g.Status, Code: g.Code}); o.LinkMissing() {
			d.Code, d.Detail = g.Code, g.Detail
		}
	}
	if !known && d.Code == "" {
		return nil
	}
	return d
}

// text describes the payment request in a few lines.
func (d *Link) text() string {
	var b strings.Builder
	b.WriteString("\nPayment request: ")
	switch d.State {
	case "made":
		fmt.Fprintf(&b, "%s\n  %s\n", d.PaymentRequestID, d.PaymentLink)
	case "asked":
		b.WriteString("it was asked for, and whether it was made is not known\n")
	case "failed":
		b.WriteString("none, and it cannot be asked for again\n")
	default:
		b.WriteString("none yet\n")
	}
	if d.Code != "" {
		fmt.Fprintf(&b, "  %s: %s\n", d.Code, d.Detail)
	}
	var parts []string
	for _, part := range []struct {
		name string
		at   report.Timestamp
	}{{"key first used ", d.KeyFirstUsedAt}, {"expires ", d.ExpiresAt}} {
		if !part.at.IsZero() {
			parts = append(parts, part.name+part.at.Local().Format("2006-01-02 15:04:05"))
		}
	}
	if d.IdempotencyKey != "" {
		parts = append(parts, "idempotency key "+d.IdempotencyKey)
	}
	if d.Answer != "" {
		parts = append(parts, "answer "+d.Answer)
	} else if !d.KeyFirstUsedAt.IsZero() {
		parts = append(parts, "no answer recorded")
	}
	if len(parts) > 0 {
		b.WriteString("  " + strings.Join(parts, ", ") + "\n")
	}
	return b.String()
}
