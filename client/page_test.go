package client

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// TestReason: why there is no usable answer, in words for people.
func TestReason(t *testing.T) {
	page := func(title string) string {
		return "<html><head><title>" + title + "</title></head><body>CANARY</body></html>"
	}
	for _, tc := range []struct {
		name, server string
		status       int
		body, want   string
	}{
		{"nginx", "nginx/1.22.1", 413, page("413 Request Entity Too Large"), "413 from nginx: Request Entity Too Large"},
		{"nginx, a busy one", "nginx", 503, page("503 Service Temporarily Unavailable"), "503 from nginx: Service Temporarily Unavailable"},
		{"HAProxy, which names itself not", "", 503, "<html><body><h1>503 Service Unavailable</h1>\nNo server is available.\n</body></html>", "503: Service Unavailable"},
		{"a firewall", "cloudflare", 403, page("Attention Required! | Cloudflare"), "403 from cloudflare: Attention Required! | Cloudflare"},
		{"a title with marks", "", 403, page("A &amp; B <b>no</b>\n\u202e&#27;x"), "403: A & B  no  x"},
		{"no title", "Apache/2.4 (Debian)", 502, "<html></html>", "502 from Apache: Bad Gateway"},
		{"no words", "", 599, "", "599"},
		{"a problem document is not quoted", "", 500, problemBody("CANARY", "CANARY"), "500 Internal Server Error"},
		{"a long title", "", 500, page(strings.Repeat("word ", 100)), "500: " + strings.TrimSpace(strings.Repeat("word ", 20))},
		{"a title with the key", "sk_test_CANARY0123456789", 500, page(secret + " " + secret[8:]), "500: [key] [key]"},
		{"a server that is none", "<script>", 500, "", "500 Internal Server Error"},
	} {
		a := verdict(result{method: http.MethodPost, object: bills, asked: "B-1", clean: newCleaner(secret), status: tc.status,
			header: http.Header{"Server": {tc.server}}, body: []byte(tc.body)})
		if got := a.Reason(); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, "dial tcp: connection refused"},
		{&net.DNSError{Err: "no such host", Name: "api.example"}, "lookup api.example: no such host"},
		{context.DeadlineExceeded, "timed out"},
		{&net.OpError{Op: "proxyconnect", Net: "tcp", Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}, "proxy: dial tcp: connection refused"},
		{&proxyError{407}, "proxy answers 407 Proxy Authentication Required"},
	} {
		a := verdict(result{method: http.MethodPost, object: bills, asked: "B-1", clean: newCleaner(secret), failure: tc.err})
		if got := a.Reason(); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.err, got, tc.want)
		}
	}
	if got := (Answer{Kind: NotSent}).Reason(); got != "not sent" {
		t.Errorf("nothing known: %q", got)
	}
}

// TestForeign: which answers 404 cannot be the API's.
func TestForeign(t *testing.T) {
	for body, want := range map[string]bool{
		"": false,
		`{"type":"about:blank","title":"Not Found"}`: false,
		`{"title":"Not Found","status":404}`:         false,
		`{"detail":"no such bill"}`:                  false,
		"404 page not found\n":                       true,
		`{"message":"no Route matched"}`:             true,
		`{"type":"about:blank","ti`:                  true,
		"[]":                                         true,
	} {
		if got := isForeign([]byte(body)); got != want {
			t.Errorf("%q: %v, want %v", body, got, want)
		}
	}
}
