package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net"
	"net/http"
	"time"
)

const (
	// maxHeaderBytes is plenty for an answer's header, and for those of all interim answers before it.
	maxHeaderBytes = 64 << 10
	// maxOneWrite is what socket buffers take without waiting for the server to read. Bodies of bills are some hundred bytes.
	maxOneWrite = 16 << 10
)

var errHeaderTooLarge = errors.New("answer has a header larger than 64 KiB")

// conn is one connection, used by one request at a time. Its answers are read by net/http's parser, within bounds. It is
// fit for another request only after an answer that was read to its end, that did not ask for an end, and that
// nothing followed: what a server says unasked must never be taken for the answer to the next request.
type conn struct {
	tap    *tap
	stream net.Conn // the tap, or TLS over it
	in     *bufio.Reader
	left   int64  // how much may still be read of the answer
	out    []byte // room for a request, kept from one to the next
	used   time.Time
	unfit  bool
}

// newConn makes a connection of raw, and shakes hands unless config is nil. The caller closes raw when it fails.
func newConn(ctx context.Context, raw net.Conn, config *tls.Config) (*conn, error) {
	tap, err := newTap(raw)
	if err != nil {
		return nil, err
	}
	c := &conn{tap: tap, stream: tap}
	c.in = bufio.NewReader(c)
	if config != nil {
		secure := tls.Client(tap, config)
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		c.stream = secure
	}
	return c, nil
}

func (c *conn) close() { _ = c.tap.Close() } // under TLS without its farewell, which could wait for the peer

// quiet reports whether the connection is open and nothing was heard on it since the last answer. It does not wait.
// The read goes through TLS, where a second answer may lie decrypted or buffered already, and a session ticket is nothing.
func (c *conn) quiet() bool {
	var one [1]byte
	c.tap.polling = true
	n, err := c.stream.Read(one[:])
	c.tap.polling = false
	return n == 0 && errors.Is(err, errNothingYet)
}

// exchange sends what is in out and reads the answer into r, within the deadline of the stream.
func (c *conn) exchange(r *result) {
	if len(c.out) <= maxOneWrite {
		_, err := c.stream.Write(c.out)
		// A server may answer before it has read everything, and close: what it said counts, even when the write failed.
		c.unfit = err != nil
		c.receive(r)
		return
	}
	written := make(chan error, 1)
	go func() {
		_, err := c.stream.Write(c.out)
		written <- err
	}()
	c.receive(r)
	_ = c.stream.SetWriteDeadline(time.Unix(1, 0)) // nobody reads the rest of a request that has been answered
	if err := <-written; err != nil {
		c.unfit = true
	}
	c.out = nil
}

// receive reads one answer, after any interim ones.
func (c *conn) receive(r *result) {
	c.left = maxHeaderBytes
	res, err := http.ReadResponse(c.in, nil)
	for err == nil && 100 <= res.StatusCode && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		res, err = http.ReadResponse(c.in, nil)
	}
	if err != nil {
		if c.left <= 0 {
			err = errHeaderTooLarge
		}
		r.failure, c.unfit = err, true
		return
	}
	c.left = math.MaxInt64
	r.status, r.header = res.StatusCode, res.Header
	if r.status < 200 {
		c.unfit = true // another protocol from here on
		return
	}
	// The body is not closed, for that would read the rest of an endless one.
	r.read(res.Body, res.ContentLength)
	if r.bodyErr != nil || res.Close || c.in.Buffered() > 0 {
		c.unfit = true
	}
}

// Read reads from the stream, for c.in alone.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.stream.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err != nil {
		c.unfit = true // also an end that comes with the last bytes of a good answer
	}
	return n, err
}

// errNothingYet says that nothing is there to be read. To crypto/tls it is a timeout, after which a connection can be read on.
var errNothingYet net.Error = nothingYet{}

type nothingYet struct{}

func (nothingYet) Error() string   { return "nothing to read yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

// tap is a network connection that can also be read without waiting.
type tap struct {
	net.Conn
	polling bool // Read does not wait, and says errNothingYet
	poller
}

func newTap(raw net.Conn) (*tap, error) {
	t := &tap{Conn: raw}
	return t, t.poller.watch(raw)
}

func (t *tap) Read(p []byte) (int, error) {
	if t.polling {
		return t.poll(p)
	}
	return t.Conn.Read(p)
}
