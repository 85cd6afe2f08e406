package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

const (
	// connectTimeout bounds the name look-up with the connect, and again the TLS
	// handshake. It is shorter than a request's own timeout, so that a dead address
	// differs from a slow answer.
	connectTimeout = 10 * time.Second
	// idleTimeout is shorter than the 60 s after which common load balancers silently
	// drop an idle connection.
	idleTimeout = 30 * time.Second
	// maxHeaderBytes bounds the header of an answer, interim (1xx) answers included.
	maxHeaderBytes = 64 << 10
)

// dialFunc makes a network connection, as net.Dialer.DialContext does.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// newTransport returns the transport that all requests of a client use: HTTP/1.1 over at
// most conns kept-alive connections. It asks no proxy until it is given one, and decompresses
// nothing. RoundTrip follows no redirect.
func newTransport(conns int, dial dialFunc) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	return &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			raw, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return newConn(raw), nil
		},
		Protocols:              http1,
		TLSHandshakeTimeout:    connectTimeout,
		DisableCompression:     true,
		MaxIdleConns:           conns,
		MaxIdleConnsPerHost:    conns,
		MaxConnsPerHost:        conns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// conn is a network connection whose answers stay in step with its requests. An answer
// that the server sends unasked, or an answer about another bill, must never pass for the
// answer to a later request. net/http alone leaves a gap: it reuses a connection as soon
// as a body was read to its end, before it looks for further bytes and before the client
// has judged the answer. So a request waits in acquire until both have happened.
//
// conn lies below TLS: Read is called only when neither net/http nor crypto/tls holds
// unread bytes.
type conn struct {
	net.Conn

	mu      sync.Mutex
	changed sync.Cond
	reading bool // a Read is waiting for bytes: all earlier ones were consumed
	busy    bool // a request was let through, and its answer has not been judged
	closed  bool
}

func newConn(raw net.Conn) *conn {
	c := &conn{Conn: raw}
	c.changed.L = &c.mu
	return c
}

// acquire waits until the previous answer was judged and consumed. It reports whether the
// connection may carry a request; false means that it is closed, so nothing can be sent
// on it.
func (c *conn) acquire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed && (c.busy || !c.reading) {
		c.changed.Wait()
	}
	c.busy = !c.closed
	return c.busy
}

// release ends what acquire began. The connection is closed unless its answer was good.
func (c *conn) release(good bool) {
	if !good {
		_ = c.Close()
	}
	c.set(&c.busy, false)
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	c.set(&c.reading, true)
	n, err := c.Conn.Read(p)
	c.set(&c.reading, false)
	return n, err
}

// Close implements net.Conn. The order matters: acquire must not return false while bytes
// can still be written.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.set(&c.closed, true)
	return err
}

func (c *conn) set(flag *bool, value bool) {
	c.mu.Lock()
	*flag = value
	c.mu.Unlock()
	c.changed.Broadcast()
}

// reservation is one request's hold on the connection that carries it.
type reservation struct {
	conn *conn // the one that net/http chose last; nil: none, so nothing was sent
	held bool  // conn was acquired: from now on bytes may have been sent
}

// watch returns ctx with the hook in it that makes the reservation. net/http calls the hook
// on the goroutine of RoundTrip, once it has a connection and before it writes.
func (r *reservation) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		r.conn = connOf(info.Conn)
		r.held = r.conn.acquire()
	}})
}

// refused reports whether the connection was closed before the request was written.
func (r *reservation) refused() bool { return r.conn != nil && !r.held }

// release ends the reservation. The connection is closed unless its answer was good.
func (r *reservation) release(good bool) {
	if r.held {
		r.conn.release(good)
	}
}

// connOf returns the conn below the layers of TLS.
func connOf(c net.Conn) *conn {
	for {
		switch layer := c.(type) {
		case *conn:
			return layer
		case *tls.Conn:
			c = layer.NetConn()
		default:
			panic("client: a connection that was not dialled here")
		}
	}
}
