// Package delivery sees to it that every row of a bill file becomes exactly one bill: it fans
// the rows of a file out to the Billing API, and records what became of each.
package delivery

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// API is the part of the Billing API that delivery needs. *client.Client is one.
type API interface {
	CreateBill(ctx context.Context, key, reference string, body []byte) client.Answer
	GetBill(ctx context.Context, reference string) client.Answer
	GetCustomer(ctx context.Context, reference string) client.Answer
	GetAccount(ctx context.Context, reference string) client.Answer
}

// Policy is how patient and how fast one lane is. Every field must be set; see config.example.yaml.
type Policy struct {
	Concurrency  int // requests in flight at most
	RateLimit    int // requests per second at most; 0 = no limit of ours
	MaxAttempts  int // sends of one row in one run
	BackoffMin   time.Duration
	BackoffMax   time.Duration
	LookupSettle time.Duration
	GiveUpAfter  time.Duration
}

// Lane is one merchant account at the Billing API and all that its senders share: the gate, the parties in
// flight, the references in flight. Feeds with the same merchant and API share one lane, so that
// no reference and no party is ever worked on twice at a time. It may be used concurrently.
type Lane struct {
	scope  ledger.Scope
	api    API
	policy Policy

	parties *parties
	refs    *references

	limiter *rate.Limiter
	setup   *setupCheck

	mu    sync.Mutex
	gate  *gate
	users int // files being delivered
}

// NewLane makes the lane of one merchant account.
func NewLane(scope ledger.Scope, api API, p Policy) *Lane {
	return &Lane{scope: scope, api: api, policy: p, parties: newParties(), refs: newReferences(),
		limiter: newLimiter(p), setup: newSetupCheck()}
}

// Scope is what bill references are unique in on this lane.
func (l *Lane) Scope() ledger.Scope { return l.scope }

// Width is how many requests may be in flight on the lane now: the policy's Concurrency, or fewer after 429s and outages.
func (l *Lane) Width() int {
	l.mu.Lock()
	g := l.gate
	if l.users == 0 {
		g = nil // the next file begins with a new one
	}
	l.mu.Unlock()
	if g == nil {
		return l.policy.Concurrency
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}

// join opens the lane for one more file. A lane on which nothing is under way begins with an open gate.
func (l *Lane) join() *gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 {
		l.gate = newGate(l.policy, l.limiter)
	}
	l.users++
	l.setup.feeding(1)
	return l.gate
}

func (l *Lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
}
