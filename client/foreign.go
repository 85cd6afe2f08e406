package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// foreign sends requests through a transport that is not the client's own: an emulated API, or net/http's.
type foreign struct {
	root      string // BaseURL without its path
	transport http.RoundTripper
	timeout   time.Duration
	header    func() http.Header // a closure, so that no print can show the key
}

func newForeign(base *url.URL, transport http.RoundTripper, timeout time.Duration, key Key, agent string) *foreign {
	return &foreign{base.Scheme + "://" + base.Host, transport, timeout, func() http.Header {
		h := make(http.Header, 7)
		h.Set("Accept", acceptable)
		h.Set("User-Agent", agent)
		h.Set("Authorization", "Bearer "+string(key))
		return h
	}}
}

// build makes a request of net/http's. It has no GetBody: with one, and with its Idempotency-Key, net/http would take it for
// replayable and send it a second time, unseen, when a kept-alive connection turns out to be dead.
func (f *foreign) build(ctx context.Context, req *request) (*http.Request, error) {
	u, err := url.Parse(f.root + req.path)
	if err != nil {
		return nil, errors.New("reference does not fit into a path")
	}
	h := &http.Request{Method: req.method, URL: u, Host: u.Host, Header: f.header()}
	if req.key != "" {
		h.Header.Set("Content-Type", "application/json")
		h.Header.Set("Idempotency-Key", req.key)
		h.Body, h.ContentLength = io.NopCloser(bytes.NewReader(req.body)), int64(len(req.body))
	}
	return h.WithContext(ctx), nil
}

// do is as that of transport, as far as the other transport lets it be known.
func (f *foreign) do(ctx context.Context, req *request, r *result, count *atomic.Int64) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	w := wire{count: count}
	h, err := f.build(w.watch(ctx), req)
	if err != nil {
		r.failure = err
		return
	}
	res, err := f.transport.RoundTrip(h)
	if err == nil {
		r.status, r.header = res.StatusCode, res.Header
		r.read(res.Body, res.ContentLength)
		_ = res.Body.Close() // what counts has been read
	}
	// A call that was given up has the plainest reason; the transport wraps it in several ways.
	if ended := ctx.Err(); ended != nil {
		if err != nil {
			err = ended
		}
		if r.bodyErr != nil {
			r.bodyErr = ended
		}
	}
	r.failure, r.maybeSent = err, w.maybeSent()
	w.settle(err == nil || r.maybeSent)
}

// wire watches one request on its way out. Its hooks may run after the call that they belong to has returned, on goroutines
// of the transport.
type wire struct {
	count  *atomic.Int64
	asked  atomic.Bool // the transport looked for a connection: it reports through httptrace
	got    atomic.Bool // it had a connection: from here on bytes may have left
	writes atomic.Int64
}

// watch is ctx with the hooks in it.
func (w *wire) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.got.Store(true) },
		WroteHeaders: func() {
			w.writes.Add(1)
			w.count.Add(1)
		},
	})
}

// maybeSent reports whether a byte of the request may have left. Only a transport known to report, because it asked for a
// connection, can show the contrary: in doubt it was sent.
func (w *wire) maybeSent() bool { return w.got.Load() || !w.asked.Load() }

// settle counts a request that was sent by a transport which does not report its writes.
func (w *wire) settle(sent bool) {
	if sent && !w.asked.Load() && w.writes.Load() == 0 {
		w.count.Add(1)
	}
}
