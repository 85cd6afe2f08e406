package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// maxBody is the most that is read of an answer: 1 MiB, some thousand times a bill.
const maxBody = 1 << 20

// maxRoom is the largest room for an answer that is kept for another one.
const maxRoom = 16 << 10

var (
	errTooLarge     = errors.New("answer is larger than 1 MiB")
	errBadKey       = errors.New("idempotency key is not 1 to 255 letters, digits and hyphens")
	errNoReference  = errors.New("reference is empty")
	errDotReference = errors.New("reference is a dot segment, which would address another resource")
)

// request is one request, as both kinds of transport send it.
type request struct {
	method string
	path   string // escaped
	key    string // idempotency key, with a body
	body   []byte
}

// post sends body under key.
func (c *Client) post(ctx context.Context, o object, key, reference string, body []byte) Answer {
	switch {
	case !goodKey(key):
		return notBuilt(http.MethodPost, o, errBadKey)
	case reference == "":
		// It could not be told whom the answer is about.
		return notBuilt(http.MethodPost, o, errNoReference)
	}
	return c.exchange(ctx, &request{http.MethodPost, c.path + o.path(), key, body}, o, reference, &c.sentPosts)
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

// get fetches one object.
func (c *Client) get(ctx context.Context, o object, reference string) Answer {
	switch reference {
	case "":
		return notBuilt(http.MethodGet, o, errNoReference) // that would ask for a list
	case ".", "..":
		return notBuilt(http.MethodGet, o, errDotReference) // escaping does not disarm these
	}
	path := c.path + o.path() + "/" + url.PathEscape(reference)
	return c.exchange(ctx, &request{method: http.MethodGet, path: path}, o, reference, &c.sentGets)
}

// notBuilt is the answer to a request that could not be made at all.
func notBuilt(method string, o object, err error) Answer {
	return Answer{Kind: NotSent, Err: fmt.Errorf("%s %s: %w", method, o.noun(), err)}
}

// exchange sends req once, reads the whole answer within the client's timeout, and classifies it. It goes
// straight to a transport: an http.Client would add redirects, cookies, and the URL in its errors.
func (c *Client) exchange(ctx context.Context, req *request, o object, asked string, count *atomic.Int64) Answer {
	room, _ := c.rooms.Get().(*bytes.Buffer)
	if room == nil {
		room = new(bytes.Buffer)
	}
	defer c.reuse(room)
	r := result{method: req.method, object: o, asked: asked, room: room}
	if err := ctx.Err(); err != nil {
		r.failure = err
		return classify(r)
	}
	var used *conn
	if c.own != nil {
		used = c.own.do(ctx, req, &r, count)
	} else {
		c.foreign.do(ctx, req, &r, count)
	}
	r.now = time.Now()
	a := classify(r)
	if used != nil {
		// After an answer about something else, the next one on this connection may be the one to this request.
		used.unfit = used.unfit || a.Kind == Mismatched || a.Kind == Lost
		c.own.give(used)
	}
	return a
}

// reuse keeps the room of an answer for another one, unless it grew out of the usual. Answers hold copies of what they tell.
func (c *Client) reuse(room *bytes.Buffer) {
	if room.Cap() <= maxRoom {
		room.Reset()
		c.rooms.Put(room)
	}
}

// read reads a body to its end, or to maxBody. Length is what the answer says of it, negative if nothing.
func (r *result) read(body io.Reader, length int64) {
	r.room.Grow(int(min(max(length, 0), maxBody)) + bytes.MinRead)
	_, r.bodyErr = r.room.ReadFrom(io.LimitReader(body, maxBody+1))
	if r.body = r.room.Bytes(); r.bodyErr == nil && len(r.body) > maxBody {
		r.body, r.bodyErr = nil, errTooLarge
	}
}
