// Package client speaks Moment's Billing API: it creates and fetches bills, customers and accounts, and turns
// whatever comes back into one Answer.
//
// Each call is one request. Nothing is retried here, no redirect is followed, and no request with a body
// is sent twice behind the caller's back: what to do next is decided where the history of a bill is known.
// What the package promises about an outcome is in the comments of Kind.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultTimeout  = 30 * time.Second
	defaultMaxConns = 32
	defaultAgent    = "billdrop"
)

// Config is how to reach the API. BaseURL and Key are needed; the zero value of every other field is its default.
type Config struct {
	BaseURL   string        // https, or http on a loopback address; a path is kept, a query or user is refused
	Key       Key           // secret key
	Timeout   time.Duration // of one request, connecting and reading the answer included; 0 = 30 s
	MaxConns  int           // connections at most, all of them kept alive; 0 = 32. Requests beyond wait, within Timeout
	UserAgent string        // "" = billdrop
	// Transport replaces the client's own; nil outside tests and simulations. It must not follow redirects or
	// send again by itself. One that never reports through net/http/httptrace is taken to have sent every request.
	Transport http.RoundTripper
}

// Client sends requests to the API. All methods may be called concurrently.
type Client struct {
	rooms     sync.Pool  // of *bytes.Buffer: what answers are read into
	path      string     // of BaseURL, escaped and without a trailing slash
	own       *transport // nil when Config.Transport was set
	foreign   *foreign   // nil otherwise
	sentPosts atomic.Int64
	sentGets  atomic.Int64
}

// Counts are the requests that went over the wire, those without an answer included.
type Counts struct{ Posts, Gets int64 }

// New checks cfg and makes a client; nothing is sent and no connection is made. The error names the field that is wrong
// and never quotes the key.
func New(cfg Config) (*Client, error) {
	root, err := checkBaseURL(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(string(cfg.Key))
	if err != nil {
		return nil, err
	}
	if cfg.Timeout < 0 {
		return nil, fmt.Errorf("API timeout %v is negative", cfg.Timeout)
	}
	if cfg.MaxConns < 0 {
		return nil, fmt.Errorf("API connection limit %d is negative", cfg.MaxConns)
	}
	if strings.ContainsFunc(cfg.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("user agent has a character outside printable ASCII")
	}
	base, err := url.Parse(root)
	if err != nil {
		return nil, fmt.Errorf("API base URL: %w", err)
	}
	timeout, agent := cmp.Or(cfg.Timeout, defaultTimeout), cmp.Or(cfg.UserAgent, defaultAgent)
	c := &Client{path: base.EscapedPath()}
	if cfg.Transport != nil {
		c.foreign = newForeign(base, cfg.Transport, timeout, key, agent)
	} else {
		c.own = newTransport(base, cmp.Or(cfg.MaxConns, defaultMaxConns), timeout, key, agent)
	}
	return c, nil
}

// checkBaseURL returns s without trailing slashes if it may carry a key and personal data: https, or http that does not
// leave this machine.
func checkBaseURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		// A parse error quotes the whole URL, and with it a password that somebody put there.
		return "", errors.New("API base URL cannot be parsed: it should look like https://api.momentpay.net")
	}
	switch {
	case u.User != nil:
		return "", errors.New("API base URL has a user or password in it: leave it out, the key goes into a header")
	case u.Opaque != "" || u.Hostname() == "":
		return "", errors.New("API base URL has no host: it should look like https://api.momentpay.net")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' || r == '%' }):
		return "", errors.New("API base URL has a host with letters outside ASCII, or with a zone: write it in its xn-- form, or as a plain address")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return "", errors.New("API base URL has a query or fragment: leave it out")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "", fmt.Errorf("API base URL is http to %q: use https (plain http is for loopback addresses only)", u.Hostname())
	case u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("API base URL has scheme %q: use https", u.Scheme)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// loopback reports whether host names this machine without asking a name server.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// CreateBill sends body, which EncodeBill made for reference, under the idempotency key. The body must not be
// changed afterwards: with a transport of Config's it may still be on its way out.
func (c *Client) CreateBill(ctx context.Context, key, reference string, body []byte) Answer {
	return c.post(ctx, bills, key, reference, body)
}

// CreateCustomer creates a customer that stands alone; it needs ExternalReference and no ID.
func (c *Client) CreateCustomer(ctx context.Context, key string, customer Customer) Answer {
	body, err := encode(customer)
	if err != nil {
		return notBuilt(http.MethodPost, customers, err)
	}
	return c.post(ctx, customers, key, customer.ExternalReference, body)
}

// CreateAccount creates an account that stands alone; it needs ExternalReference and Customer and no ID.
func (c *Client) CreateAccount(ctx context.Context, key string, account Account) Answer {
	body, err := encode(account)
	if err != nil {
		return notBuilt(http.MethodPost, accounts, err)
	}
	return c.post(ctx, accounts, key, account.ExternalReference, body)
}

// GetBill looks a bill up by its external reference, or by its id.
func (c *Client) GetBill(ctx context.Context, reference string) Answer {
	return c.get(ctx, bills, reference)
}

// GetCustomer looks a customer up by its external reference, or by its id.
func (c *Client) GetCustomer(ctx context.Context, reference string) Answer {
	return c.get(ctx, customers, reference)
}

// GetAccount looks an account up by its external reference, or by its id.
func (c *Client) GetAccount(ctx context.Context, reference string) Answer {
	return c.get(ctx, accounts, reference)
}

// Counts tells what went over the wire so far.
func (c *Client) Counts() Counts {
	return Counts{Posts: c.sentPosts.Load(), Gets: c.sentGets.Load()}
}

// Close closes idle connections, and those of calls that are under way when these are over.
func (c *Client) Close() {
	if c.own != nil {
		c.own.close()
	}
}

// object is a kind of object of the API.
type object uint8

const (
	bills object = iota + 1
	customers
	accounts
)

// path is where objects of the kind live.
func (o object) path() string {
	switch o {
	case bills:
		return "/billing/bills"
	case customers:
		return "/billing/customers"
	case accounts:
		return "/billing/accounts"
	}
	panic("client: no such kind of object")
}

// noun is what one of them is called in an error.
func (o object) noun() string {
	return strings.TrimSuffix(strings.TrimPrefix(o.path(), "/billing/"), "s")
}

// idPrefix is how ids of the kind begin.
func (o object) idPrefix() string {
	switch o {
	case bills:
		return "bill_"
	case customers:
		return "bcus_"
	case accounts:
		return "bacc_"
	}
	panic("client: no such kind of object")
}
