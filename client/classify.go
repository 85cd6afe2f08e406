package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

var (
	errNotObject  = errors.New("answer is not the JSON object it should be")
	errIncomplete = errors.New("answer lacks an id or an external reference")
	errBadID      = errors.New("answer has an id that is not 1 to 64 letters, digits, hyphens and underscores")
	errNoAmount   = errors.New("answer about a bill has no amount")
	errNoLink     = errors.New("answer about a payment request has no link that is a web address")
	errNoProof    = errors.New("answer has a success status that proves nothing for this request")
	errOther      = errors.New("answer is about another reference")
	errOddStatus  = errors.New("answer has a status below 200")
)

// result is everything that is known about one request once it is over: the input of
// classify.
type result struct {
	method string
	object object
	asked  string // external reference, or for a GET perhaps an id
	clean  cleaner

	// What arrived; status is 0 when no answer did.
	status  int
	header  http.Header
	buf     *bytes.Buffer // holds body
	body    []byte
	bodyErr error     // why the body could not be read to its end
	now     time.Time // for a Retry-After that is a date, in an answer without Date

	// When no answer arrived.
	failure   error
	maybeSent bool // a byte of the request may have been sent
}

// fail returns the error of an answer that is not usable.
func (r *result) fail(err error) error {
	return fmt.Errorf("%s %s: %w", r.method, kinds[r.object].noun, err)
}

// classify fills in the verdict on one request, which depends on r alone. The comments of Kind
// are its specification. a is zero before. An answer that fits nowhere gets a verdict after
// which the bill is looked up.
func classify(r *result, a *Answer) {
	if r.status == 0 {
		classifyFailure(r, a)
		return
	}
	a.Status = r.status
	a.Replayed = strings.EqualFold(strings.TrimSpace(r.header.Get("Idempotent-Replayed")), "true")
	a.RetryAfter = retryAfter(r.header, r.now)
	if r.header.Get("Age") == "" {
		a.Date, _ = http.ParseTime(r.header.Get("Date")) // zero if there is none
	}
	switch {
	case r.status < 200:
		a.Kind, a.Err = Lost, r.fail(errOddStatus)
	case r.status < 300:
		classifySuccess(r, a)
	case r.status < 400:
		a.Kind = Redirected
	default:
		classifyProblem(r, a)
	}
}

// classifyFailure classifies a request without an answer.
func classifyFailure(r *result, a *Answer) {
	a.Err = r.fail(describe(r.failure))
	var proxy *proxyError
	switch {
	case untrusted(r.failure):
		a.Kind = Untrusted
	case errors.As(r.failure, &proxy) && proxy.final():
		a.Kind = ProxyRefused
	case r.maybeSent:
		a.Kind = Lost
	default:
		a.Kind = NotSent
	}
}

// classifySuccess classifies a 2xx. It is proof only with the status that the API
// documents, and with the object in it, about the reference that was asked for.
func classifySuccess(r *result, a *Answer) {
	a.Kind = Unreadable
	if r.bodyErr != nil {
		a.Err = r.fail(describe(r.bodyErr))
		return
	}
	proof, kind := http.StatusCreated, Created
	if r.method == http.MethodGet {
		proof, kind = http.StatusOK, Found
	}
	if r.status != proof {
		a.Err = r.fail(errNoProof)
		return
	}
	found, set, err := readObject(r)
	if err != nil {
		a.Err = r.fail(err)
		return
	}
	byID := r.method == http.MethodGet && strings.HasPrefix(r.asked, kinds[r.object].idPrefix) && r.asked == found.ID
	if found.Reference != r.asked && !byID {
		a.Kind, a.Err = Mismatched, r.fail(errOther)
		return
	}
	a.Kind = kind
	set(a)
}

// classifyProblem classifies a 4xx or 5xx.
func classifyProblem(r *result, a *Answer) {
	p, text := readProblem(r.status, r.body, r.clean)
	a.Problem, a.Server = p, readServer(r)
	page := isPage(r)
	if page {
		a.Page = readPage(r)
	}
	post := r.method == http.MethodPost
	switch {
	case r.status >= 500, r.status == http.StatusRequestTimeout, r.status == http.StatusTooEarly, r.status == http.StatusLocked:
		a.Kind = ServerFault
	case page && r.status == http.StatusForbidden:
		a.Kind = Blocked
	case page && !slices.Contains(plainStatuses[:], r.status):
		a.Kind = ServerFault // from a gateway, not the API
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		a.Kind = KeyRefused
	case r.status == http.StatusTooManyRequests:
		a.Kind = Throttled
	case !post && r.status == http.StatusNotFound:
		a.Kind, a.Foreign = Absent, isForeign(r.body)
	case post && r.status == http.StatusConflict:
		a.Kind = classifyConflict(text)
	case post && r.status == http.StatusUnprocessableEntity:
		a.Kind = classifyUnprocessable(text)
	default:
		a.Kind = Refused
	}
	bodyDecides := post && (r.status == http.StatusConflict || r.status == http.StatusUnprocessableEntity)
	if bodyDecides && r.bodyErr != nil {
		a.Kind, a.Err = Lost, r.fail(describe(r.bodyErr))
	}
}

// isForeign reports whether the body of a 404 cannot be the API's, whose errors are problem
// documents (RFC 9457): it is neither empty nor an object with a member of one. Rows are judged
// by it, so in doubt it returns false: an API with bare 404s must not hold rows up. What only
// asks (check, plan, verify, payments) goes by the stricter documented of package delivery.
func isForeign(body []byte) bool {
	if len(bytes.TrimSpace(body)) == 0 {
		return false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return true
	}
	for _, name := range [...]string{"type", "title", "status", "detail"} {
		if _, ok := members[name]; ok {
			return false
		}
	}
	return true
}

// plainStatuses are the statuses that mean the same whether the body is a page or not.
var plainStatuses = [...]int{http.StatusUnauthorized, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests}

// classifyConflict distinguishes the two meanings of a 409 (RFC 9110, section 15.5.10): a
// key in flight, and a reference that is taken. The text of the answer is in lower case.
func classifyConflict(text string) Kind {
	waiting := containsAny(text, "in flight", "in-flight", "inflight", "in progress", "in-progress", "in_progress", "being processed",
		"still processing", "concurrent request", "outstanding", "still running", "still executing", "not finished", "not completed")
	taken := containsAny(text, "taken", "exists", "duplicate", "unique", "been used", "in use")
	if waiting && (containsAny(text, "idempoten") || containsAny(text, "request") && !taken) {
		return InFlight
	}
	return Taken
}

// classifyUnprocessable distinguishes the three meanings of a 422 (RFC 9110, section
// 15.5.21): a key that came with another body, a reference that is taken, and a plain
// refusal. In doubt it returns Taken, because that costs one look-up, whereas Refused is
// final.
func classifyUnprocessable(text string) Kind {
	switch {
	case containsAny(text, "idempoten") && containsAny(text, "differ", "another", "other ", "match", "reuse", "re-use", "already",
		"body", "payload", "parameter"):
		return KeyReused
	case containsAny(text, "taken", "already", "exists", "duplicate", "unique", "in use", "in_use", "in-use"):
		return Taken
	case strings.TrimSpace(text) == "":
		return Taken
	}
	return Refused
}

// containsAny reports whether text contains one of the words.
func containsAny(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
