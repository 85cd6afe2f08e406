// Package emulator is Moment's Billing API in memory, as documented: its idempotency
// store, its rules, its creation of nested objects in sequence. It is strict and refuses
// what the API would refuse. A script can make it fail in every way that a client has to
// survive.
//
// It serves the sandbox, the demo and the tests: as an http.Handler, or without sockets
// through ServePipes, which also works on the fake clock of a testing/synctest bubble. It
// shares no code with the client, so that a mistake in one is not repeated in the other.
package emulator

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Values of Config.ExistingParty.
const (
	Conflict = "conflict" // a nested customer or account whose reference is taken is refused
	Reuse    = "reuse"    // it is used as it is, and the object that was sent is ignored
)

// defaultKeyTTL is how long the API keeps an idempotency key, from its first use.
const defaultKeyTTL = 24 * time.Hour

// Config configures an API. The zero value is a strict one without latency, faults or
// limits.
type Config struct {
	Latency time.Duration // of every request; POSTs are executed at its end
	// FaultRate is the share of requests, 0 to 1, that meet a fault. Faults are drawn
	// from Seed and from what is asked (key or path, and how often it was asked before),
	// not from the order of requests.
	FaultRate float64
	Seed      uint64 // of faults and ids
	RateLimit int    // requests per second, counted by the clock's second; 0 = no limit
	// ExistingParty is Conflict ("" too) or Reuse.
	ExistingParty string
	TakenStatus   int           // status when a reference is taken: 409 (0 too) or 422
	Weak          bool          // accepts a second bill with a reference that is taken
	KeyTTL        time.Duration // 0 = 24 h
	Key           string        // the secret key to accept; "" = any well-formed test key
	OldLinks      bool          // a payment request has its link as link.link_url, as older versions of the API
}

// API is the Billing API of one merchant. All methods may be called concurrently. Its
// clock is time.Now.
type API struct {
	cfg Config

	scriptMu sync.Mutex // held during a script, so that scripts may keep state without a lock of their own
	script   func(Call) Fault

	// mu guards what follows. It is never held while waiting or encoding.
	mu      sync.Mutex
	objects objects
	keys    keyStore
	late    []lateWork // in order of due time
	// asked counts what scripts see as Nth and NthRef. postsByRef counts the POSTs of
	// bills that arrived.
	asked      map[askedKey]int
	postsByRef map[string]int
	window     int64 // Unix second that inWindow counts
	inWindow   int

	hooks *Hooks // where events go; nil: nowhere

	posts, gets, patches, deletes, throttled, replayed atomic.Int64
}

// askedKey counts how often the same was asked: by idempotency key, or by method, path
// and reference.
type askedKey struct{ scope, name string }

// lateWork is a request whose client has closed the connection. The server finishes it
// all the same, at due. The first call that looks at the API after that does the work, so
// no goroutine waits for it.
type lateWork struct {
	due time.Time
	do  func(now time.Time)
}

// New makes an empty API.
func New(cfg Config) *API {
	if cfg.KeyTTL == 0 {
		cfg.KeyTTL = defaultKeyTTL
	}
	if cfg.TakenStatus == 0 {
		cfg.TakenStatus = 409
	}
	return &API{
		cfg:        cfg,
		objects:    newObjects(cfg),
		keys:       keyStore{ttl: cfg.KeyTTL, records: make(map[string]*keyRecord)},
		asked:      make(map[askedKey]int),
		postsByRef: make(map[string]int),
	}
}

// State is everything that an API holds, objects in the order of their creation.
type State struct {
	Bills     []Bill     `json:"bills"`
	Customers []Customer `json:"customers"`
	Accounts  []Account  `json:"accounts"`
	// PaymentRequests are all that were made and not deleted.
	PaymentRequests []PaymentRequest `json:"payment_requests"`
	// Requests that arrived, including refused and replayed ones.
	Posts   int64 `json:"posts"`
	Gets    int64 `json:"gets"`
	Patches int64 `json:"patches"`
	Deletes int64 `json:"deletes"`
	// Throttled counts the 429 answers, Replayed the answers with Idempotent-Replayed.
	Throttled int64 `json:"throttled"`
	Replayed  int64 `json:"replayed"`
	// PostsByReference counts the POSTs of /billing/bills that named a reference.
	PostsByReference map[string]int `json:"posts_by_reference"`
}

// State returns a copy of everything that the API holds now.
func (a *API) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.doLateWork(now)
	requests := values(a.objects.requests.list)
	for i := range requests {
		requests[i] = *requests[i].asOf(now)
	}
	return State{
		Bills:            values(a.objects.bills.list),
		Customers:        values(a.objects.customers.list),
		Accounts:         values(a.objects.accounts.list),
		PaymentRequests:  requests,
		Posts:            a.posts.Load(),
		Gets:             a.gets.Load(),
		Patches:          a.patches.Load(),
		Deletes:          a.deletes.Load(),
		Throttled:        a.throttled.Load(),
		Replayed:         a.replayed.Load(),
		PostsByReference: maps.Clone(a.postsByRef),
	}
}

// Bills returns the bills with the reference, oldest first. Only a Weak API has more than
// one.
func (a *API) Bills(reference string) []Bill {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.doLateWork(time.Now())
	return values(a.objects.bills.withReference(reference))
}

// values copies what the pointers point to. It never returns nil, so that JSON shows an
// empty list.
func values[T any](list []*T) []T {
	out := make([]T, 0, len(list))
	for _, p := range list {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}

// doLateWork does the late work that is due, in order of time. a.mu is held.
func (a *API) doLateWork(now time.Time) {
	for len(a.late) > 0 && !a.late[0].due.After(now) {
		work := a.late[0]
		a.late = a.late[1:]
		work.do(work.due)
	}
}

// schedule adds late work. a.mu is held.
func (a *API) schedule(due time.Time, do func(time.Time)) {
	at := slices.IndexFunc(a.late, func(w lateWork) bool { return w.due.After(due) })
	if at < 0 {
		at = len(a.late)
	}
	a.late = slices.Insert(a.late, at, lateWork{due, do})
}

// throttle counts a request, and reports whether it exceeds the limit of this second.
// a.mu is held.
func (a *API) throttle(now time.Time) bool {
	if a.cfg.RateLimit <= 0 {
		return false
	}
	if second := now.Unix(); second != a.window {
		a.window, a.inWindow = second, 0
	}
	a.inWindow++
	return a.inWindow > a.cfg.RateLimit
}
