// Package client speaks Moment's Billing API. It creates and fetches bills, customers,
// accounts and payment requests, and turns whatever comes back into one Answer. It also
// checks and reads the events that the API delivers by webhook.
//
// Each call is one request. The package retries nothing and follows no redirect, and no
// request, a GET included, is sent twice without the caller's knowledge. The caller has the
// history of a bill, and decides what to do next. What an Answer proves is in the
// comments of Kind.
package client

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	defaultTimeout   = 30 * time.Second
	defaultMaxConns  = 32
	defaultUserAgent = "billdrop"
)

// Config says how to reach the API. BaseURL and Key are required; the zero value of every
// other field is its default.
type Config struct {
	BaseURL   string        // see CheckBaseURL
	Key       Key           // secret key
	Timeout   time.Duration // of one request, connecting and reading the answer included; 0 = 30 s
	MaxConns  int           // connections at most; 0 = 32. Further requests wait, within Timeout
	UserAgent string        // "" = billdrop
	// Proxy carries the requests to an https API, inside TLS: http://[user@]host[:port], or
	// "environment" for what HTTPS_PROXY and NO_PROXY say. "" = none. An http API, which is
	// on this machine, is always reached directly. See CheckProxy.
	Proxy         string
	ProxyPassword Secret // of the user in Proxy
	CA            []byte // roots to trust beside the machine's own, PEM
	ClientCert    []byte // certificate for a server that asks for one, PEM; with ClientKey
	ClientKey     Secret // its key, PEM, without a passphrase
	// Dial makes the connections; nil = a net.Dialer. It is given 10 s. TLS is added
	// above it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client sends requests to the API. All methods may be called concurrently. A Client
// needs no closing: a connection that was idle for 30 s is closed.
type Client struct {
	transport   *http.Transport
	timeout     time.Duration
	collections [len(kinds)]*url.URL
	// header and clean are closures, so that printing a Client cannot show the API key.
	header  func(idempotencyKey string) http.Header
	clean   cleaner
	wrong   *Client   // this client with another key; see GetBillWithWrongKey
	buffers sync.Pool // of *bytes.Buffer: what answers are read into
}

// New checks cfg and makes a client. It sends nothing and makes no connection. The error
// is an *Error, which names the setting that is wrong and never quotes the key.
func New(cfg Config) (*Client, error) {
	base, err := parseBaseURL(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(string(cfg.Key))
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Timeout < 0:
		return nil, &Error{"timeout", "is negative", "write a duration such as 30s"}
	case cfg.MaxConns < 0:
		return nil, &Error{"connection limit", "is negative", "write a number above 0"}
	case strings.ContainsFunc(cfg.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }):
		return nil, &Error{"user agent", "has a character outside printable ASCII", "use ASCII letters"}
	}
	transport := newTransport(cmp.Or(cfg.MaxConns, defaultMaxConns), cfg.Dial)
	if transport.TLSClientConfig, err = cfg.tlsConfig(); err != nil {
		return nil, err
	}
	proxy, err := cfg.proxyFor(base)
	if err != nil {
		return nil, err
	}
	transport.Proxy = http.ProxyURL(proxy) // nil: none
	transport.ProxyConnectHeader = http.Header{"User-Agent": {cmp.Or(cfg.UserAgent, defaultUserAgent)}}
	transport.OnProxyConnectResponse = checkConnect
	withKey := func(key Key) *Client {
		return &Client{
			transport:   transport,
			timeout:     cmp.Or(cfg.Timeout, defaultTimeout),
			collections: collectionURLs(base),
			header:      headers(key, cmp.Or(cfg.UserAgent, defaultUserAgent)),
			clean:       newCleaner(key),
		}
	}
	c := withKey(key)
	c.wrong = withKey(key.changed())
	return c, nil
}

// headers returns a function that makes the header of a request: with an idempotency key
// that of a POST, without one that of a GET. Requests share what is the same in all of
// them, because neither this package nor net/http changes it.
func headers(key Key, userAgent string) func(string) http.Header {
	get := http.Header{
		"Accept":          {"application/json, application/problem+json"},
		"Accept-Encoding": {"identity"},
		"Authorization":   {"Bearer " + string(key)},
		"User-Agent":      {userAgent},
	}
	post := maps.Clone(get)
	post["Content-Type"] = []string{"application/json"}
	return func(idempotencyKey string) http.Header {
		if idempotencyKey == "" {
			return get
		}
		h := maps.Clone(post)
		h["Idempotency-Key"] = []string{idempotencyKey}
		return h
	}
}

// CreateBill sends body, which EncodeBill made for reference, under the idempotency key.
// The body must not be changed afterwards, because it may still be on its way out when
// CreateBill returns.
func (c *Client) CreateBill(ctx context.Context, key, reference string, body []byte) Answer {
	return c.post(ctx, bills, key, reference, body)
}

// CreateCustomer creates a customer by itself. It needs an ExternalReference and must
// have no ID.
func (c *Client) CreateCustomer(ctx context.Context, key string, customer Customer) Answer {
	body, err := encode(customer)
	if err != nil {
		return notBuilt(http.MethodPost, customers, err)
	}
	return c.post(ctx, customers, key, customer.ExternalReference, body)
}

// CreateAccount creates an account by itself. It needs an ExternalReference and a
// Customer, and must have no ID.
func (c *Client) CreateAccount(ctx context.Context, key string, account Account) Answer {
	body, err := encode(account)
	if err != nil {
		return notBuilt(http.MethodPost, accounts, err)
	}
	return c.post(ctx, accounts, key, account.ExternalReference, body)
}

// GetBill fetches a bill by its external reference or by its id.
func (c *Client) GetBill(ctx context.Context, reference string) Answer {
	return c.get(ctx, bills, reference)
}

// GetBillWithWrongKey is GetBill with the last characters of the key changed, so that it is
// a key that does not exist. The API refuses it. Where the answer is the same as GetBill's, what
// answers does not look at the key: the path of the base URL is not the API's.
func (c *Client) GetBillWithWrongKey(ctx context.Context, reference string) Answer {
	return c.wrong.GetBill(ctx, reference)
}

// GetCustomer fetches a customer by its external reference or by its id.
func (c *Client) GetCustomer(ctx context.Context, reference string) Answer {
	return c.get(ctx, customers, reference)
}

// GetAccount fetches an account by its external reference or by its id.
func (c *Client) GetAccount(ctx context.Context, reference string) Answer {
	return c.get(ctx, accounts, reference)
}

// object is a kind of object of the API.
type object uint8

const (
	bills object = iota + 1
	customers
	accounts
	paymentRequests
)

// kinds are how the API and errors name objects of each kind.
var kinds = [...]struct{ collection, noun, idPrefix string }{
	bills:           {"/billing/bills", "bill", "bill_"},
	customers:       {"/billing/customers", "customer", "bcus_"},
	accounts:        {"/billing/accounts", "account", "bacc_"},
	paymentRequests: {"/collect/payment_requests", "payment request", "pr_"},
}

// collectionURLs returns the addresses of all objects of a kind, by kind.
func collectionURLs(base *url.URL) (all [len(kinds)]*url.URL) {
	for o, kind := range kinds {
		u := *base
		u.Path, u.RawPath = base.Path+kind.collection, base.EscapedPath()+kind.collection
		all[o] = &u
	}
	return all
}

// objectURL returns the address of one object.
func (c *Client) objectURL(o object, reference string) *url.URL {
	u := *c.collections[o]
	u.Path, u.RawPath = u.Path+"/"+reference, u.RawPath+"/"+url.PathEscape(reference)
	return &u
}
