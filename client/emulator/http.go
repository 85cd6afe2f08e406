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
