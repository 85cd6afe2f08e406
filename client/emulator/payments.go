package emulator

import (
	"fmt"
	"time"
)

// PaymentRequest is a payment request as the API answers it.
type PaymentRequest struct {
	ID                string            `json:"id"`
	ExternalReference string            `json:"external_reference,omitempty"`
	Type              string            `json:"type"`
	Status            string            `json:"status"`
	Amount            int64             `json:"amount"` // minor units
	Currency          string            `json:"currency"`
	Description       string            `json:"description,omitempty"`
	PaymentID         string            `json:"payment_id,omitempty"`
	Link              *Link             `json:"link,omitempty"`
	ExpiresAt         string            `json:"expires_at"` // RFC 3339
	Metadata          map[string]string `json:"metadata,omitempty"`
}

// Link is where a payment request can be paid; one of URL and LinkURL is set.
type Link struct {
	URL               string `json:"url,omitempty"`
	LinkURL           string `json:"link_url,omitempty"`
	CheckoutSessionID string `json:"checkout_session_id"`
}

// Statuses of a payment request besides Paid.
const (
	Active  = "active"
	Expired = "expired"
)

// defaultLinkLife is how long a link without expires_at can be paid.
const defaultLinkLife = 24 * time.Hour

// maxDescription is the API's limit of a description, in characters.
const maxDescription = 500

// paymentRequestRequest is a new payment request.
type paymentRequestRequest struct {
	reference, currency, kind, description string
	amount                                 int64
	expires                                time.Time // zero = not given
	metadata                               map[string]string
}

func readPaymentRequest(body []byte) (*paymentRequestRequest, *outcome) {
	f := openForm("", body)
	r := &paymentRequestRequest{
		reference:   f.text("external_reference", maxReference),
		currency:    f.currency(true),
		kind:        f.text("type", maxText),
		description: f.text("description", maxDescription),
		metadata:    f.metadata(),
	}
	if n := f.integer("amount", 1, maxAmount); n != nil {
		r.amount = *n
	} else {
		f.refuse(400, "amount is missing.")
	}
	switch r.kind {
	case "":
		r.kind = "link"
	case "link", "push":
	default:
		f.refuse(400, "type must be link or push.")
	}
	r.expires = f.instant("expires_at")
	return r, f.close()
}

// instant takes a time; zero if it is absent.
func (f *form) instant(name string) time.Time {
	text := f.text(name, maxText)
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		f.refuse(400, "%s must be a time (RFC 3339).", f.path+name)
	}
	return at
}

// readPaymentRequestPatch reads a change of a payment request. What is "", zero or nil stays as it
// is.
func readPaymentRequestPatch(body []byte) (*paymentRequestRequest, *outcome) {
	f := openForm("", body)
	r := &paymentRequestRequest{
		reference:   f.text("external_reference", maxReference),
		description: f.text("description", maxDescription),
		expires:     f.instant("expires_at"),
		metadata:    f.metadata(),
	}
	return r, f.close()
}

// createPaymentRequest makes a payment request. References need not be unique.
func (o *objects) createPaymentRequest(r *paymentRequestRequest, now time.Time) *outcome {
	if r.expires.IsZero() {
		r.expires = now.Add(defaultLinkLife)
	} else if !r.expires.After(now) {
		return refusal(422, "expires_at is past.")
	}
	nth := len(o.requests.list)
	p := &PaymentRequest{
		ID: o.id("pr_", r.reference, nth), ExternalReference: r.reference, Type: r.kind, Status: Active,
		Amount: r.amount, Currency: r.currency, Description: r.description, ExpiresAt: r.expires.UTC().Format(time.RFC3339), Metadata: r.metadata,
	}
	if r.kind == "link" {
		session := o.id("cs_", r.reference, nth)
		p.Link = &Link{URL: "https://pay.example.com/" + session, CheckoutSessionID: session}
		if o.cfg.OldLinks {
			p.Link.URL, p.Link.LinkURL = "", p.Link.URL
		}
	}
	o.requests.add(p.ID, p.ExternalReference, p)
	return ok(201, p)
}

// asOf returns the payment request as it is at a time: one that is unpaid expires.
func (p *PaymentRequest) asOf(now time.Time) *PaymentRequest {
	if at, err := time.Parse(time.RFC3339, p.ExpiresAt); p.Status != Active || err != nil || at.After(now) {
		return p
	}
	expired := *p
	expired.Status = Expired
	return &expired
}

// patchPaymentRequest changes a payment request that is not paid.
func (o *objects) patchPaymentRequest(id string, r *paymentRequestRequest, now time.Time) *outcome {
	p := o.requests.withID(id)
	switch {
	case p == nil:
		return refusal(404, "There is no such payment_request.")
	case p.Status == Paid:
		return refusal(422, "A paid payment request cannot be changed.")
	case !r.expires.IsZero() && !r.expires.After(now):
		return refusal(422, "expires_at is past.")
	}
	changed := *p
	if r.reference != "" {
		changed.ExternalReference = r.reference
		o.requests.rename(id, p.ExternalReference, r.reference)
	}
	if r.description != "" {
		changed.Description = r.description
	}
	if !r.expires.IsZero() {
		changed.ExpiresAt = r.expires.UTC().Format(time.RFC3339)
	}
	changed.Metadata = merged(p.Metadata, r.metadata)
	o.requests.replace(id, &changed)
	return ok(200, changed.asOf(now))
}

// deletePaymentRequest removes a payment request. Whether the API refuses it for one that is paid
// is not documented; this one does.
func (o *objects) deletePaymentRequest(id string) *outcome {
	p := o.requests.withID(id)
	switch {
	case p == nil:
		return refusal(404, "There is no such payment_request.")
	case p.Status == Paid:
		return refusal(422, "A paid payment request cannot be deleted.")
	}
	o.requests.remove(id, p.ExternalReference)
	return &outcome{status: 204}
}

// Payment is a payment as the API answers it. What more the API tells of one is not documented.
type Payment struct {
	ID       string `json:"id"`
	Amount   int64  `json:"amount"` // minor units
	Currency string `json:"currency"`
}

// Ways in which the event of a payment names what was paid.
const (
	AsBill           = "bill_id"
	AsAccount        = "account_id"
	AsCustomer       = "customer_id"
	AsPaymentRequest = "payment_request" // the link is paid, and the bill left as it is
)

// Event is what a webhook says.
type Event struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data any    `json:"data"`
}

// applied is the data of an obligation.amount_applied.
type applied struct {
	ID         string            `json:"id"`
	Amount     int64             `json:"amount"`
	Currency   string            `json:"currency"`
	PaymentID  string            `json:"payment_id"`
	BillID     string            `json:"bill_id,omitempty"`
	AccountID  string            `json:"account_id,omitempty"`
	CustomerID string            `json:"customer_id,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	CreatedAt  string            `json:"created_at"`
}

// Receipt is what Pay did.
type Receipt struct {
	EventID   string `json:"event_id"`
	PaymentID string `json:"payment_id"`
	Bill      Bill   `json:"bill"` // after it
}

// Pay applies a payment of amount minor units (0 = all that remains) to the bill with a
// reference or id, and delivers the event, which names what was paid as one of the As
// constants ("" = AsBill).
func (a *API) Pay(bill string, amount int64, as string) (Receipt, error) {
	a.mu.Lock()
	now := time.Now()
	a.doLateWork(now)
	p, event, refused := a.objects.pay(bill, amount, as, now)
	hooks := a.hooks
	a.mu.Unlock()
	if refused != nil {
		return p, &PayError{refused.status, refused.problem.Detail}
	}
	hooks.Send(event)
	return p, nil
}

// PayError is why a payment was refused.
type PayError struct {
	Status int
	Detail string
}

func (e *PayError) Error() string { return fmt.Sprintf("pay: %d: %s", e.Status, e.Detail) }

// pay applies a payment, and returns the event that reports it.
func (o *objects) pay(name string, amount int64, as string, now time.Time) (Receipt, Event, *outcome) {
	refuse := func(status int, detail string) (Receipt, Event, *outcome) {
		return Receipt{}, Event{}, refusal(status, "%s", detail)
	}
	b := o.bills.find(name)
	if b == nil {
		return refuse(404, "There is no such bill.")
	}
	if as == AsPaymentRequest {
		return o.payRequest(b, now)
	}
	if amount == 0 {
		amount = b.AmountRemaining
	}
	switch {
	case b.Status == Voided:
		return refuse(422, "A voided bill cannot be paid.")
	case amount < 1 || amount > b.AmountRemaining:
		return refuse(422, "The amount is not between 1 and what remains of the bill.")
	}
	changed := *b
	changed.AmountPaid += amount
	changed.AmountRemaining -= amount
	if changed.AmountRemaining == 0 {
		changed.Status = Paid
	}
	nth := o.nthPayment[b.ID]
	paid := applied{
		ID: o.id("ob_", b.ID, nth), Amount: amount, Currency: b.Currency, PaymentID: o.id("pay_", b.ID, nth),
		Metadata: b.Metadata, CreatedAt: now.UTC().Format(time.RFC3339),
	}
	switch as {
	case "", AsBill:
		paid.BillID = b.ID
	case AsAccount:
		if b.AccountID == "" {
			return refuse(422, "The bill has no account.")
		}
		paid.AccountID = b.AccountID
	case AsCustomer:
		paid.CustomerID = b.CustomerID
	default:
		return refuse(400, "as must be bill_id, account_id, customer_id or payment_request.")
	}
	o.nthPayment[b.ID]++
	o.bills.replace(b.ID, &changed)
	o.payments[paid.PaymentID] = &Payment{ID: paid.PaymentID, Amount: amount, Currency: b.Currency}
	event := Event{ID: o.id("evt_", b.ID, nth) + "00000000", Type: "obligation.amount_applied", Data: paid}
	return Receipt{EventID: event.ID, PaymentID: paid.PaymentID, Bill: changed}, event, nil
}

// payRequest pays the newest payment request that was made for a bill.
func (o *objects) payRequest(b *Bill, now time.Time) (Receipt, Event, *outcome) {
	made := o.requests.withReference(b.ExternalReference)
	if len(made) == 0 || made[len(made)-1].asOf(now).Status != Active {
		return Receipt{}, Event{}, refusal(422, "The bill has no active payment request.")
	}
	changed := *made[len(made)-1]
	changed.Status, changed.PaymentID = Paid, o.id("pay_", changed.ID, 0)
	o.requests.replace(changed.ID, &changed)
	o.payments[changed.PaymentID] = &Payment{ID: changed.PaymentID, Amount: changed.Amount, Currency: changed.Currency}
	event := Event{ID: o.id("evt_", changed.ID, 0) + "00000000", Type: "payment_request.paid", Data: changed}
	return Receipt{EventID: event.ID, PaymentID: changed.PaymentID, Bill: *b}, event, nil
}
