package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	goodBill     = `{"id":"bill_1","external_reference":"B-1","customer_id":"bcus_1","status":"unpaid","currency":"ZAR","amount_due":2000}`
	goodCustomer = `{"id":"bcus_1","external_reference":"C-1","name":"N"}`
	goodAccount  = `{"id":"bacc_1","external_reference":"A-1","customer_id":"bcus_1"}`
)

func problemBody(title, detail string) string {
	return fmt.Sprintf(`{"type":"about:blank","title":%q,"status":1,"detail":%q}`, title, detail)
}

// verdict is what classify fills in.
func verdict(r result) (a Answer) {
	classify(&r, &a)
	return a
}

// TestClassifyAnswers goes through the comments of Kind line by line.
func TestClassifyAnswers(t *testing.T) {
	broken := errors.New("broken")
	post, get := http.MethodPost, http.MethodGet
	for _, tc := range []struct {
		name    string
		method  string
		object  object
		asked   string
		status  int
		body    string
		bodyErr error
		kind    Kind
		label   string
	}{
		// Created
		{"bill created", post, bills, "B-1", 201, goodBill, nil, Created, "201"},
		{"customer created", post, customers, "C-1", 201, goodCustomer, nil, Created, "201"},
		{"account created", post, accounts, "A-1", 201, goodAccount, nil, Created, "201"},
		// Found
		{"bill found", get, bills, "B-1", 200, goodBill, nil, Found, "200"},
		{"bill found by id", get, bills, "bill_1", 200, goodBill, nil, Found, "200"},
		{"customer found by id", get, customers, "bcus_1", 200, goodCustomer, nil, Found, "200"},
		{"account found by id", get, accounts, "bacc_1", 200, goodAccount, nil, Found, "200"},
		{"reference that looks like an id", get, bills, "bill_x", 200, `{"id":"bill_1","external_reference":"bill_x","amount_due":1}`, nil, Found, "200"},
		{"bill created, without an amount", post, bills, "B-1", 201, `{"id":"bill_1","external_reference":"B-1"}`, nil, Created, "201"},
		{"id as long as may be", post, bills, "B-1", 201, `{"id":"` + strings.Repeat("b", 64) + `","external_reference":"B-1"}`, nil, Created, "201"},
		// Absent
		{"bill absent", get, bills, "B-1", 404, problemBody("Not found", ""), nil, Absent, "404"},
		{"absent, without a body", get, bills, "B-1", 404, "", nil, Absent, "404"},
		// Mismatched
		{"created another", post, bills, "B-2", 201, goodBill, nil, Mismatched, "201 other reference"},
		{"created: id is not the reference", post, bills, "bill_1", 201, goodBill, nil, Mismatched, "201 other reference"},
		{"found another", get, bills, "B-2", 200, goodBill, nil, Mismatched, "200 other reference"},
		{"found another id", get, bills, "bill_2", 200, goodBill, nil, Mismatched, "200 other reference"},
		{"references differ in case", get, bills, "b-1", 200, goodBill, nil, Mismatched, "200 other reference"},
		// Unreadable
		{"created, 200", post, bills, "B-1", 200, goodBill, nil, Unreadable, "200 unreadable"},
		{"created, 202", post, bills, "B-1", 202, goodBill, nil, Unreadable, "202 unreadable"},
		{"created, 204", post, bills, "B-1", 204, "", nil, Unreadable, "204 unreadable"},
		{"found, 201", get, bills, "B-1", 201, goodBill, nil, Unreadable, "201 unreadable"},
		{"created, no body", post, bills, "B-1", 201, "", nil, Unreadable, "201 unreadable"},
		{"created, html", post, bills, "B-1", 201, "<html>", nil, Unreadable, "201 unreadable"},
		{"created, cut", post, bills, "B-1", 201, goodBill[:40], nil, Unreadable, "201 unreadable"},
		{"created, two documents", post, bills, "B-1", 201, goodBill + goodBill, nil, Unreadable, "201 unreadable"},
		{"created, null", post, bills, "B-1", 201, "null", nil, Unreadable, "201 unreadable"},
		{"created, list", post, bills, "B-1", 201, "[" + goodBill + "]", nil, Unreadable, "201 unreadable"},
		{"created, no id", post, bills, "B-1", 201, `{"external_reference":"B-1"}`, nil, Unreadable, "201 unreadable"},
		{"created, no reference", post, bills, "B-1", 201, `{"id":"bill_1"}`, nil, Unreadable, "201 unreadable"},
		{"found, no amount", get, bills, "B-1", 200, `{"id":"bill_1","external_reference":"B-1"}`, nil, Unreadable, "200 unreadable"},
		{"found, amount zero", get, bills, "B-1", 200, `{"id":"bill_1","external_reference":"B-1","amount_due":0}`, nil, Unreadable, "200 unreadable"},
		{"created, id too long", post, bills, "B-1", 201, `{"id":"` + strings.Repeat("b", 65) + `","external_reference":"B-1"}`, nil, Unreadable, "201 unreadable"},
		{"created, id with a slash", post, bills, "B-1", 201, `{"id":"bill_1/void","external_reference":"B-1"}`, nil, Unreadable, "201 unreadable"},
		{"created, customer's id with a line end", post, bills, "B-1", 201, `{"id":"bill_1","external_reference":"B-1","customer_id":"a\nb"}`, nil, Unreadable, "201 unreadable"},
		{"created, account's id with a zero-width space", post, bills, "B-1", 201, `{"id":"bill_1","external_reference":"B-1","account_id":"a\u200b"}`, nil, Unreadable, "201 unreadable"},
		{"customer found, id a formula", get, customers, "C-1", 200, `{"id":"=1+1","external_reference":"C-1"}`, nil, Unreadable, "200 unreadable"},
		{"account found, owner's id with a space", get, accounts, "A-1", 200, `{"id":"bacc_1","external_reference":"A-1","customer_id":"bcus 1"}`, nil, Unreadable, "200 unreadable"},
		{"created, amount a fraction", post, bills, "B-1", 201, `{"id":"bill_1","external_reference":"B-1","amount_due":20.5}`, nil, Unreadable, "201 unreadable"},
		{"created, reading broke off", post, bills, "B-1", 201, goodBill, broken, Unreadable, "201 unreadable"},
		{"found, reading broke off", get, bills, "B-1", 200, goodBill, broken, Unreadable, "200 unreadable"},
		// Redirected
		{"300", post, bills, "B-1", 300, goodBill, nil, Redirected, "300"},
		{"307", post, bills, "B-1", 307, "", nil, Redirected, "307"},
		{"304", get, bills, "B-1", 304, "", nil, Redirected, "304"},
		// Refused
		{"400", post, bills, "B-1", 400, problemBody("Bad", "already exists"), nil, Refused, "400"},
		{"402", post, bills, "B-1", 402, "", nil, Refused, "402"},
		{"404 on a POST", post, bills, "B-1", 404, "", nil, Refused, "404"},
		{"405", post, bills, "B-1", 405, "", nil, Refused, "405"},
		{"413", post, bills, "B-1", 413, "", nil, Refused, "413"},
		{"400 whose body broke off", post, bills, "B-1", 400, "", broken, Refused, "400"},
		{"422 about the amount", post, bills, "B-1", 422, problemBody("Unprocessable", "amount_due is too large"), nil, Refused, "422"},
		{"422 without such a customer", post, bills, "B-1", 422, problemBody("Unprocessable", "customer does not exist"), nil, Refused, "422"},
		{"422 about the key alone", post, bills, "B-1", 422, problemBody("Unprocessable", "Idempotency-Key is too short"), nil, Refused, "422"},
		{"422 that echoes a request", post, bills, "B-1", 422, `{"title":"Unprocessable","detail":"no","instance":"/billing/taken","request":{"name":"Unique Ltd"}}`, nil, Refused, "422"},
		{"422 on a GET", get, bills, "B-1", 422, "", nil, Refused, "422"},
		{"409 on a GET", get, bills, "B-1", 409, "", nil, Refused, "409"},
		// KeyRefused
		{"401", post, bills, "B-1", 401, problemBody("Unauthorized", ""), nil, KeyRefused, "401"},
		{"403 on a GET", get, bills, "B-1", 403, "", broken, KeyRefused, "403"},
		{"403 problem", post, bills, "B-1", 403, problemBody("Forbidden", ""), nil, KeyRefused, "403"},
		{"403 in words", post, bills, "B-1", 403, "Forbidden", nil, KeyRefused, "403"},
		{"401 page", post, bills, "B-1", 401, "<html>", nil, KeyRefused, "401"},
		// Blocked
		{"403 page", post, bills, "B-1", 403, "<html><title>403 Forbidden</title>", nil, Blocked, "403 page"},
		{"403 page on a GET", get, bills, "B-1", 403, " <!DOCTYPE html>", nil, Blocked, "403 page"},
		// InFlight
		{"409 in the draft's words", post, bills, "B-1", 409, problemBody("A request is outstanding for this Idempotency-Key",
			"A request with the same Idempotency-Key for the same operation is being processed or is outstanding."), nil, InFlight, "409 in flight"},
		{"409 in progress", post, bills, "B-1", 409, problemBody("Conflict", "IDEMPOTENCY KEY request in progress"), nil, InFlight, "409 in flight"},
		{"409 in flight", post, bills, "B-1", 409, problemBody("Idempotency key in flight", ""), nil, InFlight, "409 in flight"},
		{"409 concurrent", post, bills, "B-1", 409, problemBody("Concurrent request", ""), nil, InFlight, "409 in flight"},
		{"409 by type alone", post, bills, "B-1", 409, `{"type":"https://x/idempotency-in-progress"}`, nil, InFlight, "409 in flight"},
		{"409 by code", post, bills, "B-1", 409, `{"title":"Conflict","code":"idempotent_request_in_progress"}`, nil, InFlight, "409 in flight"},
		{"409 in plain text", post, bills, "B-1", 409, "a request with this idempotency key is in progress", nil, InFlight, "409 in flight"},
		// KeyReused
		{"422 in the draft's words", post, bills, "B-1", 422, problemBody("Idempotency-Key is already used",
			"Idempotency Key MUST not be reused across different payloads of this operation."), nil, KeyReused, "422 key reused"},
		{"422 other parameters", post, bills, "B-1", 422, problemBody("Unprocessable", "idempotency key was used with other parameters"), nil, KeyReused, "422 key reused"},
		{"422 body mismatch", post, bills, "B-1", 422, problemBody("idempotency_key_mismatch", ""), nil, KeyReused, "422 key reused"},
		// Taken
		{"409 taken", post, bills, "B-1", 409, problemBody("Conflict", "external_reference is taken"), nil, Taken, "409 taken"},
		{"409 unclear", post, bills, "B-1", 409, problemBody("Conflict", ""), nil, Taken, "409 taken"},
		{"409 silent", post, bills, "B-1", 409, "", nil, Taken, "409 taken"},
		{"409 html", post, bills, "B-1", 409, "<html>Conflict</html>", nil, Taken, "409 taken"},
		{"409 outstanding bill", post, bills, "B-1", 409, problemBody("Conflict", "there is an outstanding bill"), nil, Taken, "409 taken"},
		{"422 already", post, bills, "B-1", 422, problemBody("Unprocessable", "reference Already used"), nil, Taken, "422 taken"},
		{"422 exists", post, bills, "B-1", 422, problemBody("Unprocessable", "a bill exists"), nil, Taken, "422 taken"},
		{"422 duplicate", post, bills, "B-1", 422, `{"type":"https://x/duplicate-reference","title":"Unprocessable"}`, nil, Taken, "422 taken"},
		{"422 unique", post, bills, "B-1", 422, problemBody("must be unique", ""), nil, Taken, "422 taken"},
		{"422 in use", post, bills, "B-1", 422, problemBody("", "reference in use"), nil, Taken, "422 taken"},
		{"422 in a list of errors", post, bills, "B-1", 422, `{"title":"Validation failed","errors":[{"field":"x","message":"has already been taken"}]}`, nil, Taken, "422 taken"},
		{"422 in a map of errors", post, bills, "B-1", 422, `{"title":"Validation failed","errors":{"external_reference":["has been taken"]}}`, nil, Taken, "422 taken"},
		{"422 silent", post, bills, "B-1", 422, "", nil, Taken, "422 taken"},
		{"422 empty document", post, bills, "B-1", 422, "{}", nil, Taken, "422 taken"},
		// Throttled
		{"429", post, bills, "B-1", 429, "", broken, Throttled, "429"},
		{"429 on a GET", get, bills, "B-1", 429, "", nil, Throttled, "429"},
		// ServerFault
		{"500", post, bills, "B-1", 500, problemBody("Oops", "already exists"), nil, ServerFault, "500"},
		{"503 on a GET", get, bills, "B-1", 503, "", broken, ServerFault, "503"},
		{"599", post, bills, "B-1", 599, "", nil, ServerFault, "599"},
		{"999", post, bills, "B-1", 999, "", nil, ServerFault, "999"},
		{"408", post, bills, "B-1", 408, "", nil, ServerFault, "408"},
		{"425", post, bills, "B-1", 425, "", nil, ServerFault, "425"},
		// Lost, with a status
		{"409 that broke off", post, bills, "B-1", 409, `{"title":"Conf`, broken, Lost, "connection lost"},
		{"422 that timed out", post, bills, "B-1", 422, "", context.DeadlineExceeded, Lost, "timeout"},
		{"101", post, bills, "B-1", 101, "", nil, Lost, "connection lost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := result{method: tc.method, object: tc.object, asked: tc.asked, clean: newCleaner(secret), status: tc.status, header: http.Header{}, body: []byte(tc.body), bodyErr: tc.bodyErr, maybeSent: true}
			a := verdict(r)
			if a.Kind != tc.kind || a.Label() != tc.label || a.Status != tc.status || a.Replayed {
				t.Errorf("got %v, label %q, status %d, replayed %v (%v); want %v, label %q", a.Kind, a.Label(), a.Status, a.Replayed, a.Err, tc.kind, tc.label)
			}
			checkAnswer(t, r, a)
			r.header.Set("Idempotent-Replayed", "True")
			if b := verdict(r); b.Kind != tc.kind || !b.Replayed || b.Label() != tc.label+" replayed" {
				t.Errorf("replayed: got %v, label %q", b.Kind, b.Label())
			}
		})
	}
}

// TestTextsOfABill: what the API says of a bill in words is cut and cleaned.
func TestTextsOfABill(t *testing.T) {
	a := verdict(result{method: http.MethodPost, object: bills, asked: "B-1", clean: newCleaner(secret), status: 201, header: http.Header{},
		body: []byte(`{"id":"b","external_reference":"B-1","status":"un\u001b[31mpaid","currency":"Z\u200bAR","bill_date":"` + strings.Repeat("9 ", 99) + `","due_date":"\u202e2026-12-31"}`)})
	if b := a.Bill; b == nil || b.Status != "un[31mpaid" || b.Currency != "ZAR" || len(b.BillDate) > maxWord || b.DueDate != "2026-12-31" {
		t.Errorf("%+v", b)
	}
}

// TestClassifyFailures: what became of requests without an answer.
func TestClassifyFailures(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, tc := range []struct {
		name      string
		err       error
		maybeSent bool
		kind      Kind
		label     string
	}{
		{"connection refused", refused, false, NotSent, "not sent: connection refused"},
		{"unknown host", &net.DNSError{Err: "no such host", Name: "api.example", IsNotFound: true}, false, NotSent, "not sent: no such host"},
		{"handshake", errors.New("tls: handshake failure"), false, NotSent, "not sent: no TLS"},
		{"interrupted before", context.Canceled, false, NotSent, "not sent: interrupted"},
		{"timed out before", context.DeadlineExceeded, false, NotSent, "not sent: timeout"},
		{"interrupted after", context.Canceled, true, Lost, "interrupted"},
		{"timed out after", context.DeadlineExceeded, true, Lost, "timeout"},
		{"reset", &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, true, Lost, "connection lost"},
		{"closed", io.EOF, true, Lost, "connection lost"},
		{"refused, but in doubt", refused, true, Lost, "connection lost"},
		{"certificate", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, false, Untrusted, "certificate refused"},
		{"no network", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}, false, NotSent, "not sent: no route to host"},
		{"refused by the proxy", &proxyError{407}, false, ProxyRefused, "proxy refused"},
		{"proxy without a way on", &proxyError{504}, false, NotSent, "not sent: no connection"},
		{"wants a certificate", &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, false, NotSent, "not sent: certificate required"},
		{"wrong host name", fmt.Errorf("x: %w", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}), false, Untrusted, "certificate refused"},
		{"quotes an answer", errors.New(`net/http: malformed HTTP status code "CANARY"`), true, Lost, "connection lost"},
		{"quotes something", errors.New("CANARY"), true, Lost, "connection lost"},
	} {
		a := verdict(result{method: http.MethodPost, object: bills, asked: "B-1", clean: newCleaner(secret), failure: tc.err, maybeSent: tc.maybeSent})
		if a.Kind != tc.kind || a.Label() != tc.label || a.Status != 0 {
			t.Errorf("%s: got %v, label %q; want %v, %q", tc.name, a.Kind, a.Label(), tc.kind, tc.label)
		}
		if !errors.Is(a.Err, tc.err) || strings.Contains(a.Err.Error(), "CANARY") || !strings.HasPrefix(a.Err.Error(), "POST bill: ") {
			t.Errorf("%s: error %q", tc.name, a.Err)
		}
	}
}

// TestKindNames: every kind has a name of its own, and a kind that does not exist has
// none.
func TestKindNames(t *testing.T) {
	seen := make(map[string]Kind)
	for k := Unknown; k <= Lost; k++ {
		if other, twice := seen[k.String()]; twice || strings.HasPrefix(k.String(), "kind ") {
			t.Errorf("kinds %d and %d are both %q", other, k, k)
		}
		seen[k.String()] = k
	}
	if got := Kind(Lost + 1).String(); got != "kind 19" {
		t.Errorf("a kind too many is %q", got)
	}
	if got := (Answer{}).Label(); got != "unknown" {
		t.Errorf("the zero answer's label is %q", got)
	}
}

var labelPattern = regexp.MustCompile(`^(\d{3}( (page|other reference|unreadable|in flight|key reused|taken))?|not sent(: [a-zA-Z ]+)?|certificate refused|proxy refused|timeout|interrupted|connection lost)( replayed)?$`)

// checkAnswer holds for every answer, whatever was received.
func checkAnswer(t *testing.T, r result, a Answer) {
	t.Helper()
	objects := 0
	for _, set := range []bool{a.Bill != nil, a.Customer != nil, a.Account != nil} {
		if set {
			objects++
		}
	}
	proof := a.Kind == Created || a.Kind == Found
	if proof != (objects == 1) || (!proof && objects != 0) {
		t.Errorf("%v with %d objects", a.Kind, objects)
	}
	if a.Kind == Created && (r.method != http.MethodPost || r.status != 201 || r.bodyErr != nil) {
		t.Errorf("created by %s %d (%v)", r.method, r.status, r.bodyErr)
	}
	if a.Kind == Found && (r.method != http.MethodGet || r.status != 200 || r.bodyErr != nil) {
		t.Errorf("found by %s %d (%v)", r.method, r.status, r.bodyErr)
	}
	if a.Bill != nil && a.Bill.ExternalReference != r.asked && a.Bill.ID != r.asked {
		t.Errorf("bill %q for %q", a.Bill.ExternalReference, r.asked)
	}
	if a.Kind == Unknown {
		t.Error("classified as nothing")
	}
	if noAnswer := a.Kind == Unreadable || a.Kind == Mismatched || a.Kind == Lost || a.Kind == NotSent; noAnswer != (a.Err != nil) {
		t.Errorf("%v with error %v", a.Kind, a.Err)
	}
	if isProblem := r.status >= 400; isProblem != (a.Problem.Title != "") || isProblem != (a.Problem.Status == r.status) {
		t.Errorf("status %d with problem %+v", r.status, a.Problem)
	}
	for _, s := range []struct {
		text  string
		limit int
	}{{a.Problem.Type, maxTitle}, {a.Problem.Title, maxTitle}, {a.Problem.Detail, maxDetail}} {
		if len(s.text) > s.limit || !utf8.ValidString(s.text) || strings.ContainsFunc(s.text, unicode.IsControl) {
			t.Errorf("problem text %q", s.text)
		}
	}
	for text, limit := range map[string]int{a.Page: maxPageTitle, a.Server: maxServer, a.Reason(): maxDetail + 100} {
		if len(text) > limit || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("text %q", text)
		}
	}
	if a.RetryAfter != 0 && (a.RetryAfter < time.Second || a.RetryAfter > 15*time.Minute) {
		t.Errorf("retry after %v", a.RetryAfter)
	}
	if !labelPattern.MatchString(a.Label()) {
		t.Errorf("label %q", a.Label())
	}
}

// FuzzClassify: no answer makes it panic, claim what is not there, or give text unbounded
// or uncleaned.
func FuzzClassify(f *testing.F) {
	for _, body := range []string{goodBill, goodCustomer, goodAccount, "", "null", "[]", "{", problemBody("Conflict", "in progress"),
		`{"title":1,"detail":{"a":[]},"errors":[[["taken"]]]}`, "{\"title\":\"a\\u0000\\u202e\xff\"}"} {
		f.Add(true, uint8(1), 201, body, "", false)
		f.Add(false, uint8(2), 200, body, "Wed, 21 Oct 2026 07:28:00 GMT", false)
		f.Add(true, uint8(3), 422, body, "99999999999999999999", true)
	}
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, isPost bool, kind uint8, status int, body, retry string, cut bool) {
		r := result{method: http.MethodGet, object: bills + object(kind%3), asked: "B-1", clean: newCleaner(secret), body: []byte(body), now: now, maybeSent: true,
			status: 100 + (status%900+900)%900, header: http.Header{"Retry-After": {retry}}}
		if isPost {
			r.method = http.MethodPost
		}
		if cut {
			r.bodyErr = io.ErrUnexpectedEOF
		}
		a := verdict(r)
		checkAnswer(t, r, a)
		if again := verdict(r); again.Kind != a.Kind || again.Problem != a.Problem {
			t.Errorf("classified as %v, then as %v", a.Kind, again.Kind)
		}
	})
}

// TestValidID: letters, digits, - and _, to the last of each, and nothing beside them.
func TestValidID(t *testing.T) {
	for _, id := range []string{"azAZ09-_", "b", strings.Repeat("x", maxID)} {
		if !validID(id) {
			t.Errorf("%q is refused", id)
		}
	}
	for _, id := range []string{"", "`", "{", "@", "[", "/", ":", " ", "é", "a\x00", strings.Repeat("x", maxID+1)} {
		if validID(id) {
			t.Errorf("%q is taken for an id", id)
		}
	}
}

// TestPageByEither: HTML is known by its type or by how it begins.
func TestPageByEither(t *testing.T) {
	for _, c := range []struct {
		contentType, body string
		want              bool
	}{
		{"text/html; charset=utf-8", "not here", true},
		{"application/xhtml+HTML", "", true},
		{"text/plain", " \n<html>", true},
		{"", "<", true},
		{"application/problem+json", `{"title":"<b>"}`, false},
		{"", "not here", false},
	} {
		if got := isPage(&result{header: http.Header{"Content-Type": {c.contentType}}, body: []byte(c.body)}); got != c.want {
			t.Errorf("%q %q: %v", c.contentType, c.body, got)
		}
	}
}
