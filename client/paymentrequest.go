package client

import (
	"bytes"
	"context"
	"net/url"
	"strconv"
	"time"
)

// PaymentRequestBody is the body of POST /collect/payment_requests; see
// EncodePaymentRequest.
type PaymentRequestBody struct {
	Amount            int64 // minor units
	Currency          string
	ExternalReference string
	ExpiresAt         time.Time // zero = left out; the API's own default is 24 h
	Metadata          map[string]string
}

// EncodePaymentRequest returns the body of POST /collect/payment_requests for r. What is
// said of EncodeBill holds here as well: the bytes outlive releases of Go, because one key
// stands for one body. ExpiresAt is written in whole seconds, UTC.
func EncodePaymentRequest(r PaymentRequestBody) []byte {
	var buf [512]byte
	b := strconv.AppendInt(append(buf[:0], `{"amount":`...), r.Amount, 10)
	b = appendText(append(b, `,"currency":`...), r.Currency)
	b = appendGiven(b, `,"external_reference":`, r.ExternalReference)
	if !r.ExpiresAt.IsZero() {
		b = appendText(append(b, `,"expires_at":`...), r.ExpiresAt.UTC().Format("2006-01-02T15:04:05Z"))
	}
	b = appendMetadata(b, r.Metadata)
	return bytes.Clone(append(b, '}'))
}

// PaymentRequest is a payment request as it comes back.
type PaymentRequest struct {
	ID                string // pr_…
	ExternalReference string // "" = not told
	Status            string // active, paid or expired
	PaymentID         string // once it is paid
	Link              string // where it can be paid; "" where the API told none that is a web address
	Currency          string
	Amount            int64 // minor units; 0 = not told
}

// CreatePaymentRequest sends body, which EncodePaymentRequest made for reference, under the
// idempotency key. The body must not be changed afterwards; see CreateBill. A 201 without a
// link that can be shown to people is Unreadable.
func (c *Client) CreatePaymentRequest(ctx context.Context, key, reference string, body []byte) Answer {
	return c.post(ctx, paymentRequests, key, reference, body)
}

// paymentRequest is a payment request as JSON.
type paymentRequest struct {
	ID                string `json:"id"`
	ExternalReference string `json:"external_reference"`
	Status            string `json:"status"`
	PaymentID         string `json:"payment_id"`
	Currency          string `json:"currency"`
	Amount            int64  `json:"amount"`
	Link              struct {
		URL     string `json:"url"`
		LinkURL string `json:"link_url"` // as older versions of the API name it
	} `json:"link"`
}

// link returns the first of the two addresses that can be shown to people.
func (p *paymentRequest) link() string {
	for _, address := range []string{p.Link.URL, p.Link.LinkURL} {
		if webAddress(address) {
			return address
		}
	}
	return ""
}

// shown returns the payment request with its texts cleaned.
func (p *paymentRequest) shown(clean cleaner) *PaymentRequest {
	return &PaymentRequest{
		ID: p.ID, ExternalReference: p.ExternalReference, Status: clean(p.Status, maxWord), PaymentID: p.PaymentID, Link: p.link(),
		Currency: clean(p.Currency, maxWord), Amount: p.Amount,
	}
}

// maxAddress is the longest web address that is accepted of the API, in bytes.
const maxAddress = 1024

// webAddress reports whether s is an https address in printable ASCII without a user. A
// link is put into reports and sent to people, so nothing else may pass for one.
func webAddress(s string) bool {
	if s == "" || len(s) > maxAddress {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}
