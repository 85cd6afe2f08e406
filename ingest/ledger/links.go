package ledger

import "time"

// LinkState is what the ledger knows of the payment request of a bill.
type LinkState uint8

const (
	// LinkAsked: the API was asked, or is about to be, and whether it made a request is not
	// known. Set before a request leaves. After a crash the same bytes are sent again under
	// the same key, as long as the key is young enough.
	LinkAsked LinkState = iota
	// LinkMade: the request exists. Final.
	LinkMade
	// LinkNone: all that was sent was turned away before the API took it, so that nothing was
	// made and the key is not used up. It may be asked again.
	LinkNone
	// LinkFailed: the API has refused it, or keeps a failure under the key. Final, because a
	// bill has one key, and no look-up would show a second request.
	LinkFailed
)

// Link is the payment request of a bill. A bill has at most one, under one key with one body.
type Link struct {
	Reference    string // of the bill
	BillID       string
	State        LinkState
	Key          string    // idempotency key, a UUID
	KeyFirstUsed time.Time // never later than its first use; zero: it was never used
	ExpiresAt    time.Time // as the body says it
	Body         Digest    // of the request body
	Answer       string    // to the latest send, a few fixed words; "" = none recorded
	RequestID    string    // pr_…, of LinkMade
	URL          string    // where it can be paid, of LinkMade
}

// SumLink is the sum of all that is stored of a link.
func SumLink(s Scope, l *Link) int64 {
	return newSummer('l').text(s.Merchant, s.Mode, l.Reference, l.BillID).number(int64(l.State)).text(l.Key).
		time(l.KeyFirstUsed).time(l.ExpiresAt).text(string(l.Body[:]), l.Answer, l.RequestID, l.URL).sum()
}

// LinkRow is a Row of a ledger: the payment request of a bill.
type LinkRow struct {
	Scope Scope
	Link  Link
	Sum   int64
}

func (LinkRow) count(c *Counts) *int64 { return &c.Links }

func (r LinkRow) digested(s summer) (summer, error) {
	return s.number(SumLink(r.Scope, &r.Link), r.Sum), nil
}
