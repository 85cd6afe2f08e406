package client

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestNewChecksConfig: where a key and personal data may be sent.
func TestNewChecksConfig(t *testing.T) {
	for _, tc := range []struct {
		url string
		ok  bool
	}{
		{"https://api.example.com", true},
		{"https://api.example.com:8443/base/path/", true},
		{"http://localhost:8080", true},
		{"http://LocalHost:8080", true},
		{"http://127.0.0.1:8080", true},
		{"https://api.example.com:0", false},
		{"https://api.example.com:65536", false},
		{"http://127.9.8.7", true},
		{"http://[::1]:8080", true},
		{"http://[::ffff:127.0.0.1]:8080", true},
		{"", false},
		{"api.example.com", false},
		{"https://", false},
		{"https:///billing", false},
		{"https:api.example.com", false},
		{"ftp://api.example.com", false},
		{"http://api.example.com", false},
		{"http://localhost.example.com", false},
		{"http://127.0.0.1.example.com", false},
		{"http://10.0.0.1", false},
		{"http://0.0.0.0", false},
		{"https://user:CANARY@api.example.com", false},
		{"https://api.example.com?key=CANARY", false},
		{"https://api.example.com/?", false},
		{"https://api.example.com/#", false},
		{"https://user:CANARY@api.example.com:port", false},
		{"https://bücher.example.com", false},
		{"https://xn--bcher-kva.example.com", true},
		{"https://[fe80::1%25eth0]", false},
	} {
		c, err := New(Config{BaseURL: tc.url, Key: secret})
		if (err == nil) != tc.ok || (c != nil) != tc.ok {
			t.Errorf("%q: %v", tc.url, err)
		}
		if checked := CheckBaseURL(tc.url); fmt.Sprint(checked) != fmt.Sprint(err) {
			t.Errorf("%q: CheckBaseURL returns %v, New %v", tc.url, checked, err)
		}
		if err != nil {
			checkError(t, tc.url, err, "API base URL ")
		}
	}
	for name, cfg := range map[string]Config{
		"no key":            {BaseURL: "https://api.example.com"},
		"public key":        {BaseURL: "https://api.example.com", Key: "pk_x"},
		"negative timeout":  {BaseURL: "https://api.example.com", Key: secret, Timeout: -1},
		"negative maximum":  {BaseURL: "https://api.example.com", Key: secret, MaxConns: -1},
		"agent with a line": {BaseURL: "https://api.example.com", Key: secret, UserAgent: "a\r\nX: y"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			checkError(t, name, err, "API ")
		}
	}
}

// checkError checks the error about a setting: what is wrong and what to do about it are
// apart, and neither quotes a secret.
func checkError(t *testing.T, name string, err error, prefix string) {
	t.Helper()
	var wrong *Error
	if !errors.As(err, &wrong) {
		t.Errorf("%s: a %T", name, err)
		return
	}
	advice := wrong.Advice()
	if !strings.HasPrefix(err.Error(), prefix) || advice == "" || strings.Contains(err.Error(), advice) || strings.Contains(err.Error()+advice, "CANARY") {
		t.Errorf("%s: error %q, advice %q", name, err, advice)
	}
}

// newClient is a client of a server at url, closed with the test.
func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.Key == "" {
		cfg.Key = secret
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.transport.CloseIdleConnections)
	return c
}

// serve starts a server that is closed with the test.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func want(t *testing.T, a Answer, kind Kind, label string) {
	t.Helper()
	if a.Kind != kind || a.Label() != label {
		t.Fatalf("got %v, %q (%v); want %v, %q", a.Kind, a.Label(), a.Err, kind, label)
	}
}

// TestRequestOnTheWire: what exactly is asked.
func TestRequestOnTheWire(t *testing.T) {
	var got *http.Request
	var body []byte
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(500)
	})
	c := newClient(t, Config{BaseURL: s.URL + "/base/", UserAgent: "billdrop/1"})
	check := func(method, uri, key, content string) {
		t.Helper()
		if got.Method != method || got.RequestURI != uri || string(body) != content || got.Proto != "HTTP/1.1" {
			t.Errorf("%s %s %s %q", got.Proto, got.Method, got.RequestURI, body)
		}
		h := got.Header
		if h.Get("Authorization") != "Bearer "+secret || h.Get("User-Agent") != "billdrop/1" || h.Get("Idempotency-Key") != key || h.Get("Accept-Encoding") != "identity" {
			t.Errorf("header %v", h)
		}
		if isPost := method == http.MethodPost; isPost != (h.Get("Content-Type") == "application/json") ||
			got.ContentLength != int64(len(content)) || isPost != (h.Get("Content-Length") != "") || got.TransferEncoding != nil {
			t.Errorf("header %v, length %d, encoding %v", h, got.ContentLength, got.TransferEncoding)
		}
	}
	ctx := t.Context()
	c.CreateBill(ctx, "k-1", "B-1", []byte(`{"a":1}`))
	check("POST", "/base/billing/bills", "k-1", `{"a":1}`)
	c.CreateCustomer(ctx, "k-2", Customer{ExternalReference: "C", Name: "<&>"})
	check("POST", "/base/billing/customers", "k-2", `{"external_reference":"C","name":"<&>"}`)
	c.CreateAccount(ctx, "k-3", Account{ExternalReference: "A", Customer: &CustomerRef{ID: "bcus_1"}})
	check("POST", "/base/billing/accounts", "k-3", `{"external_reference":"A","customer":"bcus_1"}`)
	c.GetBill(ctx, "B-1")
	check("GET", "/base/billing/bills/B-1", "", "")
	c.GetCustomer(ctx, "../a b?c#d%2F/é")
	check("GET", "/base/billing/customers/..%2Fa%20b%3Fc%23d%252F%2F%C3%A9", "", "")
	c.GetAccount(ctx, "bacc_1")
	check("GET", "/base/billing/accounts/bacc_1", "", "")
}

// TestUnsendable: requests that cannot be made leave no trace on the wire.
func TestUnsendable(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("something arrived") })
	c := newClient(t, Config{BaseURL: s.URL})
	ctx := t.Context()
	for _, key := range []string{"", "a b", "a\r\nb", "ä", strings.Repeat("k", 256)} {
		want(t, c.CreateBill(ctx, key, "B-1", nil), NotSent, "not sent: not a request")
	}
	want(t, c.CreateBill(ctx, "k", "", nil), NotSent, "not sent: not a request")
	for _, reference := range []string{"", ".", ".."} {
		want(t, c.GetBill(ctx, reference), NotSent, "not sent: not a request")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	a := c.CreateBill(gone, "k", "B-1", []byte("{}"))
	want(t, a, NotSent, "not sent: interrupted")
	if !errors.Is(a.Err, context.Canceled) {
		t.Errorf("error %v", a.Err)
	}
}

// deadServer answers the first request of each connection, and closes the connection when
// it has read the second. It counts the requests that it read.
func deadServer(t *testing.T, requests *atomic.Int64) wild {
	t.Helper()
	return startWild(t, false, func(c net.Conn, in *bufio.Reader, _ int) {
		for i := range 2 {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			requests.Add(1)
			switch {
			case i > 0:
			case req.Method == http.MethodPost:
				_, _ = io.WriteString(c, answer("201 Created", goodBill))
			default:
				_, _ = io.WriteString(c, answer("200 OK", goodBill))
			}
		}
	})
}

// TestNoHiddenResend: a kept-alive connection that dies under a request is reported, and
// the request is not silently sent again. The controls show that net/http does send such
// requests again when it may, so that the test would see it.
func TestNoHiddenResend(t *testing.T) {
	var posts, gets atomic.Int64
	c := wildClient(t, deadServer(t, &posts), Config{MaxConns: 1})
	want(t, c.CreateBill(t.Context(), "k-1", "B-1", []byte("{}")), Created, "201")
	want(t, c.CreateBill(t.Context(), "k-2", "B-1", []byte("{}")), Lost, "connection lost")
	if n := posts.Load(); n != 2 {
		t.Errorf("%d POSTs arrived, 2 were sent", n)
	}
	c = wildClient(t, deadServer(t, &gets), Config{MaxConns: 1})
	want(t, c.GetBill(t.Context(), "B-1"), Found, "200")
	want(t, c.GetBill(t.Context(), "B-1"), Lost, "connection lost")
	if n := gets.Load(); n != 2 {
		t.Errorf("%d GETs arrived, 2 were sent", n)
	}

	for method, body := range map[string]string{http.MethodPost: "{}", http.MethodGet: ""} {
		var control atomic.Int64
		w := deadServer(t, &control)
		transport := newTransport(1, nil)
		t.Cleanup(transport.CloseIdleConnections)
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), method, w.url, strings.NewReader(body)) // has GetBody, or no body
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Idempotency-Key", "k")
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			r := result{buf: new(bytes.Buffer)}
			if r.read(res.Body, -1); r.bodyErr != nil {
				t.Fatal(r.bodyErr)
			}
		}
		if n := control.Load(); n != 3 {
			t.Errorf("control: %d of %s for 2 requests, 3 were expected: the test no longer shows anything", n, method)
		}
	}
}

// TestRedirectIsNotFollowed: neither the key nor the body goes to where a redirect
// points.
func TestRedirectIsNotFollowed(t *testing.T) {
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("followed") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
		})
		c := newClient(t, Config{BaseURL: s.URL})
		want(t, c.CreateBill(t.Context(), "k", "B-1", []byte("{}")), Redirected, fmt.Sprint(status))
		want(t, c.GetBill(t.Context(), "B-1"), Redirected, fmt.Sprint(status))
	}
}

// TestNoProxyOfTheEnvironment: the key does not go to a proxy that was not configured.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") })
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	// An address for documentation (RFC 5737): only a proxy could answer for it.
	c := newClient(t, Config{BaseURL: "https://192.0.2.1", Timeout: 50 * time.Millisecond})
	if a := c.CreateBill(t.Context(), "k", "B-1", []byte("{}")); a.Kind != NotSent {
		t.Errorf("%v (%v)", a.Kind, a.Err)
	}
}

// TestTLS: what is refused, and that nothing was sent then.
func TestTLS(t *testing.T) {
	start := func(change func(*httptest.Server)) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(201)
			fmt.Fprint(w, goodBill)
			if r.ProtoMajor != 1 {
				t.Errorf("proto %s", r.Proto)
			}
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		change(s)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	send := func(c *Client) Answer { return c.CreateBill(t.Context(), "k", "B-1", []byte("{}")) }

	s := start(func(s *httptest.Server) { s.EnableHTTP2 = true })
	c := newClient(t, Config{BaseURL: s.URL})
	a := send(c)
	want(t, a, Untrusted, "certificate refused")
	trust := func(c *Client, s *httptest.Server) *Client {
		c.transport.TLSClientConfig.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		return c
	}
	want(t, send(trust(newClient(t, Config{BaseURL: s.URL}), s)), Created, "201") // and by HTTP/1.1, though it has 2

	old := start(func(s *httptest.Server) {
		s.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	})
	want(t, send(trust(newClient(t, Config{BaseURL: old.URL}), old)), NotSent, "not sent: no TLS")

	wrongName := trust(newClient(t, Config{BaseURL: strings.Replace(s.URL, "127.0.0.1", "localhost", 1)}), s)
	want(t, send(wrongName), Untrusted, "certificate refused")

	plain := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("something arrived") })
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	a = send(newClient(t, Config{BaseURL: strings.Replace(plain.URL, "http:", "https:", 1)}))
	want(t, a, NotSent, "not sent: no TLS")
	if !strings.Contains(a.Err.Error(), "plain HTTP") {
		t.Errorf("error %q", a.Err)
	}
}

// TestNothingListens: no byte was sent.
func TestNothingListens(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	c := newClient(t, Config{BaseURL: s.URL})
	want(t, c.CreateBill(t.Context(), "k", "B-1", []byte("{}")), NotSent, "not sent: connection refused")
}

// TestTimeouts: a request is bounded as a whole, and what is known of it then depends on
// how far it was.
func TestTimeouts(t *testing.T) {
	arrived, release := make(chan string, 8), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.Header.Get("Idempotency-Key")
		if r.Header.Get("Idempotency-Key") == "body" {
			w.Header().Set("Content-Length", "500")
			w.WriteHeader(201)
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)

	c := newClient(t, Config{BaseURL: s.URL, Timeout: 50 * time.Millisecond})
	want(t, c.CreateBill(t.Context(), "head", "B-1", []byte("{}")), Lost, "timeout")
	a := c.CreateBill(t.Context(), "body", "B-1", []byte("{}"))
	want(t, a, Unreadable, "201 unreadable")
	if !errors.Is(a.Err, context.DeadlineExceeded) {
		t.Errorf("error %v", a.Err)
	}
	<-arrived
	<-arrived

	// One connection only, and it is busy: the second request never leaves.
	c = newClient(t, Config{BaseURL: s.URL, MaxConns: 1})
	first, interrupt := context.WithCancel(t.Context())
	answer := make(chan Answer)
	go func() { answer <- c.CreateBill(first, "busy", "B-1", []byte("{}")) }()
	<-arrived
	brief, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	want(t, c.CreateBill(brief, "waiting", "B-1", []byte("{}")), NotSent, "not sent: timeout")
	interrupt()
	want(t, <-answer, Lost, "interrupted")
	select {
	case key := <-arrived:
		t.Errorf("the request %q arrived", key)
	default:
	}
}

// TestOddAnswers: bodies that are not what they should be.
func TestOddAnswers(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, goodBill)
	_ = z.Close()
	for _, tc := range []struct {
		name   string
		answer func(http.ResponseWriter)
		kind   Kind
		label  string
	}{
		{"too large", func(w http.ResponseWriter) {
			w.WriteHeader(201)
			_, _ = w.Write(append([]byte(goodBill), bytes.Repeat([]byte(" "), maxBody)...))
		}, Unreadable, "201 unreadable"},
		{"as large as may be", func(w http.ResponseWriter) {
			w.WriteHeader(201)
			_, _ = w.Write(append([]byte(goodBill), bytes.Repeat([]byte(" "), maxBody-len(goodBill))...))
		}, Created, "201"},
		{"compressed unasked", func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(201)
			_, _ = w.Write(zipped.Bytes())
		}, Unreadable, "201 unreadable"},
		{"cut", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(201)
			_, _ = io.WriteString(w, goodBill)
		}, Unreadable, "201 unreadable"},
		{"html", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(502)
			_, _ = io.WriteString(w, "<html>")
		}, ServerFault, "502"},
		{"dropped", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, Lost, "connection lost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) { tc.answer(w) })
			want(t, newClient(t, Config{BaseURL: s.URL}).CreateBill(t.Context(), "k", "B-1", []byte("{}")), tc.kind, tc.label)
		})
	}
}

// TestAnswerThatIsNotHTTP: the error does not repeat what came.
func TestAnswerThatIsNotHTTP(t *testing.T) {
	for _, reply := range []string{"CANARY\r\n\r\n", "HTTP/1.1 CANARY\r\n\r\n", "HTTP/1.1 201 OK\r\nCANARY\r\n\r\n",
		"HTTP/1.1 201 OK\r\nContent-Length: CANARY\r\n\r\n", "HTTP/1.1 201 OK\r\nTransfer-Encoding: CANARY\r\n\r\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, reply)
			}
		}()
		a := newClient(t, Config{BaseURL: "http://" + l.Addr().String()}).CreateBill(t.Context(), "k", "B-1", []byte("{}"))
		want(t, a, Lost, "connection lost")
		if strings.Contains(a.Err.Error(), "CANARY") {
			t.Errorf("error %q", a.Err)
		}
		<-done
		_ = l.Close()
	}
}

// TestConnectionsAreKept: answers are drained, so that connections serve again.
func TestConnectionsAreKept(t *testing.T) {
	var fresh atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(422)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100<<10))
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			fresh.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := newClient(t, Config{BaseURL: s.URL, MaxConns: 4})
	for range 10 {
		want(t, c.CreateBill(t.Context(), "k", "B-1", []byte("{}")), Refused, "422")
	}
	// net/http gives a connection up when its own goroutines get no processor for 50 ms.
	if n := fresh.Load(); n > 3 {
		t.Errorf("%d connections for 10 requests, one after the other", n)
	}
}
