package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// connectTimeout bounds name look-up and connect, and again the TLS handshake. It is shorter than a request's own
	// timeout, so that a dead address is told from a slow answer.
	connectTimeout = 10 * time.Second
	// acceptable is what answers may be.
	acceptable = "application/json, application/problem+json"
	// idleTimeout is shorter than the 60 s after which common load balancers drop an idle connection without a word.
	idleTimeout = 30 * time.Second
)

// transport is HTTP/1.1 to one server over kept-alive connections. Each request runs on its caller's goroutine, from the
// write to the end of the answer: net/http has two more goroutines a connection, and handing over between
// them costs more than all else that a request takes.
//
// It sends a request at most once, follows no redirect, asks no proxy, decompresses nothing, and takes nothing for granted of
// the server: see conn. All methods may be called concurrently.
type transport struct {
	address string      // host:port
	tls     *tls.Config // nil = plain HTTP, which New allows to loopback addresses only
	timeout time.Duration
	common  func([]byte) []byte // appends what all requests have in common; a closure, so that no print can show the key
	slots   chan struct{}       // one a connection that is in use or being made

	mu     sync.Mutex
	idle   []*conn     // the one that was used last is at the end, and used next
	reaper *time.Timer // runs while there are idle connections; nil otherwise
	closed bool
}

// newTransport makes a transport to the server of base, which is an http or https URL, with at most conns connections.
func newTransport(base *url.URL, conns int, timeout time.Duration, key Key, agent string) *transport {
	common := " HTTP/1.1\r\nHost: " + base.Host + "\r\nUser-Agent: " + agent + "\r\nAccept: " + acceptable +
		"\r\nAuthorization: Bearer " + string(key) + "\r\n"
	t := &transport{
		timeout: timeout,
		common:  func(b []byte) []byte { return append(b, common...) },
		slots:   make(chan struct{}, conns),
	}
	port := "80"
	if base.Scheme == "https" {
		port = "443"
		t.tls = &tls.Config{
			ServerName: base.Hostname(),
			MinVersion: tls.VersionTLS12,
			NextProtos: []string{"http/1.1"},
			// A request is one record and one write, not a row of small ones that is meant to show pages sooner.
			DynamicRecordSizingDisabled: true,
		}
	}
	t.address = net.JoinHostPort(base.Hostname(), cmp.Or(base.Port(), port))
	return t
}

// do sends one request and fills in what came of it: status, header and body, or failure, and whether any byte of the request
// may have left. All of it, waiting for a connection included, is over after the transport's timeout, or when ctx ends.
// The request is counted once a byte of it may have left. The connection that it took is to be given back; nil = none.
func (t *transport) do(ctx context.Context, req *request, r *result, count *atomic.Int64) *conn {
	deadline := time.Now().Add(t.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	c, err := t.take(ctx, deadline)
	if err != nil {
		r.failure = plainest(ctx, deadline, err)
		return nil
	}
	r.maybeSent = true
	count.Add(1)
	c.out = t.appendRequest(c.out[:0], req)
	if ctx.Done() == nil {
		c.exchange(r)
	} else {
		stop := context.AfterFunc(ctx, func() { _ = c.stream.SetDeadline(time.Unix(1, 0)) })
		c.exchange(r)
		if !stop() {
			c.unfit = true // its deadline may be set at any time
		}
	}
	r.failure, r.bodyErr = plainest(ctx, deadline, r.failure), plainest(ctx, deadline, r.bodyErr)
	return c
}

// appendRequest writes a request as it goes over the wire. The key and the path were checked: no line end is in them.
func (t *transport) appendRequest(b []byte, req *request) []byte {
	b = append(append(append(b, req.method...), ' '), req.path...)
	b = t.common(b)
	if req.key != "" {
		b = append(append(b, "Content-Type: application/json\r\nIdempotency-Key: "...), req.key...)
		b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(req.body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(append(b, "\r\n"...), req.body...)
}

// plainest is why a call was given up, or err itself. Connections wrap that in several ways, and a parser that is left with
// half a line calls it malformed.
func plainest(ctx context.Context, deadline time.Time, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !time.Now().Before(deadline):
		return context.DeadlineExceeded
	}
	return err
}

// take waits for a free slot, and returns a connection on which nothing has been heard since its last answer, or a new one.
// Whatever goes wrong here, nothing was sent.
func (t *transport) take(ctx context.Context, deadline time.Time) (*conn, error) {
	if err := t.slot(ctx, deadline); err != nil {
		return nil, err
	}
	for c := t.pop(); c != nil; c = t.pop() {
		if c.quiet() && c.stream.SetDeadline(deadline) == nil {
			return c, nil
		}
		c.close()
	}
	c, err := t.dial(ctx, deadline)
	if err != nil {
		<-t.slots
		return nil, err
	}
	return c, nil
}

func (t *transport) slot(ctx context.Context, deadline time.Time) error {
	select {
	case t.slots <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case t.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return context.DeadlineExceeded
	}
}

// give takes a connection back, to be used again or closed, and frees its slot.
func (t *transport) give(c *conn) {
	c.used = time.Now()
	if c.unfit || !t.push(c) {
		c.close()
	}
	<-t.slots
}

// dial connects, and shakes hands.
func (t *transport) dial(ctx context.Context, deadline time.Time) (*conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	dialer := net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	c, err := newConn(ctx, raw, t.tls)
	if err == nil {
		err = c.stream.SetDeadline(deadline)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// pop is the idle connection that was used last, or nil. One that was idle for too long stays for the reaper.
func (t *transport) pop() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.idle) - 1
	if last < 0 || time.Since(t.idle[last].used) >= idleTimeout {
		return nil
	}
	c := t.idle[last]
	t.idle[last] = nil
	t.idle = t.idle[:last]
	return c
}

// push keeps a connection for the next request, unless the transport was closed.
func (t *transport) push(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.idle = append(t.idle, c)
	if t.reaper == nil {
		t.reaper = time.AfterFunc(idleTimeout, t.reap)
	}
	return true
}

// reap closes the connections that were idle for too long, and comes back for the rest.
func (t *transport) reap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.idle) > 0 && time.Since(t.idle[0].used) >= idleTimeout {
		t.idle[0].close()
		t.idle = t.idle[1:]
	}
	if t.reaper = nil; len(t.idle) > 0 {
		t.reaper = time.AfterFunc(idleTimeout-time.Since(t.idle[0].used), t.reap)
	}
}

// close closes all idle connections, and from now on each other one when its call is over.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.idle {
		c.close()
	}
	t.idle = nil
	if t.reaper != nil {
		t.reaper.Stop()
	}
}
