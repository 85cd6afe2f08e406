package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// maxBody is the most that is read of an answer: 1 MiB, some thousand times a bill.
const maxBody = 1 << 20

var (
	errTooLarge     = errors.New("answer is larger than 1 MiB")
	errBadKey       = errors.New("idempotency key is not 1 to 255 letters, digits and hyphens")
	errNoReference  = errors.New("reference is empty")
	errDotReference = errors.New("reference is a dot segment, which would address another resource")
)

// post sends body under key. The request has no GetBody: with one, and with its Idempotency-Key, net/http would
// take it for replayable and send it a second time, unseen, when a kept-alive connection turns out to be dead.
func (c *Client) post(ctx context.Context, o object, key, reference string, body []byte) Answer {
	switch {
	case !goodKey(key):
		return notBuilt(http.MethodPost, o, errBadKey)
	case reference == "":
		// It could not be told whom the answer is about.
		return notBuilt(http.MethodPost, o, errNoReference)
	}
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           c.posts[o],
		Host:          c.posts[o].Host,
		Header:        c.header(4),
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	return c.exchange(ctx, req, o, reference, &c.sentPosts)
}

// goodKey reports whether the API would take key for an idempotency key.
func goodKey(key string) bool {
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return false
		}
	}
	return 0 < len(key) && len(key) <= 255
}

// get fetches one object. net/http may repeat a GET on a connection that was dead already: harmless, and counted.
func (c *Client) get(ctx context.Context, o object, reference string) Answer {
	switch reference {
	case "":
		return notBuilt(http.MethodGet, o, errNoReference) // that would ask for a list
	case ".", "..":
		return notBuilt(http.MethodGet, o, errDotReference) // escaping does not disarm these
	}
	u, err := url.Parse(c.root + o.path() + "/" + url.PathEscape(reference))
	if err != nil {
		return notBuilt(http.MethodGet, o, errors.New("reference does not fit into a path"))
	}
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: c.header(3)}
	return c.exchange(ctx, req, o, reference, &c.sentGets)
}

// header holds what every request carries, with room for more.
func (c *Client) header(more int) http.Header {
	h := make(http.Header, 3+more)
	h.Set("Accept", "application/json, application/problem+json")
	h.Set("User-Agent", c.agent)
	c.authorise(h)
	return h
}

// notBuilt is the answer to a request that could not be made at all.
func notBuilt(method string, o object, err error) Answer {
	return Answer{Kind: NotSent, Err: fmt.Errorf("%s %s: %w", method, o.noun(), err)}
}

// exchange sends req once, reads the whole answer within the client's timeout, and classifies it. It goes
// straight to the transport: an http.Client would add redirects, cookies, and the URL in its errors.
func (c *Client) exchange(ctx context.Context, req *http.Request, o object, asked string, count *atomic.Int64) Answer {
	r := result{method: req.Method, object: o, asked: asked}
	if err := ctx.Err(); err != nil {
		r.failure = err
		return classify(r)
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	w := wire{count: count}
	res, err := c.transport.RoundTrip(req.WithContext(w.watch(bounded)))
	if err == nil {
		r.status, r.header = res.StatusCode, res.Header
		r.body, r.bodyErr = readBody(res)
	}
	// A call that was given up has the plainest reason; the transport wraps it in several ways.
	if ctxErr := bounded.Err(); ctxErr != nil {
		if err != nil {
			err = ctxErr
		}
		if r.bodyErr != nil {
			r.bodyErr = ctxErr
		}
	}
	r.failure, r.maybeSent, r.now = err, w.maybeSent(c.own != nil), time.Now()
	w.settle(err == nil || r.maybeSent)
	return classify(r)
}

// readBody reads an answer to its end, which also makes the connection fit for the next request, or to maxBody.
func readBody(res *http.Response) ([]byte, error) {
	defer func() { _ = res.Body.Close() }() // what counts has been read
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		return nil, errTooLarge
	}
	return body, err
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

// maybeSent reports whether a byte of the request may have left. Only a transport known to report (our own, or one
// that asked for a connection) can show the contrary: in doubt it was sent.
func (w *wire) maybeSent(own bool) bool {
	return w.got.Load() || (!own && !w.asked.Load())
}

// settle counts a request that was sent by a transport which does not report its writes.
func (w *wire) settle(sent bool) {
	if sent && !w.asked.Load() && w.writes.Load() == 0 {
		w.count.Add(1)
	}
}
