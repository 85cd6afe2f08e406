package emulator

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
)

// Pipes serves an API over connections in memory. A client reaches it through Dial, with
// its real transport and over real HTTP, and all of it runs on the fake clock of a
// testing/synctest bubble.
type Pipes struct {
	server  *http.Server
	dialled chan net.Conn
	closed  chan struct{} // closed when no more connections are accepted
	ended   chan struct{} // closed when the server has returned
	refused atomic.Bool
}

// ServePipes starts a server of the API. Close ends it.
func (a *API) ServePipes() *Pipes {
	p := &Pipes{
		server:  &http.Server{Handler: a},
		dialled: make(chan net.Conn), closed: make(chan struct{}), ended: make(chan struct{}),
	}
	go func() {
		defer close(p.ended)
		_ = p.server.Serve((*pipeListener)(p)) // always http.ErrServerClosed
	}()
	return p
}

// Dial makes a connection to the server, whatever the address.
func (p *Pipes) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	refused := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	if p.refused.Load() {
		return nil, refused
	}
	ours, theirs := net.Pipe()
	select {
	case p.dialled <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Refuse sets whether Dial fails from now on, as where nothing listens. Connections that
// are open stay.
func (p *Pipes) Refuse(refused bool) { p.refused.Store(refused) }

// Close closes all connections, and waits until the server has returned.
func (p *Pipes) Close() {
	_ = p.server.Close() // nothing that pipes can fail with
	<-p.ended
}

// pipeListener is Pipes as the server sees it.
type pipeListener Pipes

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialled:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The server calls it once.
func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Net: "pipe", Name: "pipe"} }
