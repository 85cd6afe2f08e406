package delivery

import (
	"testing"
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

func TestFirstLinkStep(t *testing.T) {
	for _, c := range []struct {
		state ledger.LinkState
		same  bool
		want  linkStep
	}{
		{ledger.LinkNone, false, linkBegin},
		{ledger.LinkNone, true, linkBegin},
		{ledger.LinkAsked, true, linkResend},
		{ledger.LinkAsked, false, linkExpired},
		{ledger.LinkMade, true, linkDone},
		{ledger.LinkMade, false, linkDone},
		{ledger.LinkFailed, true, linkDone},
		{ledger.LinkFailed, false, linkDone},
	} {
		if got := firstLinkStep(c.state, c.same); got != c.want {
			t.Errorf("firstLinkStep(%d, %t) = %d, want %d", c.state, c.same, got, c.want)
		}
	}
}

func TestAfterLinkAnswer(t *testing.T) {
	for _, c := range []struct {
		answer client.Answer
		want   linkStep
		doubt  bool
	}{
		{client.Answer{Kind: client.Created, Status: 201}, linkMade, true},
		{client.Answer{Kind: client.Created, Status: 201, Replayed: true}, linkMade, true},
		{client.Answer{Kind: client.ServerFault, Status: 500}, linkAgain, true},
		{client.Answer{Kind: client.ServerFault, Status: 500, Replayed: true}, linkFailed, true},
		{client.Answer{Kind: client.Refused, Status: 422}, linkFailed, false},
		{client.Answer{Kind: client.Refused, Status: 400}, linkFailed, false},
		{client.Answer{Kind: client.Refused, Status: 404}, linkTurnedAway, false},
		{client.Answer{Kind: client.Refused, Status: 404, Replayed: true}, linkFailed, false},
		{client.Answer{Kind: client.KeyReused, Status: 422}, linkFailed, true},
		{client.Answer{Kind: client.Taken, Status: 409}, linkAgain, true},
		{client.Answer{Kind: client.Taken, Status: 409, Replayed: true}, linkFailed, true},
		{client.Answer{Kind: client.Taken, Status: 422}, linkFailed, true},
		{client.Answer{Kind: client.KeyRefused, Status: 401}, linkStop, false},
		{client.Answer{Kind: client.KeyRefused, Status: 403}, linkTurnedAway, false},
		{client.Answer{Kind: client.Blocked, Status: 403}, linkAgain, false},
		{client.Answer{Kind: client.InFlight, Status: 409}, linkAgain, true},
		{client.Answer{Kind: client.Throttled, Status: 429}, linkWait, false},
		{client.Answer{Kind: client.NotSent}, linkWait, false},
		{client.Answer{Kind: client.Lost}, linkAgain, true},
		{client.Answer{Kind: client.Unreadable, Status: 201}, linkAgain, true},
		{client.Answer{Kind: client.Unknown}, linkAgain, true},
		{client.Answer{Kind: client.Mismatched, Status: 201}, linkStop, true},
		{client.Answer{Kind: client.Redirected, Status: 307}, linkStop, true},
		{client.Answer{Kind: client.Untrusted}, linkStop, false},
		{client.Answer{Kind: client.ProxyRefused}, linkStop, false},
	} {
		if got, doubt := afterLinkAnswer(c.answer), inDoubt(c.answer); got != c.want || doubt != c.doubt {
			t.Errorf("after %+v: %d, in doubt %t; want %d, %t", c.answer, got, doubt, c.want, c.doubt)
		}
	}
}

// The key of a link never changes: the API knows it.
func TestLinkKey(t *testing.T) {
	acme := ledger.Scope{Merchant: "acme", Mode: "test"}
	const want = "cc93ab11-5f5e-8063-af2e-8af8c33ed45f"
	if got := linkKey(acme, "INV-1", "bill_1"); got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	for _, other := range []string{
		linkKey(acme, "INV-1", "bill_2"), linkKey(acme, "INV-2", "bill_1"), linkKey(ledger.Scope{Merchant: "acme", Mode: "live"}, "INV-1", "bill_1"),
		idempotencyKey(acme, "INV-1", [32]byte{}, 1),
	} {
		if other == want {
			t.Error("two bills have one key")
		}
	}
}

func TestLinkBody(t *testing.T) {
	o := &ledger.Outcome{Reference: "INV-1", BillID: "bill_1", Currency: "ZAR", Amount: 2000}
	const want = `{"amount":2000,"currency":"ZAR","external_reference":"INV-1","expires_at":"2026-12-31T21:59:59Z","metadata":{"bill":"bill_1"}}`
	if got := string(linkBody(o, time.Date(2026, 12, 31, 21, 59, 59, 0, time.UTC))); got != want {
		t.Errorf("body %s\nwant %s", got, want)
	}
}

// A link expires after a time, or at the end of the due date in the feed's zone, if that is
// not over.
func TestLinkExpiry(t *testing.T) {
	zone := time.FixedZone("SAST", 2*60*60)
	now := time.Date(2026, 11, 30, 12, 0, 0, 5, time.UTC)
	later := time.Date(2026, 12, 30, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		due     string
		dueDate bool
		want    time.Time
	}{
		{"2026-12-31", false, later},
		{"2026-12-31", true, time.Date(2026, 12, 31, 21, 59, 59, 0, time.UTC)},
		{"2026-11-30", true, time.Date(2026, 11, 30, 21, 59, 59, 0, time.UTC)},
		{"2026-11-29", true, later},
		{"", true, later},
	} {
		p := &presenter{how: Presenting{Expires: 720 * time.Hour, DueDate: c.dueDate, Zone: zone}}
		var b *ledger.Bill
		if c.dueDate {
			b = &ledger.Bill{Observed: ledger.Observed{DueDate: c.due}}
		}
		if got := p.expiry(b, now); !got.Equal(c.want) {
			t.Errorf("due %q, %t: %v, want %v", c.due, c.dueDate, got, c.want)
		}
	}
}
