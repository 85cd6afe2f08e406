package client

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestEncodePaymentRequest pins the bytes.
func TestEncodePaymentRequest(t *testing.T) {
	r := PaymentRequestBody{Amount: 2000, Currency: "ZAR", ExternalReference: "B-1", Metadata: map[string]string{"bill": "bill_1"},
		ExpiresAt: time.Date(2026, 12, 1, 2, 3, 4, 999, time.FixedZone("", 2*3600))}
	const want = `{"amount":2000,"currency":"ZAR","external_reference":"B-1","expires_at":"2026-12-01T00:03:04Z","metadata":{"bill":"bill_1"}}`
	if got := string(EncodePaymentRequest(r)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if got := string(EncodePaymentRequest(PaymentRequestBody{Amount: 1, Currency: "USD"})); got != `{"amount":1,"currency":"USD"}` {
		t.Errorf("got %s", got)
	}
}

// TestEncodePaymentRequestIsJSON holds the bytes to those of encoding/json, whatever is in
// the strings.
func TestEncodePaymentRequestIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := texts()
		r := PaymentRequestBody{Amount: rapid.Int64().Draw(t, "amount"), Currency: s.Draw(t, "currency"), ExternalReference: s.Draw(t, "reference"),
			Metadata: rapid.MapOfN(s, s, 0, 25).Draw(t, "metadata")}
		want, err := encode(struct {
			Amount            int64             `json:"amount"`
			Currency          string            `json:"currency"`
			ExternalReference string            `json:"external_reference,omitempty"`
			Metadata          map[string]string `json:"metadata,omitempty"`
		}{r.Amount, r.Currency, r.ExternalReference, r.Metadata})
		if err != nil {
			t.Fatal(err)
		}
		if got := EncodePaymentRequest(r); string(got) != string(want) || !json.Valid(got) {
			t.Fatalf("\n got %q\nwant %q", got, want)
		}
	})
}

func TestClassifyPaymentRequests(t *testing.T) {
	const link = `,"link":{"url":"https://pay.example/x","checkout_session_id":"cs_1"}`
	for _, tc := range []struct {
		name   string
		method string
		asked  string
		status int
		body   string
		kind   Kind
		link   string
	}{
		{"created", http.MethodPost, "B-1", 201, `{"id":"pr_1","external_reference":"B-1","status":"active","amount":1` + link + `}`, Created, "https://pay.example/x"},
		{"older name of the link", http.MethodPost, "B-1", 201, `{"id":"pr_1","external_reference":"B-1","link":{"link_url":"https://pay.example/y"}}`, Created, "https://pay.example/y"},
		{"no reference told", http.MethodPost, "B-1", 201, `{"id":"pr_1"` + link + `}`, Created, "https://pay.example/x"},
		{"another reference", http.MethodPost, "B-1", 201, `{"id":"pr_1","external_reference":"B-2"` + link + `}`, Mismatched, ""},
		{"no link", http.MethodPost, "B-1", 201, `{"id":"pr_1","external_reference":"B-1"}`, Unreadable, ""},
		{"a script for a link", http.MethodPost, "B-1", 201, `{"id":"pr_1","link":{"url":"javascript:alert(1)"}}`, Unreadable, ""},
		{"a link with a line end", http.MethodPost, "B-1", 201, `{"id":"pr_1","link":{"url":"https://pay.example/\n=1"}}`, Unreadable, ""},
		{"a link in the clear", http.MethodPost, "B-1", 201, `{"id":"pr_1","link":{"url":"http://pay.example/"}}`, Unreadable, ""},
		{"an id that is none", http.MethodPost, "B-1", 201, `{"id":"pr_/../x"` + link + `}`, Unreadable, ""},
		{"found", http.MethodGet, "pr_1", 200, `{"id":"pr_1","external_reference":"B-1","status":"paid","payment_id":"pay_1"}`, Found, ""},
		{"another one found", http.MethodGet, "pr_1", 200, `{"id":"pr_2","external_reference":"B-1"}`, Mismatched, ""},
		{"absent", http.MethodGet, "pr_1", 404, problemBody("Not found", ""), Absent, ""},
		{"in flight", http.MethodPost, "B-1", 409, problemBody("Conflict", "A request with this Idempotency-Key is still being processed."), InFlight, ""},
		{"refused", http.MethodPost, "B-1", 422, problemBody("Unprocessable", "The amount is too small."), Refused, ""},
	} {
		a := verdict(result{method: tc.method, object: paymentRequests, asked: tc.asked, clean: newCleaner(secret), status: tc.status,
			header: http.Header{}, body: []byte(tc.body), now: time.Now()})
		if a.Kind != tc.kind || (a.PaymentRequest != nil) != (tc.kind == Created || tc.kind == Found) {
			t.Errorf("%s: %v, %+v, err %v", tc.name, a.Kind, a.PaymentRequest, a.Err)
			continue
		}
		if a.PaymentRequest != nil && a.PaymentRequest.Link != tc.link {
			t.Errorf("%s: link %q", tc.name, a.PaymentRequest.Link)
		}
	}
}
