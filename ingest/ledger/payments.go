package ledger

import (
	"context"
	"time"
)

// MatchedBy is how a payment was matched with a bill. They stand in reports, so they never
// change. The zero value means that it was not looked at yet.
type MatchedBy string

const (
	ByBill           MatchedBy = "bill_id"         // the event names the bill
	ByAccount        MatchedBy = "account_id"      // the event names the bill's account
	ByCustomer       MatchedBy = "customer_id"     // the event names the customer of a bill without an account
	ByPaymentRequest MatchedBy = "payment_request" // the link of the bill was paid
	BySeveral        MatchedBy = "several"         // more than one bill may have been paid
	ByNone           MatchedBy = "none"            // no bill of this ledger
)

// Payment is an event that reports a payment: as it was received, and, once it is in a
// report, as it stands there. It has ids, amounts, times and the bill's reference, and
// nothing else of the event.
type Payment struct {
	Seq          int64 // order of receipt within the store; set by Receive
	ReceivedAt   time.Time
	EventID      string
	Type         string
	ObligationID string
	PaymentID    string
	Currency     string
	Amount       int64 // minor units
	// The bill's, account's and customer's id. Of a payment that is not settled, and of one
	// without a bill, they are those that the event names; else those of the bill.
	BillID, AccountID, CustomerID string

	// Set by Settle.
	MatchedBy MatchedBy
	Reference string // of the bill; "" = none
	State     BillMoney
	Report    string // name of the report; "" = in none yet
}

// BillMoney is what the API said of a bill when the payment was settled. Amounts are in minor
// units; nil = not told.
type BillMoney struct {
	Status               string
	Due, Paid, Remaining *int64
}

// PaymentReport is a report of payments.
type PaymentReport struct {
	Name   string // of its file
	UpTo   int64  // Seq of the last payment that may be in it
	SHA256 string // hex; "" = not composed yet
	Rows   int
	// Begun is when its name was chosen.
	Begun     time.Time
	Published time.Time // zero = not published yet
}

// BillAccount is how much of what a bill was paid is accounted for by payments.
type BillAccount struct {
	Reference string
	Accounted int64 // minor units
	Closed    bool  // it was seen paid, with all of it accounted for, or voided
	PaidAt    time.Time
}

// PartyBill is a bill that may be meant by a payment that names an account, or a customer of a
// bill without an account.
type PartyBill struct {
	PartyID   string // bacc_… or bcus_…
	Reference string
}

// PaymentSums are sums over the payments of a merchant.
type PaymentSums struct {
	By         map[MatchedBy]int // of those that were settled
	Amounts    map[string]int64  // by currency, minor units, of all that were received
	Unreported int               // in no report that was published
	// Oldest is when the oldest unreported one was received; zero = none.
	Oldest time.Time
}

// Add adds n payments that are alike, the oldest of which was received then.
func (s *PaymentSums) Add(by MatchedBy, currency string, published bool, n int, amount int64, oldest time.Time) {
	s.Amounts[currency] += amount
	if by != "" {
		s.By[by] += n
	}
	if published {
		return
	}
	s.Unreported += n
	if s.Oldest.IsZero() || oldest.Before(s.Oldest) {
		s.Oldest = oldest
	}
}

// PaymentQuery selects payments; zero fields select all.
type PaymentQuery struct {
	Reference string
	Since     time.Time // received then or later
	Limit     int
}

// PaidSum is what was received in a quarter of an hour in one currency.
type PaidSum struct {
	At       time.Time // when the quarter of an hour begins
	Currency string
	Payments int
	Amount   int64 // minor units
}

// Payments is the durable memory of what was paid. It stands beside the ledger, and unlike
// the ledger it may be open in several processes at once: some receive, and one at a time reports.
// Every method may be called concurrently. What returns nil survives kill -9 and power loss.
// An error may pass; nothing was recorded then, or the same call may be repeated.
type Payments interface {
	// Receive records a payment unless one with its webhook id or event id is known, and
	// then reports that it was repeated. Many callers share one sync.
	Receive(ctx context.Context, s Scope, webhookID string, p Payment) (repeated bool, err error)

	// Unsettled returns up to limit payments that are in no report, with after < Seq <= upTo, in
	// order of receipt.
	Unsettled(ctx context.Context, s Scope, after, upTo int64, limit int) ([]Payment, error)
	// Last returns the Seq of the latest payment; 0 if there is none.
	Last(ctx context.Context, s Scope) (int64, error)

	// BeginReport records that a report is begun. ErrExists when its name is taken, or when
	// another one is begun and not published.
	BeginReport(ctx context.Context, s Scope, r PaymentReport) error
	// Settle records payments as they stand in the report that is begun, and the accounts of
	// bills that changed by it, all or nothing. ErrExists when one of them is in a report already,
	// ErrNotFound when the report is not begun, or is composed.
	Settle(ctx context.Context, s Scope, report string, settled []Payment, accounts []BillAccount) error
	// ComposedReport records the digest of the report that is begun: from now on its bytes are
	// fixed. ErrExists when it does not have this number of payments, or another digest is
	// recorded.
	ComposedReport(ctx context.Context, s Scope, name, sha256 string, rows int) error
	// PublishedReport records that it is in place.
	PublishedReport(ctx context.Context, s Scope, name string, at time.Time) error
	// DropReport forgets a report that was begun and has no payment.
	DropReport(ctx context.Context, s Scope, name string) error
	// LastReport returns the report that was begun last; nil if there is none.
	LastReport(ctx context.Context, s Scope) (*PaymentReport, error)
	// Reported returns up to limit payments of a report, with after < Seq, in order of receipt.
	Reported(ctx context.Context, s Scope, name string, after int64, limit int) ([]Payment, error)

	// Accounts returns what is known of bills, by reference; unknown ones are missing.
	Accounts(ctx context.Context, s Scope, references []string) (map[string]BillAccount, error)
	// AddPartyBills records which bills parties have. A mark remembers how far a file was read.
	AddPartyBills(ctx context.Context, s Scope, bills []PartyBill, file, mark string) error
	// PartyBills returns up to limit references of a party's bills that are not Closed, and
	// the Closed one that was paid last.
	PartyBills(ctx context.Context, s Scope, party string, limit int) (open []string, last string, err error)
	// Mark returns what AddPartyBills remembered of a file; "" = nothing.
	Mark(ctx context.Context, s Scope, file string) (string, error)

	// List returns the payments that match q, newest first.
	List(ctx context.Context, s Scope, q PaymentQuery) ([]Payment, error)
	// Sums adds the payments up.
	Sums(ctx context.Context, s Scope) (PaymentSums, error)

	// PaidSince adds up the payments with after < Seq that were received at since or later, by
	// quarters of an hour: every time zone is a whole number of them. It returns the latest
	// Seq that there is, so that the next call need only add up what is newer.
	PaidSince(ctx context.Context, s Scope, after int64, since time.Time) (sums []PaidSum, last int64, err error)

	// Close waits for what is under way, and frees the engine.
	Close() error
}
