package webhook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"billdrop/cmd/billdrop/describe"
)

func serve(t *testing.T, s *site) (address string) {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	server := Serve(l, s.Handler)
	t.Cleanup(server.Close)
	return l.Addr().String()
}

// Many senders at once over real connections: every event is recorded once.
func TestServer(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := newSite(t)
	var mu sync.Mutex
	s.Count = func(string, Result) { mu.Lock(); defer mu.Unlock(); s.counts["all"]++ }
	l, err := Listen(t.Context(), "127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	server := Serve(l, s.Handler)
	transport := &http.Transport{}
	var senders sync.WaitGroup
	for sender := range 16 {
		senders.Go(func() {
			for n := range 50 {
				id := strconv.Itoa(sender*25 + n) // half of them twice
				d := delivery(t, secretA, "acme", "msg_"+id, event("evt_"+id), time.Now())
				d.URL.Scheme, d.URL.Host, d.RequestURI = "http", l.Addr().String(), ""
				res, err := transport.RoundTrip(d)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("answered %d", res.StatusCode)
				}
			}
		})
	}
	senders.Wait()
	transport.CloseIdleConnections()
	server.Close()
	if len(s.store.all) != 425 || s.counts["all"] != 800 {
		t.Errorf("%d recorded of %d", len(s.store.all), s.counts["all"])
	}
}

// A sender that announces a large body, or sends one in pieces, is refused before it has sent it.
func TestLargeBodyIsRefusedEarly(t *testing.T) {
	address := serve(t, newSite(t))
	for _, head := range []string{"Content-Length: 1000000000", "Transfer-Encoding: chunked"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /webhooks/acme HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", head)
		if strings.HasPrefix(head, "Transfer") {
			for range 5 {
				fmt.Fprintf(conn, "%x\r\n%s\r\n", 16<<10, strings.Repeat("x", 16<<10))
			}
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %v, %v", head, res, err)
		}
		_ = conn.Close()
	}
}

func TestLargeHeaderIsRefused(t *testing.T) {
	address := serve(t, newSite(t))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /webhooks/acme HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 20<<10))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v, %v", res, err)
	}
}

// pipes is a listener of connections in memory, on whatever clock the test has.
type pipes struct {
	dialled chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A slow sender is cut off: before its headers are complete, and before its body is.
func TestSlowSenders(t *testing.T) {
	for _, tc := range []struct {
		name, sent string
		within     time.Duration
	}{
		{"headers", "POST /webhooks/acme HTTP/1.1\r\nHost: x\r\n", headerTimeout},
		{"body", "POST /webhooks/acme HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", readTimeout},
		{"nothing", "", headerTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipes{dialled: make(chan net.Conn), closed: make(chan struct{})}
				server := Serve(l, newSite(t).Handler)
				ours, theirs := net.Pipe()
				l.dialled <- theirs
				begun := time.Now()
				go func() { _, _ = io.WriteString(ours, tc.sent) }()
				_, err := io.Copy(io.Discard, ours) // until the server hangs up
				if took := time.Since(begun); took > tc.within+2*time.Second {
					t.Errorf("hung up after %v, %v", took, err)
				}
				_ = ours.Close()
				server.Close()
			})
		})
	}
}

func TestListenRefuses(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][3]string{{l.Addr().String(), "", ""}, {"nonsense", "", ""}, {"127.0.0.1:0", "nosuch.pem", "nosuch.key"}} {
		if _, err := Listen(context.Background(), args[0], args[1], args[2]); !errors.Is(err, ErrAddress) || len(describe.Advice(err)) == 0 {
			t.Errorf("%v: %v", args, err)
		}
	}
}
