// Package ledger is billdrop's memory: which files there are and how far each has come,
// what was sent for each bill under which idempotency key, what came of it, and which
// customers and accounts are known. It also remembers the payment requests of bills
// (links.go), and beside it stands the memory of payments received (payments.go).
//
// It holds states, codes, the interfaces and the sentinels, and copies one engine's ledger to
// another's (copy.go, paymentcopy.go). shared.go is for several workers. The engines (sqlite and
// postgres) are packages of their own and pass one conformance suite, ledgertest. A ledger
// holds references, digests, ids, amounts and codes, never a name, mail address, phone
// number, metadata value or API key. Customer and account references are kept as digests
// only, because billers use identity numbers as references.
package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

var (
	// ErrNotFound: there is no such file, bill or customer in the ledger.
	ErrNotFound = errors.New("not in the ledger")
	// ErrExists: a file with this id, or with this stem in the same results directory, is
	// there already.
	ErrExists = errors.New("already in the ledger")
	// ErrUnfinished: the file is neither Done nor Dropped.
	ErrUnfinished = errors.New("not finished yet")
	// ErrLocked: another billdrop process holds this ledger.
	ErrLocked = errors.New("another billdrop holds the lock of this ledger")
	// ErrLinked: the ledger file has several names (hard links), under which it is not the same
	// ledger after a crash.
	ErrLinked = errors.New("the ledger file has hard links")
	// ErrUnusable: the ledger cannot be read, or can no longer promise durability (disk
	// full, I/O error, not a ledger). Once a write has failed in this way, every later
	// write fails too: the program must stop.
	ErrUnusable = errors.New("ledger unusable")
)

// Error is a failure of a ledger that a person can mend.
type Error struct {
	Err  error  // what is wrong
	Hint string // what to do about it
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Advice returns what to do about the error.
func (e *Error) Advice() string { return e.Hint }

// Scope is what a bill reference is unique in: one merchant account at Moment, in test or
// in live mode.
type Scope struct {
	Merchant string
	Mode     string // "test" or "live"
}

// Digest is a SHA-256, cut to 128 bits: it identifies, it does not authenticate.
type Digest [16]byte

// DigestOf is the Digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(sum[:16])
}

// BillState is what the ledger knows of one bill reference. Its zero value claims
// nothing.
type BillState uint8

const (
	// Pending: what the API holds is not known. Set by Begin before a send, and left by
	// the Record of an answer or a look-up. A crash leaves the bill here: the next run
	// sends the same bytes under the same key, or looks the bill up.
	Pending BillState = iota
	// Exists: a 201 or a look-up showed the bill; Observed is what it holds. Set by
	// Record.
	Exists
	// Gone: a conclusive refusal or a settled look-up showed that there is no such bill.
	// Set by Record.
	Gone
)

// Form is how a request body names the party that pays. A generation keeps its form for
// life.
type Form uint8

const (
	FormNone               Form = iota
	FormAccount                 // account: "bacc_…"
	FormCustomer                // customer: "bcus_…"
	FormNewAccount              // account: {…, customer: "bcus_…"}
	FormNewCustomer             // customer: {…}
	FormNewAccountCustomer      // account: {…, customer: {…}}
)

// Nested reports whether a body of this form may create a customer or an account.
func (f Form) Nested() bool { return f.NestsAccount() || f.NestsCustomer() }

// NestsAccount reports whether a body of this form may create an account.
func (f Form) NestsAccount() bool { return f == FormNewAccount || f == FormNewAccountCustomer }

// NestsCustomer reports whether a body of this form may create a customer.
func (f Form) NestsCustomer() bool { return f == FormNewCustomer || f == FormNewAccountCustomer }

// Observed is a bill as the API last showed it: what later rows with its reference are
// compared with.
type Observed struct {
	BillID     string
	CustomerID string
	AccountID  string // "" for a bill that was raised directly against a customer
	Currency   string
	Amount     int64 // minor units
	BillDate   string
	DueDate    string
	Voided     bool
}

// Send is the latest send for a bill. It is committed before the request leaves. From it
// the same bytes can be sent again under the same key.
type Send struct {
	File         string // id of the file for which it was sent
	Row          int    // ordinal of the row in that file
	Generation   int    // from 1; a generation has one body and one key
	Form         Form
	CustomerID   string    // the customer id that the body names, if any
	AccountID    string    // the account id that the body names, if any
	Content      Digest    // of the row's content
	Body         Digest    // of the request body
	Key          string    // idempotency key, a UUID
	KeyFirstUsed time.Time // when Key was first committed for sending: never later than its first use
	At           time.Time // when this send was committed
	Count        int       // sends for File so far, this one included
	Answer       string    // a few fixed words ("201", "409 taken", "timeout"); "" = no answer recorded
	// Unanswered: some send for File got no conclusive answer (none, an unreadable one,
	// or a 5xx), so a bill that is found later may come from that send.
	Unanswered bool
}

// Bill is all the ledger holds of one reference in a scope.
type Bill struct {
	Reference string
	State     BillState
	// Doubt: the server may still be working on a send without a conclusive answer, so
	// one 404 proves nothing. Set with the first such send; cleared when the bill is
	// observed or its absence settled.
	Doubt    bool
	Observed Observed // of Exists
	Send     Send     // zero when nothing was ever sent (a bill found by look-up)
	// Revision names the stored state that was read, in a Shared ledger; 0 = none. Begin and
	// Record set it.
	Revision int64
	// Held: another live worker has the bill in hand; only Bills of a Shared ledger sets it.
	Held bool
}

// InDoubt reports whether the server may still be working on a request for this bill: a
// send is pending without an answer, or an earlier one was never settled.
func (b *Bill) InDoubt() bool {
	return b.State == Pending && (b.Doubt || (b.Send.Count > 0 && b.Send.Answer == ""))
}

// PartyKind is customer or account; their references are separate name spaces.
type PartyKind uint8

const (
	Customer PartyKind = iota + 1
	Account
)

// PartyRef is a biller's own reference of a customer or account.
type PartyRef struct {
	Kind      PartyKind
	Reference string
}

// Digest identifies a party of s without giving its reference away. It is the same in every
// engine, because a ledger may be copied. The parts are separated by a byte that none of them
// holds.
func (r PartyRef) Digest(s Scope) Digest {
	b := make([]byte, 0, 128)
	b = append(b, s.Merchant...)
	b = append(b, 0)
	b = append(b, s.Mode...)
	b = append(b, 0, byte(r.Kind))
	b = append(b, r.Reference...)
	return DigestOf(b)
}

// Party is a customer or account that the API is known to hold.
type Party struct {
	PartyRef
	ID string // bcus_… or bacc_…
	// CustomerID is the customer who owns an account; "" = not known, and of a customer.
	// A Record without it keeps what is known of the same account.
	CustomerID string
	// Since is when the party was first recorded with this ID. A later Record does not change it.
	Since time.Time
}

// Outcome is how one row of one file ended. It is recorded once; a retry replaces it.
type Outcome struct {
	Row        int
	Line       int
	Reference  string
	Status     Status
	Code       string // billfile's, or one of this package
	Detail     string // no personal data: see billfile.Problem.Detail
	BillID     string
	CustomerID string
	AccountID  string
	Currency   string
	Amount     int64 // minor units; 0 where it could not be read
	Attempts   int   // sends for this file, over all runs
	Key        string
	// Customers and Accounts that sends of this row created.
	Customers, Accounts int
	// PaymentLink and PaymentRequestID are those of the bill's Link, for a report alone: an
	// engine neither keeps nor returns them.
	PaymentLink, PaymentRequestID string
}

// LinkMissing reports whether the row's bill should have a payment request and has none that
// is known.
func (o *Outcome) LinkMissing() bool {
	return o.Status == Created && (o.Code == CodeLinkFailed || o.Code == CodeLinkUnknown)
}

// Entry is a set of facts that are recorded together or not at all. Empty parts change
// nothing.
type Entry struct {
	Scope   Scope
	Bill    *Bill
	Parties []Party
	File    string   // for Outcome and the counters
	Outcome *Outcome // of File
	// To be added to File's counters; less than 0 takes back what did not leave.
	Gets, Throttled, LinkPosts, LinkRetries int
}

// Counts reports whether e changes a counter of its file.
func (e *Entry) Counts() bool {
	return e.Gets != 0 || e.Throttled != 0 || e.LinkPosts != 0 || e.LinkRetries != 0
}

// Attempt is one send that a later one replaced, or the latest. `billdrop why` shows them, and
// package delivery decides by them whether a row of a rejected file was sent.
type Attempt struct {
	File       string
	At         time.Time
	Key        string
	Generation int
	Answer     string
}

// Attempt returns the attempt that s is.
func (s *Send) Attempt() Attempt {
	return Attempt{File: s.File, At: s.At, Key: s.Key, Generation: s.Generation, Answer: s.Answer}
}

// Sighting is one row of one file that named a reference.
type Sighting struct {
	File   string
	Name   string // of the file
	Line   int
	Status Status
	Code   string // why Status; see Outcome
	Detail string
}

// History is everything that the ledger knows of one reference.
type History struct {
	Bill      *Bill // nil when only rows that were not sent have named it
	Attempts  []Attempt
	Sightings []Sighting
}

// Totals are sums over a file's recorded outcomes, computed by the engine, not kept in
// step by hand.
type Totals struct {
	Rows     map[Status]int              `json:"rows"`
	Amounts  map[string]map[Status]int64 `json:"amounts"`  // currency → status → minor units
	Attempts int                         `json:"attempts"` // sends, over all rows
	Resends  int                         `json:"resends"`  // sends after a row's first
	// Customers and Accounts that this file created.
	Customers int `json:"customers"`
	Accounts  int `json:"accounts"`
}

// NewTotals returns the sums of no outcome.
func NewTotals() Totals {
	return Totals{Rows: map[Status]int{}, Amounts: map[string]map[Status]int64{}}
}

// Add adds n rows of one status and currency, and their amounts.
func (t *Totals) Add(s Status, currency string, n int, amount int64) {
	t.Rows[s] += n
	if t.Amounts[currency] == nil {
		t.Amounts[currency] = map[Status]int64{}
	}
	t.Amounts[currency][s] += amount
}

// Ledger is the durable memory of a billdrop. Every method may be called concurrently.
//
// Durability: when AddFile, SaveFile, Begin or Flush returns nil, what it wrote survives
// kill -9 and power loss. What Record wrote is durable once a later Begin or Flush has
// returned nil. Writes become durable in the order in which they were called, so a crash
// loses only a tail of the Records. Every method returns an error that wraps ErrUnusable
// when the engine fails.
type Ledger interface {
	// AddFile records a new file. ErrExists when its id is taken.
	AddFile(ctx context.Context, f *File) error
	// SaveFile replaces the record of a known file, except for the counters that Record
	// counts. ErrNotFound when there is none. ErrExists when another file with the
	// same Results has the same non-empty Stem.
	SaveFile(ctx context.Context, f *File) error
	// File returns one file. ErrNotFound.
	File(ctx context.Context, id string) (*File, error)
	// Files returns the files that match q, newest first (by Received, then ID
	// descending).
	Files(ctx context.Context, q Query) ([]*File, error)

	// Bills returns what is known of refs, by reference; unknown references are missing
	// from the map. It sees every Begin and Record that returned before the call, durable
	// or not.
	Bills(ctx context.Context, s Scope, refs []string) (map[string]*Bill, error)
	// Parties returns the known ones of refs; unknown ones are missing from the map. It
	// sees what Bills sees.
	Parties(ctx context.Context, s Scope, refs []PartyRef) (map[PartyRef]Party, error)
	// Outcomes returns up to limit recorded outcomes of a file with from <= Row, in row
	// order. It sees what Bills sees.
	Outcomes(ctx context.Context, file string, from, limit int) ([]Outcome, error)
	// Attention is Outcomes of only those rows that need attention.
	Attention(ctx context.Context, file string, from, limit int) ([]Outcome, error)
	// Totals sums up the outcomes of a file. It sees what Bills sees.
	Totals(ctx context.Context, file string) (Totals, error)
	// History returns everything that is known of one reference. ErrNotFound when nothing
	// is.
	History(ctx context.Context, s Scope, reference string) (*History, error)

	// Begin records b, whose Send is about to be sent, and returns once that is durable:
	// no POST without it. The Send that Begin or Record replaces is kept as an Attempt.
	// Many callers share one sync. leads are the parties that the body would create; only a
	// Shared ledger looks at them.
	Begin(ctx context.Context, s Scope, b *Bill, leads ...PartyRef) error
	// Record writes e soon, in order, without waiting for the disk; it blocks only while
	// too many writes are waiting. It returns the failure of any earlier write.
	Record(ctx context.Context, e Entry) error
	// Flush returns once everything that was recorded before it is durable.
	Flush(ctx context.Context) error

	// Links returns what is known of the payment requests of bills, by reference; unknown ones
	// are missing from the map.
	Links(ctx context.Context, s Scope, references []string) (map[string]Link, error)
	// SaveLinks replaces the records of payment requests, each of another reference, all or
	// nothing, and returns once that is durable: no request without it.
	SaveLinks(ctx context.Context, s Scope, links []Link) error

	// BaseURL returns the address of the API that the bills of s were sent to; "" before
	// SetBaseURL.
	BaseURL(ctx context.Context, s Scope) (string, error)
	// SetBaseURL records that address, and returns once that is durable.
	SetBaseURL(ctx context.Context, s Scope, url string) error

	// Prune removes a finished file: its record, its outcomes and the attempts that were
	// made for it. Bills, with their latest send, and parties stay, because they keep
	// bills unique. It returns, durable, how many outcomes are gone. ErrNotFound;
	// ErrUnfinished when the file is neither Done nor Dropped.
	Prune(ctx context.Context, id string) (rows int, err error)
	// Forget removes what ties a customer's reference to the API's ids: the customer, and
	// the accounts that are known to be the customer's, by themselves or by a bill. It
	// returns, durable, how many parties are gone. Bills stay. ErrNotFound when the
	// customer is not known.
	Forget(ctx context.Context, s Scope, customer string) (parties int, err error)

	// Close flushes, releases the lock and frees the engine.
	Close() error
}

// Query selects files; zero fields select all.
type Query struct {
	Feed           string
	Unfinished     bool   // neither Done nor Dropped
	ExcludeDropped bool   // not Dropped
	SHA256         string // hex
	Rejects        string // hex: the SHA-256 of the rejects that were published last
	StemPrefix     string // stems PREFIX and PREFIX-n of files whose Results match
	Results        string // with StemPrefix
	Limit          int
}
