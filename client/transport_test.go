package client

import (
	"bufio"
	"context"
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

// wildClient returns a client of w that trusts its certificate.
func wildClient(t *testing.T, w wild, cfg Config) *Client {
	t.Helper()
	cfg.BaseURL = w.url
	c := newClient(t, cfg)
	c.transport.TLSClientConfig.RootCAs = w.pool
	return c
}

// noticed returns a Dial that reports each connection which the client closes.
func noticed() (dial dialFunc, closed chan struct{}) {
	closed = make(chan struct{}, 100)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return &noticedConn{Conn: c, closed: closed}, err
	}, closed
}

type noticedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *noticedConn) Close() error {
	defer c.once.Do(func() { c.closed <- struct{}{} })
	return c.Conn.Close()
}

// TestUnaskedAnswer: an answer that comes before its request never passes for the answer
// to the next request, wherever it waits: behind the first answer in one write, in a
// write (and so a TLS record) of its own but the same segment, or in one that arrives
// later.
func TestUnaskedAnswer(t *testing.T) {
	silenceLog(t)
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
		"later, the notice of a timeout": func(c net.Conn, later <-chan struct{}) {
			write(c, first)
			<-later
			write(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
		},
	} {
		for _, secure := range []bool{false, true} {
			later := make(chan struct{})
			w := startWild(t, secure, func(c net.Conn, in *bufio.Reader, n int) {
				if !readRequest(in) {
					return
				}
				if n > 1 {
					write(c, answer("500 Another Connection", ""))
					return
				}
				send(c, later)
				if readRequest(in) {
					t.Errorf("%s, tls %v: the second request came on the same connection", name, secure)
				}
			})
			dial, closed := noticed()
			c := wildClient(t, w, Config{Dial: dial})
			want(t, c.CreateBill(t.Context(), "k-1", "B-1", []byte("{}")), Created, "201")
			close(later)
			if strings.HasPrefix(name, "later") {
				<-closed // before that, the bytes may still be on their way
			}
			want(t, c.CreateBill(t.Context(), "k-2", "B-2", []byte("{}")), ServerFault, "500")
		}
	}
}

// TestHandedOver: a request that waits for the connection of another does not get it when
// that one's answer was about another bill, or when something follows the answer. It is
// then sent on a new connection, and only there.
func TestHandedOver(t *testing.T) {
	silenceLog(t)
	about := func(reference string) string {
		return answer("201 Created", strings.Replace(goodBill, "B-1", reference, 1))
	}
	for _, tc := range []struct {
		name, reply string
		first       Kind
	}{
		{"an answer about another bill", about("B-9"), Mismatched},
		{"a second answer", about("B-1") + about("B-2"), Created},
		{"a second answer, after a bill that does not match", about("B-9") + about("B-2"), Mismatched},
		{"a second answer, after one without a body", answer("422 Unprocessable Content", "") + about("B-2"), Taken},
	} {
		synctest.Test(t, func(t *testing.T) {
			reply, requests := make(chan struct{}), make(chan int, 10)
			dials := 0
			c := newClient(t, Config{BaseURL: "http://127.0.0.1:1", MaxConns: 1, Dial: func(context.Context, string, string) (net.Conn, error) {
				dials++
				mine, theirs := net.Pipe()
				go func(n int) {
					defer func() { _ = theirs.Close() }()
					in := bufio.NewReader(theirs)
					for readRequest(in) {
						requests <- n
						if n > 1 {
							_, _ = io.WriteString(theirs, answer("500 Another Connection", ""))
							continue
						}
						<-reply
						_, _ = io.WriteString(theirs, tc.reply)
					}
				}(dials)
				return mine, nil
			}})
			answers := [2]Answer{}
			var senders sync.WaitGroup
			for i, reference := range []string{"B-1", "B-2"} {
				senders.Go(func() { answers[i] = c.CreateBill(t.Context(), "k-"+reference, reference, []byte("{}")) })
				synctest.Wait() // the second waits for the only connection
			}
			close(reply)
			senders.Wait()
			c.transport.CloseIdleConnections()
			synctest.Wait()
			close(requests)
			var got []int
			for n := range requests {
				got = append(got, n)
			}
			if answers[0].Kind != tc.first || answers[1].Status != 500 || len(got) != 2 || got[0] != 1 || got[1] != 2 {
				t.Errorf("%s: answers %v and %v (%v), requests on connections %v", tc.name, answers[0].Kind, answers[1].Kind, answers[1].Err, got)
			}
		})
	}
}

// TestOutOfStep: a connection that brought an answer about another bill is not used
// again: the next answer on it may be that to an earlier request.
func TestOutOfStep(t *testing.T) {
	w := startWild(t, false, func(c net.Conn, in *bufio.Reader, n int) {
		if !readRequest(in) {
			return
		}
		if n > 1 {
			_, _ = io.WriteString(c, answer("500 Another Connection", ""))
			return
		}
		_, _ = io.WriteString(c, answer("201 Created", goodBill)) // about B-1
		if readRequest(in) {
			t.Error("the connection was used again after an answer about another bill")
			_, _ = io.WriteString(c, answer("400 Bad Request", `{"title":"what the first request got"}`))
		}
	})
	c := wildClient(t, w, Config{})
	want(t, c.CreateBill(t.Context(), "k-9", "B-9", []byte("{}")), Mismatched, "201 other reference")
	want(t, c.CreateBill(t.Context(), "k-2", "B-2", []byte("{}")), ServerFault, "500")
}

// TestClosedWhileIdle: a connection that the server has closed is closed here too, and
// not used again, however it was closed.
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
				if readRequest(in) {
					posts.Add(1)
					_, _ = io.WriteString(c, answer("201 Created", goodBill))
					end(c)
				}
			})
			dial, closed := noticed()
			c := wildClient(t, w, Config{Dial: dial})
			for i := range 5 {
				if a := c.CreateBill(t.Context(), "k", "B-1", []byte("{}")); a.Kind != Created {
					t.Errorf("%s, tls %v, request %d: %v (%v)", name, secure, i, a.Kind, a.Err)
					break
				}
				<-closed
			}
			if posts.Load() != 5 {
				t.Errorf("%s, tls %v: %d POSTs arrived", name, secure, posts.Load())
			}
		}
	}
}

// underneath returns the socket of a connection of wild.
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

// TestConnectionLimit: no more requests at a time than MaxConns, and connections are used
// again, with and without TLS, whose session tickets are not a reason to give one up.
func TestConnectionLimit(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var now, most, posts atomic.Int64
		w, made := countingServer(t, secure, func() {
			posts.Add(1)
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		})
		c := wildClient(t, w, Config{MaxConns: 4})
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
		// net/http gives a connection up when its own goroutines get no processor for 50
		// ms.
		if most.Load() > 4 || made.Load() > 40 || posts.Load() != 800 {
			t.Errorf("tls %v: %d requests at a time, 4 are allowed; %d connections for %d requests", secure, most.Load(), made.Load(), posts.Load())
		}
	}
}

// TestIdleConnections: a connection is kept for the idle timeout, and no longer.
func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open, dials atomic.Int64
		c := newClient(t, Config{BaseURL: "http://127.0.0.1:1", Dial: func(context.Context, string, string) (net.Conn, error) {
			mine, theirs := net.Pipe()
			open.Add(1)
			dials.Add(1)
			go func() {
				in := bufio.NewReader(theirs)
				for readRequest(in) {
					_, _ = io.WriteString(theirs, answer("201 Created", goodBill))
				}
				open.Add(-1)
			}()
			return mine, nil
		}})
		for range 3 {
			want(t, c.CreateBill(t.Context(), "k", "B-1", []byte("{}")), Created, "201")
			time.Sleep(idleTimeout - time.Nanosecond)
			synctest.Wait()
			if open.Load() != 1 || dials.Load() != 1 {
				t.Errorf("%d open of %d connections, 1 was expected to be kept", open.Load(), dials.Load())
			}
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if open.Load() != 0 {
			t.Error("an idle connection stays")
		}
	})
}
