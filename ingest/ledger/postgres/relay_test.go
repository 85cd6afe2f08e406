package postgres_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// relay stands between a handle and the server, and does to its connections what networks do.
type relay struct {
	listener net.Listener
	server   string

	mu      sync.Mutex
	conns   []*relayed
	cut     bool // connections are broken off and refused
	silent  bool // those of the heartbeat alone
	unknown bool // new ones are answered as some poolers answer users whom they do not know
	deaf    bool // nothing gets through any more, and nothing is broken off
	lose    bool // the next answer to a COMMIT is lost
	lost    int  // how many were
	waiting *sync.Cond
	running sync.WaitGroup
}

// relayed is one connection.
type relayed struct {
	client, server net.Conn
	heartbeat      bool
}

func (c *relayed) close() {
	_ = c.client.Close()
	_ = c.server.Close()
}

// newRelay makes a relay, and returns it with the URL of the database through it.
func newRelay(t testing.TB, database string) (*relay, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, server: u.Host}
	r.waiting = sync.NewCond(&r.mu)
	u.Host = l.Addr().String()
	r.running.Go(r.accept)
	t.Cleanup(r.close)
	return r, u.String()
}

func (r *relay) close() {
	_ = r.listener.Close()
	r.set(func() { r.cut, r.deaf = true, false })
	r.running.Wait()
}

// set changes what the relay does, also to the connections that there are.
func (r *relay) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.waiting.Broadcast()
	r.conns = slices.DeleteFunc(r.conns, func(c *relayed) bool {
		if r.refuses(c) {
			c.close()
			return true
		}
		return false
	})
}

func (r *relay) refuses(c *relayed) bool { return r.cut || r.silent && c.heartbeat }

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.serve(client) })
	}
}

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	startup := make([]byte, 4096)
	n, err := client.Read(startup) // one small packet
	if err != nil {
		return
	}
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		return
	}
	c := &relayed{client: client, server: server, heartbeat: bytes.Contains(startup[:n], []byte("heartbeat"))}
	defer c.close()
	r.mu.Lock()
	refused := r.refuses(c) || r.unknown
	if r.unknown {
		answer, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", Code: "XX000", Message: "no such tenant or user"}).Encode(nil)
		_, _ = client.Write(answer)
	}
	if !refused {
		r.conns = append(r.conns, c)
	}
	r.mu.Unlock()
	if refused {
		return
	}
	if _, err := server.Write(startup[:n]); err != nil {
		return
	}
	r.running.Go(func() {
		defer c.close()
		r.copy(server, client, func([]byte) bool { return true })
	})
	r.copy(client, server, r.passes)
}

// copy copies until either end is closed, or passes returns false.
func (r *relay) copy(to io.Writer, from io.Reader, passes func([]byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for r.deaf {
			r.waiting.Wait()
		}
		r.mu.Unlock()
		if n > 0 {
			if !passes(buf[:n]) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// passes reports whether an answer of the server gets through.
func (r *relay) passes(answer []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lose && bytes.Contains(answer, []byte("COMMIT\x00")) {
		r.lose = false
		r.lost++
		return false
	}
	return true
}
