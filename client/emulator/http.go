package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"syscall"
	"time"
)

// maxBody is the most that is read of a request.
const maxBody = 1 << 20

// StatePath is where State is served as JSON, without a key and without being counted.
const StatePath = "/_sandbox/state"

// ServeHTTP answers one request. A connection that is to be cut is cut with http.ErrAbortHandler, which
// net/http understands; a server of another make has to as well.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == StatePath {
		a.serveState(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler) // cut off, or far too large: not a request
	}
	rep, err := a.handle(r.Context(), incoming{method: r.Method, path: r.URL.EscapedPath(), header: r.Header, body: body})
	if err != nil || rep.drop {
		panic(http.ErrAbortHandler)
	}
	content := rep.render(w.Header())
	w.WriteHeader(rep.status)
	if rep.dropMid {
		_, _ = w.Write(content[:len(content)/2]) // whatever becomes of these, the connection is cut
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(content) // a client that has gone is no concern of the API's
}

func (a *API) serveState(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(a.State()) // of plain structs it can only fail because the reader has gone
}

// render fills in the header and makes the body.
func (rep *reply) render(h http.Header) []byte {
	contentType := "application/json"
	var content []byte
	switch {
	case rep.raw != nil:
		contentType, content = rep.raw.contentType, []byte(rep.raw.body)
	case rep.problem != nil:
		p := *rep.problem
		p.Instance = rep.path
		contentType, content = "application/problem+json", mustEncode(p)
	default:
		content = mustEncode(renamed(rep.object, rep.reference))
	}
	if rep.status == http.StatusNoContent || rep.status == http.StatusNotModified {
		content = nil // HTTP allows none with these
	} else {
		h.Set("Content-Type", contentType)
		h.Set("Content-Length", strconv.Itoa(len(content)))
	}
	if rep.replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	if rep.retryAfter != "" {
		h.Set("Retry-After", rep.retryAfter)
	}
	if rep.location != "" {
		h.Set("Location", rep.location)
	}
	return content
}

// renamed is object under another reference, where there is one.
func renamed(object any, reference string) any {
	if reference == "" {
		return object
	}
	switch v := object.(type) {
	case *Bill:
		other := *v
		other.ExternalReference = reference
		return &other
	case *Customer:
		other := *v
		other.ExternalReference = reference
		return &other
	case *Account:
		other := *v
		other.ExternalReference = reference
		return &other
	}
	return object
}

func mustEncode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("emulator: encode %T: %v", v, err)) // plain structs of strings and integers always encode
	}
	return b
}

// errDropped is what a client sees of a cut connection.
var errDropped = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

// errRefused is what a client sees where nothing listens.
var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// Transport is the API without sockets: requests are answered on the goroutine that sends them, so that they work on the
// fake clock of a testing/synctest bubble. It reports through net/http/httptrace as net/http does, and may be used
// concurrently.
func (a *API) Transport() http.RoundTripper { return transport{a} }

type transport struct{ api *API }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(req.URL.Host)
	}
	body, err := takeBody(req)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if req.URL.Path == StatePath {
		return t.state(req)
	}
	in := incoming{method: req.Method, path: req.URL.EscapedPath(), header: req.Header, body: body}
	rep, err := t.api.handle(ctx, in)
	if !rep.unreachable {
		traceSent(trace)
	}
	switch {
	case err != nil:
		return nil, err
	case rep.unreachable:
		return nil, errRefused
	case rep.drop:
		return nil, errDropped
	}
	res := &http.Response{
		StatusCode: rep.status, Status: strconv.Itoa(rep.status) + " " + http.StatusText(rep.status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), Request: req,
	}
	res.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	content := rep.render(res.Header)
	res.ContentLength = int64(len(content))
	res.Body = io.NopCloser(bytes.NewReader(content))
	if rep.dropMid {
		res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content[:len(content)/2]), cut{}))
	}
	return res, nil
}

// takeBody reads and closes a request's body.
func takeBody(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	return body, errors.Join(err, req.Body.Close())
}

// traceSent reports that a connection was had and the request written to it.
func traceSent(trace *httptrace.ClientTrace) {
	if trace == nil {
		return
	}
	if trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	if trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	if trace.WroteRequest != nil {
		trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
}

// state answers StatePath.
func (t transport) state(req *http.Request) (*http.Response, error) {
	content := mustEncode(t.api.State())
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(content)), Body: io.NopCloser(bytes.NewReader(content)), Request: req,
	}, nil
}

// cut is the end of a body whose connection is cut.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
