package client

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// proxyOfEnvironment is the value of Config.Proxy that takes the proxy from HTTPS_PROXY and
// NO_PROXY, as other programs do.
const proxyOfEnvironment = "environment"

// proxyError is a proxy's answer to CONNECT that is not 200.
type proxyError struct{ status int }

func (e *proxyError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("proxy answers %d %s", e.status, http.StatusText(e.status)))
}

// final reports whether waiting does not help: the proxy refuses who asks, or what is asked
// for. After any other answer it may yet reach the API.
func (e *proxyError) final() bool {
	return e.status < 500 && e.status != http.StatusRequestTimeout && e.status != http.StatusTooManyRequests
}

// checkConnect is http.Transport's OnProxyConnectResponse.
func checkConnect(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return &proxyError{res.StatusCode}
	}
	return nil
}

// proxyFor returns the proxy for requests to base, with the user and password that it gets;
// nil = none. Plain HTTP, which is accepted to this machine only, goes direct: a proxy would
// read the key.
func (cfg *Config) proxyFor(base *url.URL) (*url.URL, error) {
	if err := CheckProxy(cfg.Proxy); err != nil {
		return nil, err
	}
	switch {
	case cfg.Proxy == "" || base.Scheme != "https":
		return nil, nil
	case cfg.Proxy == proxyOfEnvironment:
		return environmentProxy(base, cfg.ProxyPassword)
	}
	proxy, err := parseProxy(cfg.Proxy)
	if err != nil {
		return nil, err
	}
	return withPassword("proxy", proxy, cfg.ProxyPassword)
}

// environmentProxy returns the proxy that the environment names for base, or nil.
func environmentProxy(base *url.URL, password Secret) (*url.URL, error) {
	const setting, example = "proxy in HTTPS_PROXY", "write one such as http://proxy.example.com:3128"
	env := httpproxy.FromEnvironment()
	value := env.HTTPSProxy
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	_, invalid := url.Parse(value) // httpproxy takes such a value for none
	found, err := env.ProxyFunc()(base)
	switch {
	case invalid != nil || err != nil:
		return nil, &Error{setting, "is not a URL", example} // an error of url.Parse quotes passwords
	case found == nil:
		return nil, nil
	case found.Scheme != "http" || found.Hostname() == "":
		return nil, &Error{setting, fmt.Sprintf("has the scheme %q", found.Scheme), example}
	}
	if _, has := found.User.Password(); has {
		return found, nil // as is usual in the environment
	}
	return withPassword(setting, found, password)
}

// CheckProxy returns an *Error unless s may be a Config.Proxy.
func CheckProxy(s string) error {
	if s == "" || s == proxyOfEnvironment {
		return nil
	}
	_, err := parseProxy(s)
	return err
}

// parseProxy returns the URL of a proxy: http://[user@]host[:port].
func parseProxy(s string) (*url.URL, error) {
	const example = "write one such as http://proxy.example.com:3128, or environment"
	wrong := func(hint, problem string, args ...any) (*url.URL, error) {
		return nil, &Error{"proxy", fmt.Sprintf(problem, args...), hint}
	}
	u, err := url.Parse(s)
	if err != nil {
		return wrong(example, "is not a URL") // the parser's own error quotes passwords
	}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "http":
		return wrong(example, "has the scheme %q", u.Scheme)
	case u.Opaque != "" || u.Hostname() == "":
		return wrong(example, "has no host")
	case u.Port() != "" && !ValidPort(u.Port()):
		return wrong("write a port between 1 and 65535", "has a port out of range")
	case password:
		return wrong("write the password into the proxy password file", "has a password in it")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return wrong(example, "has more than a host and a port")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, User: u.User}, nil
}

// withPassword returns proxy with the password of its user.
func withPassword(setting string, proxy *url.URL, password Secret) (*url.URL, error) {
	switch {
	case password == "":
		return proxy, nil
	case proxy.User.Username() == "":
		return nil, &Error{setting, "has a password and no user", "write http://USER@" + cmp.Or(proxy.Host, "HOST:PORT")}
	}
	with := *proxy
	with.User = url.UserPassword(proxy.User.Username(), string(password))
	return &with, nil
}
