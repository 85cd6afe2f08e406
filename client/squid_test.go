//go:build servers && unix

package client

import (
	"fmt"
	"strings"
	"testing"

	"billdrop/client/servertest"
)

// TestServersSquid: requests go through a real proxy, which sees where they go and nothing else.
func TestServersSquid(t *testing.T) {
	s, root := secureServer(t, nil)
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	proxy := servertest.NewSquid(t, fmt.Sprintf(`auth_param basic program /usr/lib/squid/basic_fake_auth
acl known proxy_auth REQUIRED
acl api port %s
http_access deny !api
http_access allow CONNECT known
http_access deny all`, port))
	send := func(cfg Config) Answer {
		cfg.CA = root
		if cfg.BaseURL == "" {
			cfg.BaseURL = s.URL
		}
		return newClient(t, cfg).CreateBill(t.Context(), "k-CANARY", "B-1", []byte(`{"name":"CANARY"}`))
	}
	want(t, send(Config{Proxy: "http://clerk@" + proxy.Address, ProxyPassword: "pw"}), Created, "201")
	a := send(Config{Proxy: "http://" + proxy.Address})
	want(t, a, ProxyRefused, "proxy refused")
	if a.Reason() != "proxy answers 407 Proxy Authentication Required" {
		t.Errorf("reason %q", a.Reason())
	}
	a = send(Config{Proxy: "http://clerk@" + proxy.Address, ProxyPassword: "pw", BaseURL: "https://127.0.0.1:1"})
	want(t, a, ProxyRefused, "proxy refused")
	if a.Reason() != "proxy answers 403 Forbidden" {
		t.Errorf("reason %q", a.Reason())
	}
	s.Close() // and with it the connections, which is when squid writes its log
	log := proxy.AwaitLog("access.log", "CONNECT 127.0.0.1:"+port+" clerk")
	for _, private := range []string{secret, "CANARY", "Bearer", "B-1"} {
		if strings.Contains(log, private) {
			t.Errorf("the proxy's log has %s:\n%s", private, log)
		}
	}
}
