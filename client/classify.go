package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

var (
	errNotObject  = errors.New("answer is not the JSON object it should be")
	errIncomplete = errors.New("answer lacks an id or an external reference")
	errNoProof    = errors.New("answer has a success status that proves nothing here")
	errOther      = errors.New("answer is about another reference")
	errOddStatus  = errors.New("answer has a status below 200")
)

// result is everything that is known of one request once it is over: the input of classify.
type result struct {
	method string
	object object
	asked  string // external reference, or with GET perhaps an id

	// Of an answer; status is 0 when there was none.
	status  int
	header  http.Header
	buf     *bytes.Buffer // holds body
	body    []byte
	bodyErr error     // the body could not be read to its end
	now     time.Time // for a Retry-After date, should the answer have no Date

	// Of no answer.
	failure   error
	maybeSent bool
}

// fail words why there is no usable answer.
func (r *result) fail(err error) error {
	return fmt.Errorf("%s %s: %w", r.method, r.object.noun(), err)
}

// classify is the verdict on one request, a pure function of its result. The comments of Kind are its
// specification; what it cannot place, it places where somebody will look the bill up.
func classify(r result) Answer {
	if r.status == 0 {
		return classifyFailure(r)
	}
	a := Answer{
		Status:     r.status,
		Replayed:   strings.EqualFold(strings.TrimSpace(r.header.Get("Idempotent-Replayed")), "true"),
		RetryAfter: retryAfter(r.header, r.now),
	}
	switch {
	case r.status < 200:
		a.Kind, a.Err = Lost, r.fail(errOddStatus)
	case r.status < 300:
		classifySuccess(r, &a)
	case r.status < 400:
		a.Kind = Redirected
	default:
		classifyProblem(r, &a)
	}
	return a
}

// classifyFailure is for a request without an answer.
func classifyFailure(r result) Answer {
	a := Answer{Err: r.fail(describe(r.failure))}
	switch {
	case untrusted(r.failure):
		a.Kind = Untrusted
	case r.maybeSent:
		a.Kind = Lost
	default:
		a.Kind = NotSent
	}
	return a
}

// classifySuccess is for a 2xx: proof only when it is the status that the API documents, with the object in it,
// about the reference that was asked for.
func classifySuccess(r result, a *Answer) {
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
	found, set, err := readObject(r.object, r.body)
	if err != nil {
		a.Err = r.fail(err)
		return
	}
	byID := r.method == http.MethodGet && strings.HasPrefix(r.asked, r.object.idPrefix()) && r.asked == found.ID
	if found.Reference != r.asked && !byID {
		a.Kind, a.Err = Mismatched, r.fail(errOther)
		return
	}
	a.Kind = kind
	set(a)
}

// identity is what every object has.
type identity struct{ ID, Reference string }

// readObject reads body as an object of the kind, and gives its identity and how to put it into an answer.
func readObject(o object, body []byte) (identity, func(*Answer), error) {
	var id identity
	var set func(*Answer)
	var err error
	switch o {
	case bills:
		v := new(Bill)
		err = json.Unmarshal(body, v)
		id, set = identity{v.ID, v.ExternalReference}, func(a *Answer) { a.Bill = v }
	case customers:
		v := new(Customer)
		err = json.Unmarshal(body, v)
		id, set = identity{v.ID, v.ExternalReference}, func(a *Answer) { a.Customer = v }
	case accounts:
		v := new(Account)
		err = json.Unmarshal(body, v)
		id, set = identity{v.ID, v.ExternalReference}, func(a *Answer) { a.Account = v }
	}
	switch {
	case err != nil:
		return identity{}, nil, errNotObject // a decoder's error may quote what it read
	case id.ID == "" || id.Reference == "":
		return identity{}, nil, errIncomplete
	}
	return id, set, nil
}

// classifyProblem is for a 4xx or 5xx.
func classifyProblem(r result, a *Answer) {
	p, said := readProblem(r.status, r.body)
	a.Problem = p
	post := r.method == http.MethodPost
	switch {
	case r.status >= 500, r.status == http.StatusRequestTimeout, r.status == http.StatusTooEarly, r.status == http.StatusLocked:
		a.Kind = ServerFault
	case isPage(r) && !slices.Contains(spoken[:], r.status):
		a.Kind = ServerFault // a gateway's page for people, not the API's word on a row
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		a.Kind = KeyRefused
	case r.status == http.StatusTooManyRequests:
		a.Kind = Throttled
	case !post && r.status == http.StatusNotFound:
		a.Kind = Absent
	case post && r.status == http.StatusConflict:
		a.Kind = classifyConflict(said)
	case post && r.status == http.StatusUnprocessableEntity:
		a.Kind = classifyUnprocessable(said)
	default:
		a.Kind = Refused
	}
	bodyDecides := post && (r.status == http.StatusConflict || r.status == http.StatusUnprocessableEntity)
	if bodyDecides && r.bodyErr != nil {
		a.Kind, a.Err = Lost, r.fail(describe(r.bodyErr))
	}
}

// spoken are the statuses that say enough by themselves, whatever comes with them.
var spoken = [...]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests}

// isPage reports whether a body is HTML: the API itself answers JSON.
func isPage(r result) bool {
	return strings.Contains(strings.ToLower(r.header.Get("Content-Type")), "html") || bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("<"))
}

// classifyConflict tells a key in flight from a reference that is taken. Said is lower case.
func classifyConflict(said string) Kind {
	waiting := speaksOf(said, "in flight", "in-flight", "inflight", "in progress", "in-progress", "in_progress", "being processed",
		"still processing", "concurrent request", "outstanding", "still running", "still executing", "not finished", "not completed")
	taken := speaksOf(said, "taken", "exists", "duplicate", "unique", "been used", "in use")
	if waiting && (speaksOf(said, "idempoten") || speaksOf(said, "request") && !taken) {
		return InFlight
	}
	return Taken
}

// classifyUnprocessable tells a key with another body, and a reference that is taken, from a plain refusal.
// When in doubt it says Taken, for that costs a look-up, while Refused is final.
func classifyUnprocessable(said string) Kind {
	switch {
	case speaksOf(said, "idempoten") && speaksOf(said, "differ", "another", "other ", "match", "reuse", "re-use", "already",
		"body", "payload", "parameter"):
		return KeyReused
	case speaksOf(said, "taken", "already", "exists", "duplicate", "unique", "in use", "in_use", "in-use"):
		return Taken
	case strings.TrimSpace(said) == "":
		return Taken
	}
	return Refused
}

// speaksOf reports whether said, in lower case, has one of the words in it.
func speaksOf(said string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(said, w) {
			return true
		}
	}
	return false
}

// untrusted reports whether err is the refusal of the server's certificate by this side.
func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// failure is a transport's error under a text that is known to quote nothing.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// describe gives err a text that is safe to log. Errors of net, tls and x509 name addresses and reasons and
// stay; others of net/http may quote a malformed answer, and an answer may repeat a request.
func describe(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	var timeout net.Error
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errTooLarge):
		return err
	case errors.Is(err, context.Canceled):
		return &failure{"interrupted", err}
	case errors.Is(err, context.DeadlineExceeded):
		return &failure{"timed out", err}
	case untrusted(err):
		return &failure{"certificate refused: " + clean(err.Error(), maxDetail), err}
	case errors.As(err, &op):
		return &failure{clean(op.Error(), maxDetail), err}
	case errors.As(err, &dns):
		return &failure{clean(dns.Error(), maxDetail), err}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &failure{"timed out", err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &failure{"connection closed before the answer was complete", err}
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return &failure{"server speaks plain HTTP where https is asked for", err}
	case strings.HasPrefix(err.Error(), "tls: "):
		return &failure{clean(err.Error(), maxDetail), err}
	case strings.Contains(err.Error(), "response headers exceeded"):
		return &failure{"answer has a header larger than 64 KiB", err}
	case strings.Contains(err.Error(), "malformed"):
		return &failure{"answer is not HTTP", err}
	}
	return &failure{"connection failed", err}
}
