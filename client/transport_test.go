package client

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// ownClient is a client of w with the transport of its own.
func ownClient(t *testing.T, w wild) *Client {
	t.Helper()
	c := newClient(t, Config{BaseURL: w.url, MaxConns: 4, Timeout: 10 * time.Second})
	if c.own.tls != nil {
		c.own.tls.RootCAs = w.pool
	}
	return c
}

// TestUnaskedAnswer: an answer that comes before its request is not taken for the next request's, wherever it waits: behind the first
// in one write, in a write (and so a TLS record) of its own but the same segment, or later.
func TestUnaskedAnswer(t *testing.T) {
	first, second := answer("201 Created", goodBill), answer("201 Created", strings.Replace(goodBill, "B-1", "B-2", 1))
	write := func(c net.Conn, s string) { _, _ = io.WriteString(c, s) }
	for name, send := range map[string]func(c net.Conn, later <-chan struct{}){
		"one write":   func(c net.Conn, _ <-chan struct{}) { write(c, first+second) },
		"one segment": func(c net.Conn, _ <-chan struct{}) { together(c, func() { write(c, first); write(c, second) }) },
		"later": func(c net.Conn, later <-chan struct{}) {
			write(c, first)
			<-later
			write(c, second)
		},
		"a timeout's notice": func(c net.Conn, later <-chan struct{}) {
			write(c, first)
			<-later
			write(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
		},
	} {
		for _, secure := range []bool{false, true} {
			later, sent := make(chan struct{}), make(chan struct{})
			w := startWild(t, secure, func(c net.Conn, in *bufio.Reader, n int) {
				if !hear(in) {
					return
				}
				if n > 1 {
					write(c, answer("500 Another Connection", ""))
					return
				}
				send(c, later)
				close(sent)
				if hear(in) {
					t.Errorf("%s, tls %v: the second request came on the same connection", name, secure)
				}
			})
			c := ownClient(t, w)
			want(t, c.CreateBill(t.Context(), "k-1", "B-1", []byte("{}")), Created, "201")
			close(later)
			<-sent
			want(t, c.CreateBill(t.Context(), "k-2", "B-2", []byte("{}")), ServerFault, "500")
			c.Close()
		}
	}
}

// TestClosedWhileIdle: a connection that the server has closed is noticed before anything is sent on it, however it was closed.
func TestClosedWhileIdle(t *testing.T) {
	for name, end := range map[string]func(c net.Conn){
		"end":   func(net.Conn) {},
		"reset": func(c net.Conn) { _ = underneath(c).SetLinger(0) },
		"tls farewell": func(c net.Conn) {
			if secure, ok := c.(interface{ CloseWrite() error }); ok {
				_ = secure.CloseWrite()
			}
		},
	} {
		for _, secure := range []bool{false, true} {
			var posts atomic.Int64
			w := startWild(t, secure, func(c net.Conn, in *bufio.Reader, _ int) {
				if hear(in) {
					posts.Add(1)
					_, _ = io.WriteString(c, answer("201 Created", goodBill))
					end(c)
				}
			})
			c := ownClient(t, w)
			for i := range 5 {
				if a := c.CreateBill(t.Context(), "k", "B-1", []byte("{}")); a.Kind != Created {
					t.Errorf("%s, tls %v, request %d: %v (%v)", name, secure, i, a.Kind, a.Err)
					break
				}
				<-w.closed
			}
			if posts.Load() != 5 || c.Counts().Posts != 5 {
				t.Errorf("%s, tls %v: %d POSTs arrived, %d counted", name, secure, posts.Load(), c.Counts().Posts)
			}
			c.Close()
		}
	}
}

// underneath is the socket of a connection of wild.
func underneath(c net.Conn) *net.TCPConn {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	return c.(*corked).Conn.(*net.TCPConn)
}

// countingServer answers with a bill, and counts the connections that were made.
func countingServer(t *testing.T, secure bool, before func()) (w wild, made *atomic.Int64) {
	made = new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		before()
		w.WriteHeader(201)
		_, _ = io.WriteString(w, goodBill)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	if secure {
		s.StartTLS()
		w.pool = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	w.url = s.URL
	return w, made
}

// TestConnectionLimit: no more connections than MaxConns, all of them used again, with and without TLS, whose session tickets are no
// reason to give one up.
func TestConnectionLimit(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var now, most atomic.Int64
		w, made := countingServer(t, secure, func() {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		})
		c := ownClient(t, w)
		var senders sync.WaitGroup
		for range 16 {
			senders.Go(func() {
				for range 50 {
					if a := c.CreateBill(t.Context(), "k", "B-1", []byte("{}")); a.Kind != Created {
						t.Errorf("%v (%v)", a.Kind, a.Err)
					}
				}
			})
		}
		senders.Wait()
		if most.Load() > 4 || made.Load() > 4 || c.Counts().Posts != 800 {
			t.Errorf("tls %v: %d requests at a time on %d connections, 4 of each are allowed; %d counted", secure, most.Load(), made.Load(), c.Counts().Posts)
		}
		c.Close()
	}
}

// TestIdleConnections: the one that was used last is used next; those that nobody used for a while are closed, and no others; after
// Close none is kept.
func TestIdleConnections(t *testing.T) {
	w, _ := countingServer(t, false, func() {})
	synctest.Test(t, func(t *testing.T) {
		own := ownClient(t, w).own
		take := func() *conn {
			c, err := own.take(t.Context(), time.Now().Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		first, second := take(), take()
		own.give(first)
		time.Sleep(idleTimeout / 2)
		own.give(second)
		if again := take(); again != second {
			t.Error("not the one that was used last")
		}
		own.give(second)

		time.Sleep(idleTimeout / 2)
		synctest.Wait()
		if _, err := first.stream.Write(nil); !errors.Is(err, net.ErrClosed) || !second.quiet() {
			t.Errorf("after the idle time of one: %v, the other is quiet: %v", err, second.quiet())
		}
		time.Sleep(idleTimeout / 2)
		synctest.Wait()
		if second.quiet() || own.reaper != nil {
			t.Error("an idle connection stays")
		}

		third := take()
		own.close()
		own.give(third)
		if third.quiet() || len(own.idle) != 0 {
			t.Errorf("after Close, %d are kept", len(own.idle))
		}
	})
}

// TestOutOfStep: a connection that brought an answer about another bill is not used again: the next answer on it may be that to
// an earlier request.
func TestOutOfStep(t *testing.T) {
	w := startWild(t, false, func(c net.Conn, in *bufio.Reader, n int) {
		if !hear(in) {
			return
		}
		if n > 1 {
			_, _ = io.WriteString(c, answer("500 Another Connection", ""))
			return
		}
		_, _ = io.WriteString(c, answer("201 Created", goodBill)) // about B-1
		if hear(in) {
			t.Error("the connection was used again after an answer about another bill")
			_, _ = io.WriteString(c, answer("400 Bad Request", `{"title":"what the first request got"}`))
		}
	})
	c := ownClient(t, w)
	defer c.Close()
	want(t, c.CreateBill(t.Context(), "k-9", "B-9", []byte("{}")), Mismatched, "201 other reference")
	want(t, c.CreateBill(t.Context(), "k-2", "B-2", []byte("{}")), ServerFault, "500")
}
