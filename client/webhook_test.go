package client

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

var (
	webhookSecretA = "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef01234567"))
	webhookSecretB = "whsec_" + base64.StdEncoding.EncodeToString([]byte("fedcba9876543210fedcba98"))
)

// signed returns the headers of a delivery.
func signed(t *testing.T, secret, id string, at time.Time, body string) http.Header {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := w.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("webhook-signature", signature)
	return h
}

func TestVerifyWebhook(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	both, err := ParseWebhookSecrets("\n" + webhookSecretA + "\r\n  " + webhookSecretB + "\n")
	if err != nil {
		t.Fatal(err)
	}
	onlyA, err := ParseWebhookSecrets(webhookSecretA)
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"id":"evt_1"}`
	with := func(h http.Header, name, value string) http.Header {
		h = h.Clone()
		h.Set(name, value)
		return h
	}
	good := signed(t, webhookSecretA, "msg_1", now, body)
	twice := good.Clone()
	twice.Add("webhook-signature", "v1,AAAA")
	for _, tc := range []struct {
		name   string
		w      *Webhooks
		header http.Header
		body   string
		want   error
	}{
		{"good", onlyA, good, body, nil},
		{"old secret during a rotation", both, good, body, nil},
		{"new secret during a rotation", both, signed(t, webhookSecretB, "msg_1", now, body), body, nil},
		{"one of several signatures", onlyA, with(good, "webhook-signature", "v1,AAAA v2,x "+good.Get("webhook-signature")), body, nil},
		{"3 minutes old", onlyA, signed(t, webhookSecretA, "msg_1", now.Add(-3*time.Minute), body), body, nil},
		{"3 minutes ahead", onlyA, signed(t, webhookSecretA, "msg_1", now.Add(3*time.Minute), body), body, nil},
		{"older", onlyA, signed(t, webhookSecretA, "msg_1", now.Add(-181*time.Second), body), body, ErrStale},
		{"further ahead", onlyA, signed(t, webhookSecretA, "msg_1", now.Add(181*time.Second), body), body, ErrStale},
		{"another secret", onlyA, signed(t, webhookSecretB, "msg_1", now, body), body, ErrForged},
		{"another body", onlyA, good, body + " ", ErrForged},
		{"another id", onlyA, with(good, "webhook-id", "msg_2"), body, ErrForged},
		{"another timestamp", onlyA, with(good, "webhook-timestamp", "1790000001"), body, ErrForged},
		{"another version", onlyA, with(good, "webhook-signature", "v2"+good.Get("webhook-signature")[2:]), body, ErrForged},
		{"no signature", onlyA, with(good, "webhook-signature", ""), body, ErrMalformed},
		{"no id", onlyA, with(good, "webhook-id", ""), body, ErrMalformed},
		{"a timestamp that is none", onlyA, with(good, "webhook-timestamp", "today"), body, ErrMalformed},
		{"a timestamp out of range", onlyA, with(good, "webhook-timestamp", "99999999999999999999"), body, ErrMalformed},
		{"a far timestamp", onlyA, with(good, "webhook-timestamp", "-9223372036854775808"), body, ErrForged},
		{"two signature headers", onlyA, twice, body, ErrMalformed},
		{"a long id", onlyA, with(good, "webhook-id", strings.Repeat("m", 2000)), body, ErrMalformed},
		{"an id with a control character", onlyA, with(good, "webhook-id", "m\x1b[2J"), body, ErrMalformed},
	} {
		id, err := tc.w.Verify(tc.header, []byte(tc.body), now)
		if !errors.Is(err, tc.want) || (tc.want == nil) != (id == "msg_1") {
			t.Errorf("%s: id %q, err %v, want %v", tc.name, id, err, tc.want)
		}
	}
	// A timestamp so far off that the difference overflows is stale even if it is signed.
	far := time.Unix(1<<62, 0)
	if _, err := onlyA.Verify(signed(t, webhookSecretA, "msg_1", far, body), []byte(body), now); !errors.Is(err, ErrStale) {
		t.Errorf("a far timestamp: %v", err)
	}
}

func TestParseWebhookSecretsRefuses(t *testing.T) {
	for _, text := range []string{"", " \n", "whsec_", "whsec_QUJD", "whsec_CANARY!", "CANARY" + webhookSecretA, webhookSecretA + "\nCANARY"} {
		w, err := ParseWebhookSecrets(text)
		var own *Error
		if w != nil || !errors.As(err, &own) || own.Hint == "" || strings.Contains(err.Error()+own.Hint, "CANARY") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestReadEvent(t *testing.T) {
	applied := func(more string) string {
		return `{"id":"evt_1","type":"obligation.amount_applied","data":{"id":"ob_1","amount":2000,"currency":"ZAR","payment_id":"pay_1"` + more + `}}`
	}
	base := Event{ID: "evt_1", Type: AmountApplied, ObligationID: "ob_1", PaymentID: "pay_1", Currency: "ZAR", Amount: 2000}
	with := func(change func(*Event)) Event {
		e := base
		change(&e)
		return e
	}
	for _, tc := range []struct {
		name, body string
		kind       EventKind
		want       Event
	}{
		{"of a bill", applied(`,"bill_id":"bill_1"`), Payment, with(func(e *Event) { e.BillID = "bill_1" })},
		{"of an account", applied(`,"account_id":"bacc_1"`), Payment, with(func(e *Event) { e.AccountID = "bacc_1" })},
		{"of a customer", applied(`,"customer_id":"bcus_1"`), Payment, with(func(e *Event) { e.CustomerID = "bcus_1" })},
		{"metadata is not kept", applied(`,"metadata":{"bill":"bill_9","name":"N"}`), Payment, base},
		{"created_at", applied(`,"created_at":"2026-11-26T10:00:00Z"`), Payment, with(func(e *Event) { e.CreatedAt = time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC) })},
		{"created_at of another form", applied(`,"created_at":"today"`), Payment, base},
		{"payment request", `{"id":"evt_2","type":"payment_request.paid","data":{"id":"pr_1","amount":5,"currency":"USD","payment_id":"p_1","metadata":{"bill":"bill_1"}}}`,
			Payment, Event{ID: "evt_2", Type: PaymentRequestPaid, ObligationID: "pr_1", PaymentID: "p_1", Currency: "USD", Amount: 5, BillID: "bill_1"}},
		{"payment request of others", `{"id":"evt_2","type":"payment_request.paid","data":{"id":"pr_1","amount":5,"currency":"USD","metadata":{"bill":"N Dube"}}}`,
			Payment, Event{ID: "evt_2", Type: PaymentRequestPaid, ObligationID: "pr_1", Currency: "USD", Amount: 5}},
		{"another type", `{"id":"evt_3","type":"payment.created","data":{"anything":[1]}}`, Ignored, Event{}},
		{"another type without data", `{"id":"evt_3","type":"bill.updated"}`, Ignored, Event{}},
		{"not JSON", `{"id":`, Nonsense, Event{}},
		{"a list", `[]`, Nonsense, Event{}},
		{"no id", `{"type":"obligation.amount_applied","data":{"id":"ob_1","amount":1,"currency":"ZAR"}}`, Nonsense, Event{}},
		{"an id with a space", strings.Replace(applied(""), "evt_1", "evt 1", 1), Nonsense, Event{}},
		{"a fraction", strings.Replace(applied(""), "2000", "20.5", 1), Nonsense, Event{}},
		{"an amount as text", strings.Replace(applied(""), "2000", `"2000"`, 1), Nonsense, Event{}},
		{"a negative amount", strings.Replace(applied(""), "2000", "-1", 1), Nonsense, Event{}},
		{"an enormous amount", strings.Replace(applied(""), "2000", "9223372036854775807", 1), Nonsense, Event{}},
		{"no currency", strings.Replace(applied(""), "ZAR", "", 1), Nonsense, Event{}},
		{"a bill id that is none", applied(`,"bill_id":"../x"`), Nonsense, Event{}},
	} {
		got, kind := ReadEvent([]byte(tc.body))
		if kind != tc.kind || got != tc.want {
			t.Errorf("%s: %v %+v", tc.name, kind, got)
		}
	}
}
