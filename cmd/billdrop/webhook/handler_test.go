package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"billdrop/client"
	"billdrop/client/emulator"
	"billdrop/ingest/ledger"
)

var (
	secretA = emulator.NewHookSecret("0123456789abcdef01234567")
	secretB = emulator.NewHookSecret("fedcba9876543210fedcba98")
)

// memory is a Store.
type memory struct {
	mu    sync.Mutex
	err   error
	byID  map[string]bool // webhook ids and event ids
	all   []ledger.Payment
	scope []ledger.Scope
}

func (m *memory) Receive(_ context.Context, s ledger.Scope, webhookID string, p ledger.Payment) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return false, m.err
	}
	if m.byID["w"+webhookID] || m.byID["e"+p.EventID] {
		return true, nil
	}
	m.byID["w"+webhookID], m.byID["e"+p.EventID] = true, true
	m.all, m.scope = append(m.all, p), append(m.scope, s)
	return false, nil
}

// site is a handler with all that it is wired to.
type site struct {
	*Handler
	store  *memory
	log    bytes.Buffer
	counts map[string]int
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{store: &memory{byID: map[string]bool{}}, counts: map[string]int{}}
	var merchants []Merchant
	for name, secrets := range map[string]string{"acme": secretA, "rotating": secretA + "\n" + secretB} {
		checks, err := client.ParseWebhookSecrets(secrets)
		if err != nil {
			t.Fatal(err)
		}
		merchants = append(merchants, Merchant{ledger.Scope{Merchant: name, Mode: "test"}, checks})
	}
	s.Handler = &Handler{Merchants: merchants, Store: s.store, Log: slog.New(slog.NewTextHandler(&s.log, nil)),
		Count: func(merchant string, r Result) { s.counts[merchant+" "+string(r)]++ }}
	return s
}

// delivery is a signed request.
func delivery(t testing.TB, secret, merchant, id, body string, at time.Time) *http.Request {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := w.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/webhooks/"+merchant, strings.NewReader(body))
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", signature)
	return r
}

func event(id string) string {
	return fmt.Sprintf(`{"id":%q,"type":"obligation.amount_applied","data":{"id":"ob_1","amount":500,"currency":"ZAR","payment_id":"pay_1","account_id":"bacc_1","metadata":{"name":"CANARY"}}}`, id)
}

func (s *site) answer(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestDeliveries(t *testing.T) {
	type change func(*http.Request) *http.Request
	now := time.Now()
	without := func(name string) change {
		return func(r *http.Request) *http.Request { r.Header.Del(name); return r }
	}
	for _, tc := range []struct {
		name     string
		secret   string
		merchant string
		body     string
		at       time.Time
		change   change
		status   int
		result   Result // "" = not counted
	}{
		{"good", secretA, "acme", event("evt_1"), now, nil, 200, Recorded},
		{"good, with the new secret", secretB, "rotating", event("evt_1"), now, nil, 200, Recorded},
		{"good, with the old secret", secretA, "rotating", event("evt_1"), now, nil, 200, Recorded},
		{"another type", secretA, "acme", `{"id":"evt_1","type":"payment.created","data":{}}`, now, nil, 200, Ignored},
		{"signed nonsense", secretA, "acme", "CANARY", now, nil, 200, Nonsense},
		{"an empty body, signed", secretA, "acme", "", now, nil, 200, Nonsense},
		{"another merchant's secret", secretB, "acme", event("evt_1"), now, nil, 401, Forged},
		{"no signature", secretA, "acme", event("evt_1"), now, without("webhook-signature"), 400, Malformed},
		{"no id", secretA, "acme", event("evt_1"), now, without("webhook-id"), 400, Malformed},
		{"no timestamp", secretA, "acme", event("evt_1"), now, without("webhook-timestamp"), 400, Malformed},
		{"old", secretA, "acme", event("evt_1"), now.Add(-4 * time.Minute), nil, 401, Stale},
		{"from the future", secretA, "acme", event("evt_1"), now.Add(4 * time.Minute), nil, 401, Stale},
		{"too large, and says so", secretA, "acme", strings.Repeat(" ", maxBody+1), now, nil, 413, TooLarge},
		{"too large, and does not say so", secretA, "acme", strings.Repeat(" ", maxBody+1), now, func(r *http.Request) *http.Request { r.ContentLength = -1; return r }, 413, TooLarge},
		{"as large as may be", secretA, "acme", event("evt_1") + strings.Repeat(" ", maxBody-len(event("evt_1"))), now, nil, 200, Recorded},
		{"a body that breaks off", secretA, "acme", event("evt_1"), now, func(r *http.Request) *http.Request {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), broken{}))
			return r
		}, 400, Malformed},
		{"a long id", secretA, "acme", event("evt_1"), now, func(r *http.Request) *http.Request {
			return delivery(t, secretA, "acme", strings.Repeat("m", 300), event("evt_1"), now)
		}, 400, Malformed},
		{"an unknown merchant", secretA, "other", event("evt_1"), now, nil, 404, ""},
		{"no merchant", secretA, "", event("evt_1"), now, nil, 404, ""},
		{"GET", secretA, "acme", event("evt_1"), now, func(r *http.Request) *http.Request { r.Method = http.MethodGet; return r }, 405, ""},
		{"GET elsewhere", secretA, "acme", event("evt_1"), now, func(r *http.Request) *http.Request { r.Method, r.URL.Path = http.MethodGet, "/"; return r }, 404, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t)
			r := delivery(t, tc.secret, tc.merchant, "msg_1", tc.body, tc.at)
			if tc.change != nil {
				r = tc.change(r)
			}
			w := s.answer(r)
			if w.Code != tc.status || (tc.result == Recorded) != (len(s.store.all) == 1) {
				t.Errorf("answered %d %q, recorded %v", w.Code, w.Body, s.store.all)
			}
			if tc.result != "" && s.counts[tc.merchant+" "+string(tc.result)] != 1 || tc.result == "" && len(s.counts) > 0 {
				t.Errorf("counted %v", s.counts)
			}
			if strings.Contains(s.log.String()+w.Body.String(), "CANARY") {
				t.Errorf("the body is in %s%s", &s.log, w.Body)
			}
			for i, p := range s.store.all {
				if s.store.scope[i].Merchant != tc.merchant || p.EventID != "evt_1" || p.Amount != 500 || p.Currency != "ZAR" || p.AccountID != "bacc_1" ||
					p.ObligationID != "ob_1" || p.PaymentID != "pay_1" || time.Since(p.ReceivedAt) > time.Minute {
					t.Errorf("recorded %+v", p)
				}
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken off") }

// A delivery that comes again is answered 200 and recorded once, by its webhook-id and by its
// event's id.
func TestRepeated(t *testing.T) {
	s := newSite(t)
	now := time.Now()
	for i, d := range []struct{ id, event string }{{"msg_1", "evt_1"}, {"msg_1", "evt_1"}, {"msg_2", "evt_1"}, {"msg_1", "evt_2"}} {
		if w := s.answer(delivery(t, secretA, "acme", d.id, event(d.event), now.Add(time.Duration(i)*time.Second))); w.Code != 200 {
			t.Errorf("delivery %d: %d", i, w.Code)
		}
	}
	if len(s.store.all) != 1 || s.counts["acme recorded"] != 1 || s.counts["acme repeated"] != 3 {
		t.Errorf("%d recorded, %v", len(s.store.all), s.counts)
	}
}

// What cannot be recorded is not acknowledged, and the log says so once a minute, whatever comes.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.store.err = errors.New("disk full")
		for range 61 {
			if w := s.answer(delivery(t, secretA, "acme", "msg_1", event("evt_1"), time.Now())); w.Code != http.StatusServiceUnavailable {
				t.Fatalf("answered %d", w.Code)
			}
			time.Sleep(time.Second)
		}
		if n := strings.Count(s.log.String(), "disk full"); n != 2 || !strings.Contains(s.log.String(), "deliveries=60") {
			t.Errorf("%d lines: %s", n, &s.log)
		}
		s.store.err = nil
		if w := s.answer(delivery(t, secretA, "acme", "msg_1", event("evt_1"), time.Now())); w.Code != 200 || len(s.store.all) != 1 {
			t.Errorf("answered %d once it works again", w.Code)
		}
	})
}

// FuzzDelivery: whatever is sent, nothing is recorded unless it is signed, and the answer is one
// of a few.
func FuzzDelivery(f *testing.F) {
	f.Add("/webhooks/acme", "POST", "msg_1", int64(0), "v1,AAAA", event("evt_1"), false)
	f.Add("/webhooks/acme", "POST", "msg_1", int64(0), "", event("evt_1"), true)
	f.Add("/webhooks/acme", "POST", "msg_1", int64(-181), "v1,", `{"id":"evt_1"}`, true)
	f.Add("/webhooks/../acme", "GET", "\x00", int64(1<<40), "v1,,, v1a,x", "\xff", true)
	f.Add("/webhooks/acme", "POST", "msg_1", int64(0), "", `{"id":"evt_1","type":"payment_request.paid","data":{"id":"pr_1","amount":1e3,"currency":"ZAR","metadata":[{}]}}`, true)
	f.Fuzz(func(t *testing.T, path, method, id string, off int64, signature, body string, signed bool) {
		s := newSite(t)
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.URL.Path, r.Method = path, method
		at := time.Now().Add(time.Duration(off) * time.Second)
		if signed {
			w, err := standardwebhooks.NewWebhook(secretA)
			if err != nil {
				t.Fatal(err)
			}
			good, err := w.Sign(id, at, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			signature = strings.TrimSpace(signature + " " + good)
		}
		r.Header["Webhook-Id"], r.Header["Webhook-Timestamp"], r.Header["Webhook-Signature"] = []string{id}, []string{strconv.FormatInt(at.Unix(), 10)}, []string{signature}
		w := s.answer(r)
		switch w.Code {
		case 200, 400, 401, 404, 405, 413:
		default:
			t.Errorf("status %d", w.Code)
		}
		if n := len(s.store.all); n > 0 && !signed || n > 1 || w.Code != 200 && n > 0 {
			t.Errorf("signed %v, %d, recorded %v", signed, w.Code, s.store.all)
		}
		for _, p := range s.store.all {
			if p.Amount < 1 || len(p.EventID) > 64 || len(p.Currency) != 3 || strings.ContainsAny(p.EventID+p.BillID+p.AccountID+p.CustomerID+p.PaymentID+p.ObligationID, " \n\x00\x1b=+@") {
				t.Errorf("recorded %+v", p)
			}
		}
	})
}
