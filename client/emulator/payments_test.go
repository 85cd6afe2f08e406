package emulator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client"
	"billdrop/client/emulator"
)

func paymentRequest(reference string) string {
	return `{"amount":2000,"currency":"ZAR","external_reference":"` + reference + `","metadata":{"bill":"bill_1"}}`
}

func TestPaymentRequests(t *testing.T) {
	api := emulator.New(emulator.Config{})
	const path = "/collect/payment_requests"
	first := expect(t, post(t, api, path, "key-1", paymentRequest("B-1")), 201, false)
	link, _ := first.body["link"].(map[string]any)
	if first.text("status") != emulator.Active || link["url"] == nil || link["checkout_session_id"] == nil {
		t.Errorf("created: %s", first.raw)
	}
	again := expect(t, post(t, api, path, "key-1", paymentRequest("B-1")), 201, true)
	if again.text("id") != first.text("id") {
		t.Errorf("the same key made %s and %s", first.text("id"), again.text("id"))
	}
	expect(t, post(t, api, path, "key-1", paymentRequest("B-2")), 422, false)
	second := expect(t, post(t, api, path, "key-2", paymentRequest("B-1")), 201, false) // nothing makes them unique
	if second.text("id") == first.text("id") {
		t.Error("another key made the same payment request")
	}
	got := expect(t, ask(t, api, "GET", path+"/"+first.text("id"), "", nil), 200, false)
	if got.text("external_reference") != "B-1" {
		t.Errorf("GET: %s", got.raw)
	}
	expect(t, ask(t, api, "GET", path+"/B-1", "", nil), 404, false) // by id alone
	expect(t, ask(t, api, "GET", path, "", nil), 405, false)
	expect(t, post(t, api, "/billing/payment_requests", "key-3", paymentRequest("B-1")), 404, false)
	for _, body := range []string{`{"currency":"ZAR"}`, `{"amount":0,"currency":"ZAR"}`, `{"amount":1}`, `{"amount":1,"currency":"ZAR","type":"pull"}`,
		`{"amount":1,"currency":"ZAR","expires_at":"tomorrow"}`, `{"amount":1,"currency":"ZAR","bill":"B-1"}`} {
		expect(t, post(t, api, path, "key-bad-"+body[len(body)-6:len(body)-2], body), 400, false)
	}
	expect(t, post(t, api, path, "key-past", `{"amount":1,"currency":"ZAR","expires_at":"2020-01-01T00:00:00Z"}`), 422, false)
	if n := len(api.State().PaymentRequests); n != 2 {
		t.Errorf("the API holds %d payment requests, want 2", n)
	}
	old := expect(t, post(t, emulator.New(emulator.Config{OldLinks: true}), path, "key-1", paymentRequest("B-1")), 201, false)
	if link, _ := old.body["link"].(map[string]any); link["link_url"] == nil || link["url"] != nil {
		t.Errorf("older form: %s", old.raw)
	}
}

// A payment request is changed and deleted while it is unpaid.
func TestPaymentRequestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := emulator.New(emulator.Config{})
		expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"account":`+accountA)), 201, false)
		expect(t, post(t, api, "/billing/bills", "k2", bill("B-2", `"account":{"external_reference":"A-2","customer":{"external_reference":"C-2"}}`)), 201, false)
		const path = "/collect/payment_requests"
		one := path + "/" + expect(t, post(t, api, path, "k3", paymentRequest("B-1")), 201, false).text("id")
		patch := func(body string, status int) answer {
			t.Helper()
			return expect(t, ask(t, api, "PATCH", one, body, nil), status, false)
		}
		changed := patch(`{"external_reference":"B-2","description":"Rates","expires_at":"2030-01-31T22:00:00+02:00","metadata":{"more":"1"}}`, 200)
		pairs, _ := changed.body["metadata"].(map[string]any)
		if changed.text("external_reference") != "B-2" || changed.text("description") != "Rates" || changed.text("expires_at") != "2030-01-31T20:00:00Z" ||
			pairs["bill"] != "bill_1" || pairs["more"] != "1" || changed.text("status") != emulator.Active {
			t.Errorf("changed: %s", changed.raw)
		}
		if got := expect(t, ask(t, api, "GET", one, "", nil), 200, false); got.raw != changed.raw {
			t.Errorf("GET: %s", got.raw)
		}
		for body, status := range map[string]int{`{"amount":1}`: 400, `{"currency":"USD"}`: 400, `{"status":"paid"}`: 400, `{"expires_at":"soon"}`: 400, `{"expires_at":"1999-01-01T00:00:00Z"}`: 422} {
			patch(body, status)
		}
		if got := expect(t, ask(t, api, "GET", one, "", nil), 200, false); got.raw != changed.raw {
			t.Errorf("after changes that were refused: %s", got.raw)
		}
		if _, err := api.Pay("B-1", 0, emulator.AsPaymentRequest); err == nil {
			t.Error("a payment request has two references")
		}

		// One that expired cannot be paid until it is prolonged.
		patch(`{"expires_at":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`, 200)
		time.Sleep(2 * time.Hour)
		if got := expect(t, ask(t, api, "GET", one, "", nil), 200, false); got.text("status") != emulator.Expired || api.State().PaymentRequests[0].Status != emulator.Expired {
			t.Errorf("after its time: %s", got.raw)
		}
		if _, err := api.Pay("B-2", 0, emulator.AsPaymentRequest); err == nil {
			t.Error("an expired payment request was paid")
		}
		patch(`{"expires_at":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`, 200)
		paid, err := api.Pay("B-2", 0, emulator.AsPaymentRequest)
		if err != nil {
			t.Fatal(err)
		}
		patch(`{"description":"late"}`, 422)
		expect(t, ask(t, api, "DELETE", one, "", nil), 422, false)
		if got := expect(t, ask(t, api, "GET", one, "", nil), 200, false); got.text("status") != emulator.Paid || got.text("payment_id") != paid.PaymentID {
			t.Errorf("paid: %s", got.raw)
		}

		two := path + "/" + expect(t, post(t, api, path, "k4", paymentRequest("B-1")), 201, false).text("id")
		if gone := expect(t, ask(t, api, "DELETE", two, "", nil), 204, false); gone.raw != "" {
			t.Errorf("deleted: %s", gone.raw)
		}
		for _, method := range []string{"GET", "DELETE", "PATCH"} {
			expect(t, ask(t, api, method, two, "{}", nil), 404, false)
		}
		if _, err := api.Pay("B-1", 0, emulator.AsPaymentRequest); err == nil {
			t.Error("a deleted payment request was paid")
		}
		s := api.State()
		if len(s.PaymentRequests) != 1 || s.PaymentRequests[0].Status != emulator.Paid || s.Deletes != 3 {
			t.Errorf("the API holds %+v, %d requests to delete", s.PaymentRequests, s.Deletes)
		}
		three := expect(t, post(t, api, path, "k5", paymentRequest("B-1")), 201, false)
		if path+"/"+three.text("id") == two {
			t.Error("a new payment request has the id of a deleted one")
		}
	})
}

// Each payment is found by its id, one of a bill and one of a link.
func TestPayments(t *testing.T) {
	api := emulator.New(emulator.Config{})
	expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"account":`+accountA)), 201, false)
	expect(t, post(t, api, "/collect/payment_requests", "k2", paymentRequest("B-1")), 201, false)
	for _, tc := range []struct {
		as      string
		pay     int64
		applied float64
	}{{emulator.AsBill, 500, 500}, {emulator.AsAccount, 700, 700}, {emulator.AsPaymentRequest, 0, 2000}} {
		paid, err := api.Pay("B-1", tc.pay, tc.as)
		if err != nil {
			t.Fatal(err)
		}
		got := expect(t, ask(t, api, "GET", "/collect/payments/"+paid.PaymentID, "", nil), 200, false)
		if got.text("id") != paid.PaymentID || got.body["amount"] != tc.applied || got.text("currency") != "ZAR" {
			t.Errorf("%s: %s", tc.as, got.raw)
		}
	}
	expect(t, ask(t, api, "GET", "/collect/payments/B-1", "", nil), 404, false)
}

// A failure that is stored comes back for the same key.
func TestPaymentRequestFaults(t *testing.T) {
	api := emulator.New(emulator.Config{})
	api.Script(func(c emulator.Call) emulator.Fault {
		if c.Nth == 1 && c.Key == "stored" {
			return emulator.Fault{Status: 500, Store: true}
		}
		return emulator.Fault{}
	})
	const path = "/collect/payment_requests"
	expect(t, post(t, api, path, "stored", paymentRequest("B-1")), 500, false)
	expect(t, post(t, api, path, "stored", paymentRequest("B-1")), 500, true)
	expect(t, post(t, api, path, "other", paymentRequest("B-1")), 201, false)
}

func TestPay(t *testing.T) {
	api := emulator.New(emulator.Config{})
	expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"account":`+accountA)), 201, false)
	expect(t, post(t, api, "/billing/bills", "k2", bill("B-2", `"customer":{"external_reference":"C-2","name":"N"}`)), 201, false)
	for _, tc := range []struct {
		bill, as        string
		amount          int64
		status          int // of a refusal
		paid, remaining int64
		state           string
	}{
		{"B-1", "", 500, 0, 500, 1500, emulator.Unpaid},
		{"B-1", emulator.AsAccount, 500, 0, 1000, 1000, emulator.Unpaid},
		{"B-1", emulator.AsBill, 1001, 422, 1000, 1000, emulator.Unpaid},
		{"B-1", "anybody", 1, 400, 1000, 1000, emulator.Unpaid},
		{"B-1", emulator.AsCustomer, 0, 0, 2000, 0, emulator.Paid},
		{"B-1", emulator.AsBill, 0, 422, 2000, 0, emulator.Paid},
		{"B-2", emulator.AsAccount, 1, 422, 0, 2000, emulator.Unpaid},
		{"B-2", emulator.AsPaymentRequest, 0, 422, 0, 2000, emulator.Unpaid},
		{"B-3", emulator.AsBill, 1, 404, 0, 0, ""},
	} {
		_, err := api.Pay(tc.bill, tc.amount, tc.as)
		var refused *emulator.PayError
		if (err == nil) != (tc.status == 0) || errors.As(err, &refused) && refused.Status != tc.status {
			t.Errorf("%+v: %v", tc, err)
		}
		for _, b := range api.Bills(tc.bill) {
			if b.AmountPaid != tc.paid || b.AmountRemaining != tc.remaining || b.Status != tc.state {
				t.Errorf("%+v: %+v", tc, b)
			}
		}
	}
}

// receiver is what a webhook's endpoint got.
type receiver struct {
	checks *client.Webhooks
	mu     sync.Mutex
	ids    map[string]int // by webhook-id
	events []client.Event // verified, in order of arrival
	bad    int
	refuse int // deliveries that are answered 500 first
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	id, err := r.checks.Verify(req.Header, body, time.Now())
	e, kind := client.ReadEvent(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil || kind != client.Payment:
		r.bad++
	case r.refuse > 0:
		r.refuse--
		w.WriteHeader(http.StatusInternalServerError)
	default:
		r.ids[id]++
		r.events = append(r.events, e)
	}
}

// RoundTrip has the receiver answer without a socket, on whatever clock the test has.
func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	res := httptest.NewRecorder()
	r.ServeHTTP(res, req)
	return res.Result(), nil
}

func TestHooks(t *testing.T) {
	secret := emulator.NewHookSecret("0123456789abcdef01234567")
	checks, err := client.ParseWebhookSecrets(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		cfg    emulator.HookConfig
		refuse int
		each   int // deliveries that are acknowledged
		took   time.Duration
	}{
		{"at once", emulator.HookConfig{}, 0, 1, 0},
		{"again after failures", emulator.HookConfig{Backoff: time.Second}, 3, 1, time.Second},
		{"twice", emulator.HookConfig{Twice: true}, 0, 2, 0},
		{"late", emulator.HookConfig{Late: true}, 0, 1, 2 * time.Second},
		{"out of order", emulator.HookConfig{OutOfOrder: true}, 0, 1, time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := emulator.New(emulator.Config{})
				expect(t, post(t, api, "/billing/bills", "k1", bill("B-1", `"account":`+accountA)), 201, false)
				expect(t, post(t, api, "/collect/payment_requests", "k2", paymentRequest("B-1")), 201, false)
				r := &receiver{checks: checks, ids: map[string]int{}, refuse: tc.refuse}
				tc.cfg.URL, tc.cfg.Secret, tc.cfg.Transport = "https://biller.example/webhooks/acme", secret, r
				hooks, err := emulator.NewHooks(tc.cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer hooks.Close()
				api.DeliverTo(hooks)
				begun := time.Now()
				var sent []string
				for _, as := range []string{emulator.AsBill, emulator.AsAccount, emulator.AsCustomer, emulator.AsPaymentRequest} {
					p, err := api.Pay("B-1", 100, as)
					if err != nil {
						t.Fatal(err)
					}
					sent = append(sent, p.EventID)
				}
				hooks.Wait()
				if took := time.Since(begun); took < tc.took || took > tc.took+5*time.Second {
					t.Errorf("took %v", took)
				}
				if r.bad != 0 || len(r.ids) != len(sent) || len(r.events) != tc.each*len(sent) {
					t.Fatalf("%d bad, %d ids, %d events", r.bad, len(r.ids), len(r.events))
				}
				b := api.Bills("B-1")[0]
				inOrder := true
				for i, e := range r.events {
					inOrder = inOrder && e.ID == sent[i/tc.each]
					named := map[string]string{e.BillID: b.ID, e.AccountID: b.AccountID, e.CustomerID: b.CustomerID}
					delete(named, "")
					if e.Type == client.AmountApplied && (len(named) != 1 || e.Amount != 100) || e.Type == client.PaymentRequestPaid && e.BillID != "bill_1" {
						t.Errorf("event %+v", e)
					}
				}
				if tc.cfg.OutOfOrder && inOrder {
					t.Error("the events came in order")
				}
			})
		})
	}
}

// An event may come before the bill's own answer.
func TestHookBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := emulator.New(emulator.Config{})
		api.Script(func(emulator.Call) emulator.Fault {
			return emulator.Fault{Apply: true, Delay: time.Minute}
		})
		answered := make(chan answer)
		go func() {
			answered <- post(t, api, "/billing/bills", "k1", bill("B-1", `"account":`+accountA))
		}()
		synctest.Wait()
		if _, err := api.Pay("B-1", 0, ""); err != nil {
			t.Fatal(err)
		}
		if a := <-answered; a.status != 201 {
			t.Errorf("got %d", a.status)
		}
	})
}

// What nobody accepts is given up when the deliverer is closed.
func TestHooksClose(t *testing.T) {
	hooks, err := emulator.NewHooks(emulator.HookConfig{URL: "https://biller.example/", Secret: emulator.NewHookSecret("0123456789abcdef01234567"), Transport: refusing{}})
	if err != nil {
		t.Fatal(err)
	}
	hooks.Send(emulator.Event{ID: "evt_1", Type: "x"})
	hooks.Close()
	if done, given, _ := hooks.Counts(); done != 0 || given != 1 {
		t.Errorf("%d acknowledged, %d given up", done, given)
	}
	if _, err := emulator.NewHooks(emulator.HookConfig{Secret: "whsec_!"}); err == nil {
		t.Error("a secret that is none was accepted")
	}
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, context.Canceled }
