package client

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Error reports a setting that cannot be used. It never quotes a secret.
type Error struct {
	Setting string // what is set: "base URL", "key"
	Problem string // what is wrong with it: "has no host"
	Hint    string // what to do about it: "write one such as …"
}

// Error returns what is wrong, without the hint.
func (e *Error) Error() string { return "API " + e.Setting + " " + e.Problem }

// Advice returns what to do about it.
func (e *Error) Advice() string { return e.Hint }

// CheckBaseURL returns an *Error unless s may carry an API key and personal data: https
// to any host, or http to this machine. A path is kept, and a user, query or fragment is
// refused.
func CheckBaseURL(s string) error {
	_, err := parseBaseURL(s)
	return err
}

// parseBaseURL returns the URL of s without trailing slashes, if CheckBaseURL accepts it.
func parseBaseURL(s string) (*url.URL, error) {
	wrong := func(hint, problem string, args ...any) (*url.URL, error) {
		return nil, &Error{"base URL", fmt.Sprintf(problem, args...), hint}
	}
	const example = "write one such as https://api.momentpay.net"
	u, err := url.Parse(s)
	if err != nil {
		return wrong(example, "is not a URL") // the parser's own error quotes passwords
	}
	switch {
	case u.User != nil:
		return wrong("leave it out; the key is sent in a header", "has a user or password in it")
	case u.Opaque != "" || u.Hostname() == "":
		return wrong(example, "has no host")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' || r == '%' }):
		return wrong("write the host in its xn-- form, or as an IP address without a zone", "has a host with letters outside ASCII, or with a zone")
	case u.Port() != "" && !ValidPort(u.Port()):
		return wrong("write a port between 1 and 65535, or none", "has a port out of range")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return wrong("leave it out", "has a query or fragment")
	case u.Scheme == "http" && !IsLoopback(u.Hostname()):
		return wrong("write https; plain http is accepted to loopback addresses only, such as http://127.0.0.1:8022", "is http to %q, which anyone on the way can read", u.Hostname())
	case u.Scheme != "https" && u.Scheme != "http":
		return wrong(example, "has the scheme %q", u.Scheme)
	}
	base, err := url.Parse(strings.TrimRight(u.String(), "/"))
	if err != nil {
		return wrong(example, "is not a URL")
	}
	return base, nil
}

// ValidPort reports whether s is the number of a port to connect to.
func ValidPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// IsLoopback reports whether host means this machine, without asking a name server. The
// name localhost is case-insensitive (RFC 4343) and reserved for loopback (RFC 6761,
// section 6.3).
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
