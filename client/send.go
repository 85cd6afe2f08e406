package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxBody bounds what is read of an answer: 1 MiB, some thousand times a bill.
	maxBody = 1 << 20
	// maxKeptBuffer is the largest buffer that is kept for another answer.
	maxKeptBuffer = 16 << 10
	// maxIdempotencyKey is the API's limit of an idempotency key, in bytes.
	maxIdempotencyKey = 255
)

var (
	errTooLarge     = errors.New("answer is larger than 1 MiB")
	errBadKey       = errors.New("idempotency key is not 1 to 255 letters, digits and hyphens")
	errNoReference  = errors.New("reference is empty")
	errDotReference = errors.New("reference is a dot segment, which would address another resource")
)

// request is what one request says.
type request struct {
	method string
	url    *url.URL
	key    string // idempotency key of a POST
	body   []byte
}

// post sends body under key.
func (c *Client) post(ctx context.Context, o object, key, reference string, body []byte) (a Answer) {
	switch {
	case !validIdempotencyKey(key):
		return notBuilt(http.MethodPost, o, errBadKey)
	case reference == "":
		return notBuilt(http.MethodPost, o, errNoReference) // the answer could not be checked
	}
	c.exchange(ctx, &request{http.MethodPost, c.collections[o], key, body}, o, reference, &a)
	return a
}

// validIdempotencyKey reports whether the API accepts key as an idempotency key.
func validIdempotencyKey(key string) bool { return isWord(key, maxIdempotencyKey, "-") }

// get fetches one object.
func (c *Client) get(ctx context.Context, o object, reference string) (a Answer) {
	switch reference {
	case "":
		return notBuilt(http.MethodGet, o, errNoReference) // that would ask for a list
	case ".", "..":
		return notBuilt(http.MethodGet, o, errDotReference) // escaping does not disarm these
	}
	c.exchange(ctx, &request{method: http.MethodGet, url: c.objectURL(o, reference)}, o, reference, &a)
	return a
}

// notBuilt returns the answer to a request that could not be built.
func notBuilt(method string, o object, err error) Answer {
	return Answer{Kind: NotSent, Err: fmt.Errorf("%s %s: %w", method, kinds[o].noun, err)}
}

// exchange sends req, reads the whole answer within the client's timeout, and classifies
// it into a. A connection is used again only when its answer was one to this request.
//
// Here and in classify, what is large is passed by pointer: copies would make the stack of
// each sender twice as large.
func (c *Client) exchange(ctx context.Context, req *request, o object, asked string, a *Answer) {
	buf, _ := c.buffers.Get().(*bytes.Buffer)
	if buf == nil {
		buf = new(bytes.Buffer)
	}
	defer c.keep(buf)
	r := result{method: req.method, object: o, asked: asked, clean: c.clean, buf: buf}
	if err := ctx.Err(); err != nil {
		r.failure = err
		classify(&r, a)
		return
	}
	var on reservation
	good := false
	defer func() { on.release(good) }()
	c.send(ctx, req, &r, &on)
	r.now = time.Now()
	classify(&r, a)
	good = a.Err == nil
}

// keep keeps the buffer of an answer for another one, unless it grew beyond the usual. An
// Answer holds copies only.
func (c *Client) keep(buf *bytes.Buffer) {
	if buf.Cap() <= maxKeptBuffer {
		buf.Reset()
		c.buffers.Put(buf)
	}
}

// send sends req and fills in what came of it. It calls the transport directly, because
// an http.Client would add redirects, cookies, and the URL in its errors.
//
// The timeout covers everything: waiting for a connection, connecting, sending, and
// reading the body.
func (c *Client) send(ctx context.Context, req *request, r *result, on *reservation) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	watched := on.watch(ctx)
	res, err := c.transport.RoundTrip(c.build(watched, req))
	for on.refused() {
		// The connection was closed before the request: nothing was sent, and an answer
		// is to something else. net/http does not choose this connection again.
		if err == nil {
			_ = res.Body.Close()
		}
		on.conn = nil
		if err = ctx.Err(); err == nil {
			res, err = c.transport.RoundTrip(c.build(watched, req))
		}
	}
	r.maybeSent = on.held
	if err == nil {
		r.status, r.header = res.StatusCode, res.Header
		if r.status >= 200 {
			r.read(res.Body, res.ContentLength)
		} // else the body is the connection in another protocol (101), without an end
		_ = res.Body.Close() // of a body that was not read to its end, this closes the connection
	}
	// A call that was given up reports why: the transport wraps that in several ways.
	if ended := ctx.Err(); ended != nil {
		if err != nil {
			err = ended
		}
		if r.bodyErr != nil {
			r.bodyErr = ended
		}
	}
	r.failure = err
}

// build makes a request of net/http's that its transport never repeats. The transport
// repeats a request when a kept-alive connection turns out to be dead, if the request has
// no body or a GetBody and is either a GET or has an Idempotency-Key (see the
// documentation of http.Transport). The ledger would not know of that second send. So
// there is never a GetBody, and a GET has an empty body.
func (c *Client) build(ctx context.Context, req *request) *http.Request {
	h := &http.Request{
		Method: req.method, URL: req.url, Host: req.url.Host, Header: c.header(req.key),
		Body: io.NopCloser(bytes.NewReader(req.body)), ContentLength: int64(len(req.body)),
	}
	return h.WithContext(ctx)
}

// read reads a body to its end, or to maxBody. The announced length is negative when it
// is not known.
func (r *result) read(body io.Reader, announced int64) {
	r.buf.Grow(int(min(max(announced, 0), maxBody)) + bytes.MinRead)
	_, r.bodyErr = r.buf.ReadFrom(io.LimitReader(body, maxBody+1))
	if r.body = r.buf.Bytes(); r.bodyErr == nil && len(r.body) > maxBody {
		r.body, r.bodyErr = nil, errTooLarge
	}
}
