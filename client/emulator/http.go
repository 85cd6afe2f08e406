package emulator

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// maxBody is the most that is read of a request.
const maxBody = 1 << 20

// StatePath serves State as JSON. Requests of it need no key and are not counted.
const StatePath = "/_sandbox/state"

// ServeHTTP implements http.Handler. It panics with http.ErrAbortHandler to cut the
// connection.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case StatePath:
		a.serveState(w, r)
		return
	case PayPath:
		a.servePay(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the request was cut off, or is far too large
	}
	rep, err := a.handle(r.Context(), incoming{method: r.Method, path: r.URL.EscapedPath(), header: r.Header, body: body})
	if err != nil || rep.drop {
		panic(http.ErrAbortHandler)
	}
	content := rep.render(w.Header())
	w.WriteHeader(rep.status)
	if rep.dropMid {
		_, _ = w.Write(content[:len(content)/2]) // the connection is cut in any case
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(content) // fails only if the client has closed the connection
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
	_ = enc.Encode(a.State()) // fails only if the client has closed the connection
}

// render sets the header and returns the body.
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
		content = nil // these have no content (RFC 9110, section 6.4.1)
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

// renamed returns a copy of object under another reference, or object itself if that is
// "".
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
	case *PaymentRequest:
		other := *v
		other.ExternalReference = reference
		return &other
	}
	return object
}

func mustEncode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("emulator: encode %T: %v", v, err)) // cannot happen: plain structs always encode
	}
	return b
}
