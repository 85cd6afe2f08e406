// Package delivery turns every row of a bill file into at most one bill at the Billing API,
// and records what became of each row.
//
// # Files
//
// In the order of a row's life:
//
//   - lane.go: what the feeds of a merchant share. fanout.go: the delivery of one file.
//   - references.go: one row at a time per reference. parties.go: one row creates a party.
//   - row.go: the steps of one row. decide.go: the tables that choose the next step.
//   - route.go: how a new body names its parties, with its table. body.go: bytes and key.
//   - clock.go: how old a key is. gate.go: when a request may leave. pace.go: the rate after a
//     429. outage.go: pauses, outages, and which failures use up no attempt.
//   - setup.go: whose fault a refusal is: the set-up's, the key's (a 403) or the row's; Probe.
//   - lookup.go: questions to the API. compare.go: the row and the bill that exists.
//   - outcome.go: the end of a row. redact.go: no personal data in what the API says.
//   - stop.go: why a run ends.
//
// colleagues.go and places.go are for several workers, present.go and presentstep.go for
// payment requests. inquiry.go and forecast.go only ask: for verify and payments, and for plan.
//
// # Lane
//
// A [Lane] is one merchant account in one mode, at one API. Its feeds share the lane, because it
// holds what must not happen twice at a time: the bill references in flight, the parties in
// flight, the rate limit, the doubt about the set-up, and the gate.
//
// # Fan-out
//
// [Lane.Deliver] reads rows in chunks and looks each chunk up in the ledger together. A
// bounded number of rows is active, each on a goroutine of its own. A row that waits (for its
// party, for another row with its reference, for a look-up, or before a re-send) gives up its
// place to another row. So a slow party holds up only its own rows.
//
// # Parties
//
// For a customer or account that is not known yet, the first row in file order leads: it
// nests the new object in its body. The other rows of that party wait and then go in parallel
// with the id that the leader's answer brought. A row takes all the leads it needs, or none,
// so no two rows wait for each other. When a leader fails, the next row leads. A row that
// names an account and a customer is sent only if that customer owns the account, as far as
// either side is known.
//
// # Gate
//
// Every request passes the [gate] in order of arrival, but for two kinds of look-up: the last
// one of a run that stops (lastLook), and those of [Lane.Probe]. The gate bounds the requests
// in flight and their rate, pauses all of them after a 429, and closes for good when the run
// must stop. The rate limit comes last, so that no request slips through a pause that began
// while it waited.
//
// A 401 stops the run at once. So does a 403, unless an answer to some row shows that the API
// accepts the key: then a gateway refuses that one row. Until this is known, the gate holds all
// requests back; see awaitProof.
//
// # Outage
//
// An outage is declared when five different rows fail for the first time with no good answer
// in between, or when three connections cannot be made. If a gateway refuses the rows (403 as
// a page), it takes fifty. A look-up that has used up its attempts may declare one earlier; see
// gate.suspect. A row that keeps failing while the API answers other rows is not a sign of an
// outage. During an outage one request at a time probes the API, and failures use up no
// attempts. After Policy.GiveUpAfter the run stops.
//
// # Set-up
//
// Until some answer shows that the set-up is right, refusals that may be its fault are held
// back: all but a 402, a 422 and a replay. Five equal refusals, with no other answer, mean that
// the set-up is wrong. Then no row is blamed. The set-up is right once the API creates a bill,
// calls a reference taken, a request in flight or a key used before, answers 402 or 422, or
// refuses another row for a different reason. A 5xx, a 429 or a lost answer shows nothing. If
// fewer than five rows could show it, the rows are blamed, unless one of them got a 404 and its
// body named nothing by id.
//
// # Several workers
//
// On a ledger that several workers share, a row whose bill or whose new party another worker has
// in hand waits, reads again what the ledger holds, and begins anew; see colleagues.go. The rate
// limit and the pauses are those of all workers; see places.go.
//
// # One row
//
// delivery.run takes a row through its steps. What to do next is decided by pure functions,
// each a table that its test repeats line by line: firstStep (what the ledger holds),
// chooseRoute (how a new body names its parties), afterAnswer, afterLookUp, and afterParties.
// What an answer is, package client has decided before. If the clocks cannot be trusted, checkClock
// has the row looked up before its key is sent again.
//
// # Payment requests
//
// Once all rows of a file have their outcome, [Lane.Present] makes a payment request for each
// bill that the file created: recorded, sent, recorded, under one key and with one body. These
// requests pass a gate of their own, so that their outage holds up no bill.
package delivery

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// API is the part of the Billing API that delivery uses. *client.Client implements it.
type API interface {
	CreateBill(ctx context.Context, key, reference string, body []byte) client.Answer
	CreatePaymentRequest(ctx context.Context, key, reference string, body []byte) client.Answer
	GetBill(ctx context.Context, reference string) client.Answer
	GetCustomer(ctx context.Context, reference string) client.Answer
	GetAccount(ctx context.Context, reference string) client.Answer
}

// Policy sets how patient and how fast a lane is. Every field but Now must be set;
// config.example.yaml explains them.
type Policy struct {
	Concurrency  int // requests in flight at most
	RateLimit    int // requests per second at most; 0 = no limit of our own
	MaxAttempts  int // sends of one row in one run
	BackoffMin   time.Duration
	BackoffMax   time.Duration
	LookupSettle time.Duration // between two 404s that together prove absence
	Timeout      time.Duration // of one request, the answer included
	GiveUpAfter  time.Duration // how long an outage may last
	// Now is this machine's clock; nil = time.Now. Times that are recorded, and the ages of keys,
	// are by it.
	Now func() time.Time
}

// Lane is one merchant account in one mode at the Billing API, with all that its senders share.
// All its feeds share one lane, so no reference and no party is worked on twice at a time. It
// may be used concurrently.
type Lane struct {
	// Warn, if set before the first delivery, is called when the lane has to wait for the API,
	// once for each such time, with the reason. It must not block for long.
	Warn func(reason string)

	scope  ledger.Scope
	api    API
	policy Policy

	parties *parties
	refs    *references
	bills   billIDs

	limiter *rate.Limiter
	pace    *pace
	setup   *setupCheck
	clock   *clock

	mu    sync.Mutex
	gate  *gate
	users int // files being delivered
	// links is the gate of payment requests, and presenting how many files use it.
	links      *gate
	presenting int
}

// NewLane returns the lane of one merchant account.
func NewLane(scope ledger.Scope, api API, p Policy) *Lane {
	return &Lane{scope: scope, api: api, policy: p, parties: newParties(), refs: newReferences(),
		limiter: newLimiter(p), pace: new(pace), setup: newSetupCheck(), clock: newClock(p.Now)}
}

// Scope returns the scope in which this lane's bill references are unique.
func (l *Lane) Scope() ledger.Scope { return l.scope }

// Now returns the time by this machine's clock.
func (l *Lane) Now() time.Time { return l.clock.now() }

// Width returns how many requests may be in flight now: Policy.Concurrency, or fewer after
// 429s and outages.
func (l *Lane) Width() int {
	l.mu.Lock()
	g := l.gate
	if l.users == 0 {
		g = nil // the next file begins with a new gate
	}
	l.mu.Unlock()
	if g == nil {
		return l.policy.Concurrency
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}

// join adds a file to the lane. The first file of an idle lane gets a new, open gate. led is nil
// for a reader, which other workers do not know of.
func (l *Lane) join(led ledger.Ledger) *gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users == 0 {
		l.gate = newGate(l.policy, l.limiter)
		l.parties.newRun()
		l.gate.pace = l.pace
		if l.Warn != nil {
			l.gate.warn = l.Warn
		}
	}
	l.gate.share(led, l.scope)
	l.users++
	l.setup.feeding(1)
	return l.gate
}

// leave ends what join began.
func (l *Lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
}
