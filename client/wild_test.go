package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// wild is a server of raw bytes: behave is called for each connection with its number, 1
// first, and the connection is closed when it returns.
type wild struct {
	url  string
	pool *x509.CertPool // nil = plain HTTP
}

func startWild(t *testing.T, secure bool, behave func(c net.Conn, in *bufio.Reader, n int)) wild {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := wild{url: "http://" + l.Addr().String()}
	var config *tls.Config
	if secure {
		w.url = "https://" + l.Addr().String()
		config, w.pool = testCertificate(t)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for n := 1; ; n++ {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer func() { _ = raw.Close() }()
				var c net.Conn = &corked{Conn: raw}
				if secure {
					c = tls.Server(c, config)
				}
				behave(c, bufio.NewReader(c), n)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Wait()
	})
	return w
}

// corked is a connection whose writes can be held back, to go out together.
type corked struct {
	net.Conn
	on   bool
	held []byte
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// together sends what write writes to a connection of wild in one segment.
func together(c net.Conn, write func()) {
	cork, ok := c.(*corked)
	if !ok {
		cork = c.(*tls.Conn).NetConn().(*corked)
	}
	cork.on = true
	write()
	_, _ = cork.Conn.Write(cork.held)
	cork.on, cork.held = false, nil
}

// testCertificate is the one of httptest, for 127.0.0.1.
func testCertificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}, s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
}

// silenceLog drops what net/http logs of unasked answers for the length of a test.
func silenceLog(t *testing.T) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
}

// readRequest reads one request, and reports whether there was one.
func readRequest(in *bufio.Reader) bool {
	req, err := http.ReadRequest(in)
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	return err == nil
}

func answer(head, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

// TestWildServers: the verdict on whatever a server does, with and without TLS, and on
// the same once more.
func TestWildServers(t *testing.T) {
	silenceLog(t)
	type tc struct {
		name  string
		reply string // to each request of a connection
		close bool   // the connection is closed after it
		kind  Kind
		label string
	}
	good := answer("201 Created", goodBill)
	chunked := fmt.Sprintf("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x;ext=1\r\n%s\r\n0\r\n", 10, goodBill[:10], len(goodBill)-10, goodBill[10:])
	cases := []tc{
		{"good", good, false, Created, "201"},
		{"interim answers first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + good, false, Created, "201"},
		{"interim answers without end", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1<<15), false, Lost, "connection lost"},
		{"interim answer alone", "HTTP/1.1 100 Continue\r\n\r\n", true, Lost, "connection lost"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + good, true, Lost, "connection lost"},
		{"status below 100", answer("099 Odd", goodBill), false, Lost, "connection lost"},
		{"asks to close", strings.Replace(good, "\r\n", "\r\nConnection: close\r\n", 1), true, Created, "201"},
		{"asks to close, and does not", strings.Replace(good, "\r\n", "\r\nConnection: close\r\n", 1), false, Created, "201"},
		{"HTTP/1.0", strings.Replace(good, "1.1", "1.0", 1), true, Created, "201"},
		{"HTTP/1.0, kept alive", strings.Replace(strings.Replace(good, "1.1", "1.0", 1), "\r\n", "\r\nConnection: keep-alive\r\n", 1), false, Created, "201"},
		{"HTTP/1.0, up to the end", "HTTP/1.0 201 Created\r\n\r\n" + goodBill, true, Created, "201"},
		{"up to the end", "HTTP/1.1 201 Created\r\n\r\n" + goodBill, true, Created, "201"},
		{"HTTP/1.1 by another name", strings.Replace(good, "HTTP/1.1", "HTTP/2.0", 1), true, Created, "201"},
		{"chunks", chunked + "\r\n", false, Created, "201"},
		{"chunks with a trailer", chunked + "X-Sum: 1\r\n\r\n", false, Created, "201"},
		{"chunks, cut in the trailer", chunked + "X-Sum", true, Unreadable, "201 unreadable"},
		{"chunks, cut", chunked[:len(chunked)-20], true, Unreadable, "201 unreadable"},
		{"chunk of no size", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", false, Unreadable, "201 unreadable"},
		{"chunk of a huge size", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n", false, Unreadable, "201 unreadable"},
		{"chunks without end", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat(" ", 1024)+"\r\n", 1100), false, Unreadable, "201 unreadable"},
		{"chunks and a length", strings.Replace(chunked, "\r\n", "\r\nContent-Length: 3\r\n", 1) + "\r\n", true, Created, "201"},
		{"two lengths", strings.Replace(good, "\r\n", "\r\nContent-Length: 3\r\n", 1), true, Lost, "connection lost"},
		{"length too large", strings.Replace(good, "Length: ", "Length: 1", 1), true, Unreadable, "201 unreadable"},
		{"length negative", strings.Replace(good, "Length: ", "Length: -", 1), true, Lost, "connection lost"},
		{"length too small", strings.Replace(good, fmt.Sprint(len(goodBill)), "20", 1), true, Unreadable, "201 unreadable"},
		{"body of 4 GiB announced", strings.Replace(good, "Length: ", "Length: 4294967296", 1), true, Unreadable, "201 unreadable"},
		{"no body allowed", answer("204 No Content", goodBill), true, Unreadable, "204 unreadable"},
		{"not modified", answer("304 Not Modified", ""), false, Redirected, "304"},
		{"long header", strings.Replace(good, "\r\n", "\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n", 1), true, Lost, "connection lost"},
		{"many headers", strings.Replace(good, "\r\n", "\r\n"+strings.Repeat("X: y\r\n", 1<<16), 1), true, Lost, "connection lost"},
		{"header just large", strings.Replace(good, "\r\n", "\r\nX: "+strings.Repeat("x", 60<<10)+"\r\n", 1), false, Created, "201"},
		{"header folded", strings.Replace(good, "\r\n", "\r\nX: y\r\n z\r\n", 1), false, Created, "201"},
		{"header without colon", strings.Replace(good, "\r\n", "\r\nX\r\n", 1), true, Lost, "connection lost"},
		{"header with a space before its colon", strings.Replace(good, "\r\n", "\r\nX : y\r\n", 1), false, Created, "201"},
		{"nothing", "", true, Lost, "connection lost"},
		{"line ends", "\r\n\r\n", true, Lost, "connection lost"},
		{"half a status line", "HTTP/1.1 20", true, Lost, "connection lost"},
		{"half a header", "HTTP/1.1 201 Created\r\nContent-Le", true, Lost, "connection lost"},
		{"status of two digits", answer("20 OK", goodBill), true, Lost, "connection lost"},
		{"status negative", answer("-20 OK", goodBill), true, Lost, "connection lost"},
		{"status without words", answer("201", goodBill), false, Created, "201"},
		{"status 999", answer("999 Odd", ""), false, ServerFault, "999"},
		{"bare line feeds", strings.ReplaceAll(good, "\r", ""), false, Created, "201"},
		{"binary", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", true, Lost, "connection lost"},
	}
	for _, secure := range []bool{false, true} {
		for _, tc := range cases {
			t.Run(fmt.Sprintf("%s, tls %v", tc.name, secure), func(t *testing.T) {
				w := startWild(t, secure, func(c net.Conn, in *bufio.Reader, _ int) {
					for readRequest(in) {
						if _, err := io.WriteString(c, tc.reply); err != nil || tc.close {
							return
						}
					}
				})
				dial, closed := noticed()
				c := wildClient(t, w, Config{Timeout: 10 * time.Second, Dial: dial})
				for range 2 {
					a := c.CreateBill(t.Context(), "k", "B-1", []byte("{}"))
					if a.Kind != tc.kind || a.Label() != tc.label {
						t.Errorf("got %v, %q (%v)", a.Kind, a.Label(), a.Err)
					}
					if tc.close {
						<-closed // before the next request, which would race with it
					}
				}
			})
		}
	}
}

// TestSlowAnswers: an answer that drips takes no longer than the timeout, and ends at
// once with its context.
func TestSlowAnswers(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, tc := range []struct {
			name, start string
			kind        Kind
		}{
			{"status line", "HTTP/1.1 201 ", Lost},
			{"head", "HTTP/1.1 201 Created\r\nX: ", Lost},
			{"body", "HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n", Unreadable},
		} {
			arrived := make(chan struct{}, 4)
			w := startWild(t, secure, func(c net.Conn, in *bufio.Reader, _ int) {
				if !readRequest(in) {
					return
				}
				_, _ = io.WriteString(c, tc.start)
				arrived <- struct{}{}
				drip := time.NewTicker(time.Millisecond)
				defer drip.Stop()
				for range drip.C {
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
				}
			})
			c := wildClient(t, w, Config{Timeout: 100 * time.Millisecond})
			if a := c.CreateBill(t.Context(), "k", "B-1", []byte("{}")); a.Kind != tc.kind || !errors.Is(a.Err, context.DeadlineExceeded) {
				t.Errorf("%s: %v (%v)", tc.name, a.Kind, a.Err)
			}
			<-arrived
			c = wildClient(t, w, Config{Timeout: time.Minute})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-arrived
				cancel()
			}()
			if a := c.CreateBill(ctx, "k", "B-1", []byte("{}")); a.Kind == Created || a.Kind == NotSent || !errors.Is(a.Err, context.Canceled) {
				t.Errorf("%s: %v (%v)", tc.name, a.Kind, a.Err)
			}
			cancel()
		}
	}
}

// TestEarlyAnswer: a server may answer a large request before it has read all of it, and
// read no further.
func TestEarlyAnswer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		done := make(chan struct{})
		w := startWild(t, secure, func(c net.Conn, in *bufio.Reader, _ int) {
			if _, err := http.ReadRequest(in); err == nil { // the head alone
				_, _ = io.WriteString(c, answer("413 Content Too Large\r\nConnection: close", ""))
				<-done
			}
		})
		c := wildClient(t, w, Config{Timeout: 10 * time.Second})
		for _, size := range []int{10, 16 << 10, 16 << 20} {
			a := c.CreateBill(t.Context(), "k", "B-1", bytes.Repeat([]byte(" "), size))
			if a.Kind != Refused || a.Status != 413 {
				t.Errorf("tls %v, %d bytes: %v (%v)", secure, size, a.Kind, a.Err)
			}
		}
		close(done)
	}
}

// TestLargeRequest: it arrives whole, and its connection serves again.
func TestLargeRequest(t *testing.T) {
	for _, secure := range []bool{false, true} {
		body := bytes.Repeat([]byte("0123456789"), 1<<20)
		w := startWild(t, secure, func(c net.Conn, in *bufio.Reader, n int) {
			for {
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				got, err := io.ReadAll(req.Body)
				if err != nil || !bytes.Equal(got, body) || n != 1 {
					t.Errorf("%d bytes arrived on connection %d: %v", len(got), n, err)
				}
				_, _ = io.WriteString(c, answer("201 Created", goodBill))
			}
		})
		c := wildClient(t, w, Config{Timeout: 10 * time.Second})
		for range 2 {
			want(t, c.CreateBill(t.Context(), "k", "B-1", body), Created, "201")
		}
	}
}
