package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// recordingProxy is a CONNECT proxy that keeps all that passes through it, both ways.
type recordingProxy struct {
	address string

	mu       sync.Mutex
	connects []*http.Request
	traffic  bytes.Buffer
}

// startProxy starts a proxy. It answers CONNECT with refusal, if that is not "", and reaches
// every target at target.
func startProxy(t *testing.T, target, refusal string) *recordingProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &recordingProxy{address: l.Addr().String()}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { p.serve(c, target, refusal) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Wait()
	})
	return p
}

func (p *recordingProxy) serve(c net.Conn, target, refusal string) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(io.TeeReader(c, p)) // all of it, the CONNECT as well
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.connects = append(p.connects, req)
	p.mu.Unlock()
	if refusal != "" || req.Method != http.MethodConnect {
		_, _ = io.WriteString(c, "HTTP/1.1 "+cmp.Or(refusal, "405 Method Not Allowed")+"\r\nContent-Length: 0\r\n\r\n")
		return
	}
	up, err := net.Dial("tcp", target)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection Established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(up, in)
		_ = up.Close()
	})
	_, _ = io.Copy(c, io.TeeReader(up, p))
	_ = c.Close()
	both.Wait()
}

// Write implements io.Writer: it records.
func (p *recordingProxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.traffic.Write(b)
}

// seen returns the CONNECTs, and all bytes that passed.
func (p *recordingProxy) seen() ([]*http.Request, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connects, p.traffic.String()
}

// secureServer starts an https server that answers every request with goodBill, and returns
// the PEM of its root.
func secureServer(t *testing.T, change func(*httptest.Server)) (s *httptest.Server, root []byte) {
	t.Helper()
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(201)
		_, _ = io.WriteString(w, goodBill)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		change(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// TestProxy: requests go through the proxy inside TLS, and the proxy sees neither the key nor
// a body. The certificate of a private authority is trusted when it is named.
func TestProxy(t *testing.T) {
	s, root := secureServer(t, nil)
	const body = `{"external_reference":"B-1","name":"CANARY-BODY"}`
	for _, tc := range []struct {
		name, proxy string
		password    Secret
		want        string // Proxy-Authorization
	}{
		{"plain", "http://%s", "", ""},
		{"with a slash", "http://%s/", "", ""},
		{"a user", "http://clerk@%s", "", "Basic Y2xlcms6"},
		{"a user and a password", "http://clerk@%s", "p:w", "Basic Y2xlcms6cDp3"},
	} {
		p := startProxy(t, s.Listener.Addr().String(), "")
		// The name is one that only the proxy can resolve.
		c := newClient(t, Config{BaseURL: "https://example.com/base", Proxy: fmt.Sprintf(tc.proxy, p.address), ProxyPassword: tc.password, CA: root, UserAgent: "billdrop/1"})
		for range 3 {
			want(t, c.CreateBill(t.Context(), "k-CANARY-KEY", "B-1", []byte(body)), Created, "201")
		}
		c.transport.CloseIdleConnections()
		connects, traffic := p.seen()
		if len(connects) != 1 || connects[0].Method != http.MethodConnect || connects[0].RequestURI != "example.com:443" ||
			connects[0].Header.Get("Proxy-Authorization") != tc.want || connects[0].Header.Get("User-Agent") != "billdrop/1" || connects[0].Header.Get("Authorization") != "" {
			t.Errorf("%s: CONNECTs %+v", tc.name, connects)
		}
		if len(traffic) < 1000 {
			t.Errorf("%s: the proxy saw %d bytes", tc.name, len(traffic))
		}
		for _, private := range []string{secret, "CANARY", "Bearer", "external_reference", "bill_1", "/base", "p:w"} {
			if strings.Contains(traffic, private) {
				t.Errorf("%s: the proxy saw %s", tc.name, private)
			}
		}
	}
}

// TestProxyOfEnvironment: it is asked when the configuration says so, and only then; see
// TestNoProxyOfTheEnvironment. NO_PROXY counts.
func TestProxyOfEnvironment(t *testing.T) {
	s, root := secureServer(t, nil)
	p := startProxy(t, s.Listener.Addr().String(), "")
	t.Setenv("HTTPS_PROXY", "http://clerk:pw@"+p.address)
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	t.Setenv("https_proxy", "")
	c := newClient(t, Config{BaseURL: "https://example.com", Proxy: "environment", CA: root})
	want(t, c.CreateBill(t.Context(), "k", "B-1", []byte("{}")), Created, "201")
	if connects, _ := p.seen(); len(connects) != 1 || connects[0].Header.Get("Proxy-Authorization") != "Basic Y2xlcms6cHc=" {
		t.Errorf("CONNECTs %+v", connects)
	}
	t.Setenv("NO_PROXY", "example.com")
	c = newClient(t, Config{BaseURL: "https://example.com", Proxy: "environment", CA: root, Timeout: time.Second, Dial: nowhere})
	want(t, c.CreateBill(t.Context(), "k", "B-1", []byte("{}")), NotSent, "not sent: no route to host")
	for _, value := range []string{"socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://user:CANARY@127.0.0.1:port"} {
		t.Setenv("NO_PROXY", "")
		t.Setenv("HTTPS_PROXY", value)
		if _, err := New(Config{BaseURL: "https://example.com", Key: secret, Proxy: "environment"}); err == nil {
			t.Errorf("%s: accepted", value)
		} else {
			checkError(t, value, err, "API proxy in HTTPS_PROXY ")
		}
	}
}

// TestPlainAPIGoesDirect: an http API is on this machine, and its key is for nobody else.
func TestPlainAPIGoesDirect(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(201)
		_, _ = io.WriteString(w, goodBill)
	})
	for _, proxy := range []string{"http://127.0.0.1:1", "environment"} {
		t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
		c := newClient(t, Config{BaseURL: s.URL, Proxy: proxy})
		want(t, c.CreateBill(t.Context(), "k", "B-1", []byte("{}")), Created, "201")
	}
}

// TestProxyFailures: nothing was sent, and the reason names the proxy.
func TestProxyFailures(t *testing.T) {
	s, root := secureServer(t, nil)
	const closed = "127.0.0.1:1" // a reserved port, on which nothing listens
	target := s.Listener.Addr().String()
	for _, tc := range []struct {
		name, proxy string
		kind        Kind
		label       string
		says        []string
	}{
		{"wants a password", startProxy(t, target, "407 Proxy Authentication Required").address, ProxyRefused, "proxy refused", []string{"proxy answers 407 Proxy Authentication Required"}},
		{"forbids the target", startProxy(t, target, "403 Forbidden").address, ProxyRefused, "proxy refused", []string{"proxy answers 403 Forbidden"}},
		{"cannot reach the API", startProxy(t, closed, "").address, NotSent, "not sent: no connection", []string{"proxy answers 503 Service Unavailable"}},
		{"is overloaded", startProxy(t, target, "429 Too Many Requests").address, NotSent, "not sent: no connection", []string{"proxy answers 429"}},
		{"not there", closed, NotSent, "not sent: connection refused", []string{"proxy: ", "connection refused"}},
		{"no such host", "proxy.invalid:3128", NotSent, "not sent: no such host", []string{"proxy: ", "no such host"}},
	} {
		cfg := Config{BaseURL: "https://example.com", Proxy: "http://" + tc.proxy, CA: root}
		if tc.name == "no such host" {
			cfg.Dial = noSuchHost
		}
		a := newClient(t, cfg).CreateBill(t.Context(), "k", "B-1", []byte("{}"))
		if a.Kind != tc.kind || a.Label() != tc.label {
			t.Errorf("%s: got %v, %q (%v)", tc.name, a.Kind, a.Label(), a.Err)
		}
		for _, text := range tc.says {
			if !strings.Contains(a.Reason(), text) {
				t.Errorf("%s: reason %q", tc.name, a.Reason())
			}
		}
	}
}

// TestProxySettings: what may stand in Config.Proxy.
func TestProxySettings(t *testing.T) {
	for proxy, ok := range map[string]bool{
		"http://proxy.example.com:3128": true, "http://proxy.example.com": true, "http://u@[::1]:3128/": true,
		"proxy.example.com:3128": false, "https://proxy.example.com:3128": false, "socks5://proxy.example.com": false,
		"http://": false, "http://proxy.example.com:0": false, "http://u:CANARY@proxy.example.com": false,
		"http://proxy.example.com/x": false, "http://proxy.example.com?x": false, "http://u:CANARY@proxy.example.com:port": false, "Environment": false,
	} {
		_, err := New(Config{BaseURL: "https://example.com", Key: secret, Proxy: proxy})
		if (err == nil) != ok {
			t.Errorf("%s: %v", proxy, err)
		}
		if checked := CheckProxy(proxy); fmt.Sprint(checked) != fmt.Sprint(err) {
			t.Errorf("%s: CheckProxy returns %v, New %v", proxy, checked, err)
		}
		if err != nil {
			checkError(t, proxy, err, "API proxy ")
		}
	}
	_, err := New(Config{BaseURL: "https://example.com", Key: secret, Proxy: "http://proxy.example.com", ProxyPassword: "CANARY"})
	if err == nil {
		t.Fatal("a password without a user is accepted")
	}
	checkError(t, "password without a user", err, "API proxy ")
}

// TestClientCertificate: a server that wants a certificate gets it, and the reason is told
// where it does not.
func TestClientCertificate(t *testing.T) {
	cert, key := clientPair(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s, root := secureServer(t, func(s *httptest.Server) {
			s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: version, MaxVersion: version}
		})
		with := newClient(t, Config{BaseURL: s.URL, CA: root, ClientCert: cert, ClientKey: Secret(key)})
		want(t, with.CreateBill(t.Context(), "k", "B-1", []byte("{}")), Created, "201")
		a := newClient(t, Config{BaseURL: s.URL, CA: root}).CreateBill(t.Context(), "k", "B-1", []byte("{}"))
		// By TLS 1.3 the client has finished, and sent its request, before the server refuses.
		if kind := map[uint16]Kind{tls.VersionTLS12: NotSent, tls.VersionTLS13: Lost}[version]; a.Kind != kind {
			t.Errorf("%x: %v (%v)", version, a.Kind, a.Err)
		}
		if text := map[uint16]string{tls.VersionTLS12: "handshake failure", tls.VersionTLS13: "certificate required"}[version]; !strings.Contains(a.Reason(), text) {
			t.Errorf("%x: reason %q", version, a.Reason())
		}
	}
}

// TestTLSSettings: files that cannot be used are named before anything is sent.
func TestTLSSettings(t *testing.T) {
	cert, key := clientPair(t)
	other, _ := clientPair(t)
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("CANARY")})
	for name, cfg := range map[string]Config{
		"CA file ":              {CA: []byte("CANARY")},
		"client key ":           {ClientKey: Secret(key)},
		"client certificate ":   {ClientCert: cert},
		"client certificate c":  {ClientCert: other, ClientKey: Secret(key)},
		"client certificate ca": {ClientCert: []byte("CANARY"), ClientKey: Secret(key)},
		"client key is en":      {ClientCert: cert, ClientKey: Secret(locked)},
	} {
		cfg.BaseURL, cfg.Key = "https://example.com", secret
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		checkError(t, name, err, "API "+name)
	}
}

// TestSecretIsNeverPrinted: no way of printing a secret, or what holds one, shows it.
func TestSecretIsNeverPrinted(t *testing.T) {
	cfg := Config{BaseURL: "https://example.com", Key: secret, Proxy: "http://clerk@proxy.example.com", ProxyPassword: "CANARY"}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{cfg, &cfg, cfg.ProxyPassword, c} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, "CANARY") || strings.Contains(out, fmt.Sprintf("%x", "CANARY")) {
				t.Errorf("%s of a %T shows it", verb, v)
			}
		}
	}
}

// clientPair returns a certificate that signs itself, and its key, as PEM.
func clientPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "billdrop"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// nowhere is a Dial on a machine without a network.
func nowhere(_ context.Context, network, _ string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
}

// noSuchHost is a Dial whose name server knows no name.
func noSuchHost(_ context.Context, network, address string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}}
}
