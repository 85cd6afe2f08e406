package delivery

import (
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// linkStep is what is done next about the payment request of a bill.
type linkStep uint8

const (
	linkDone       linkStep = iota // nothing: it was made, or failed for good
	linkBegin                      // send it for the first time, or as if for the first time
	linkResend                     // send the same bytes under the same key
	linkExpired                    // nothing: its key is too old to be sent again
	linkMade                       // the answer has the link
	linkFailed                     // the key is used up, and there is no link
	linkTurnedAway                 // the API did not take the request, and would not now
	linkWait                       // send it again: nothing came of it yet
	linkAgain                      // likewise, as often as attempts are left
	linkStop                       // the run has to end
)

// firstLinkStep decides how a payment request goes on, from what the ledger holds of it. same:
// its bytes are what they were, and its key is young enough to be sent. Nothing was made of a
// LinkNone, and its key is not used up, so its age does not matter.
func firstLinkStep(state ledger.LinkState, same bool) linkStep {
	switch state {
	case ledger.LinkNone:
		return linkBegin
	case ledger.LinkAsked:
		if same {
			return linkResend
		}
		return linkExpired
	}
	return linkDone
}

// afterLinkAnswer decides what follows an answer. No look-up can tell whether a request was
// made, so a refusal under the bill's only key is the end of it.
func afterLinkAnswer(a client.Answer) linkStep {
	if a.Replayed && failure(a.Kind) {
		return linkFailed
	}
	switch a.Kind {
	case client.Created:
		return linkMade
	case client.Refused:
		if a.Status == 404 { // there is no such address, or the merchant may not use it yet
			return linkTurnedAway
		}
		return linkFailed
	case client.KeyReused:
		return linkFailed
	case client.Taken:
		// Nothing of a payment request is unique. So a 409 means that its key is in flight,
		// however it is put: the link may be there. If it is a refusal, the next answer is a
		// replay.
		if a.Status != 409 {
			return linkFailed
		}
	case client.KeyRefused:
		if forbidden(a) {
			return linkTurnedAway
		}
		return linkStop
	case client.Mismatched, client.Redirected, client.Untrusted, client.ProxyRefused:
		return linkStop
	case client.Throttled, client.NotSent:
		return linkWait
	}
	return linkAgain // Blocked, InFlight, ServerFault, Lost, Unreadable, and what proves nothing
}

// inDoubt reports whether the request of this answer may have been executed, or may yet be.
func inDoubt(a client.Answer) bool {
	switch a.Kind {
	case client.Refused, client.KeyRefused, client.Blocked, client.Throttled, client.NotSent, client.Untrusted, client.ProxyRefused:
		return false
	}
	return true
}

// linkBody is the body of the payment request of a row's bill.
func linkBody(o *ledger.Outcome, expires time.Time) []byte {
	return client.EncodePaymentRequest(client.PaymentRequestBody{
		Amount: o.Amount, Currency: o.Currency, ExternalReference: o.Reference, ExpiresAt: expires,
		Metadata: map[string]string{"bill": o.BillID},
	})
}

// asking is the payment request of one row on its way. One goroutine works on it at a time.
type asking struct {
	outcome   *ledger.Outcome
	link      ledger.Link
	body      []byte
	do        linkStep
	begun     time.Time // when this run first committed the key; zero: an earlier one did
	doubt     bool      // a send may have made the request
	used      bool      // the API may have seen the key
	again     bool      // it was sent before this run
	sends     int       // of this run
	throttled int       // answers 429
	answered  client.Answer
	stopped   bool // the run ends before its answer
}

// answer takes an answer over.
func (a *asking) answer(answer client.Answer) {
	a.answered, a.link.Answer = answer, answer.Label()
	switch answer.Kind {
	case client.NotSent, client.Untrusted, client.ProxyRefused:
		return
	case client.Throttled:
		a.throttled++
	}
	a.sends++
}

// count adds n sends of the row to e: 1 before the first of this run, and after the last how
// many more there were, or -1 if there was none. All are retries but the first of the bill's
// payment request.
func (a *asking) count(e *ledger.Entry, n int) {
	e.LinkPosts += n
	if a.again || a.sends > 1 {
		e.LinkRetries += n
	}
}

// asked returns the record of a request that is about to be sent.
func (a *asking) asked(c *clock) ledger.Link {
	link := a.link
	link.State = ledger.LinkAsked
	if !a.begun.IsZero() {
		link.KeyFirstUsed = c.firstUse(a.begun)
	}
	return link
}

// settled returns the record of a request after its last answer in this run.
func (a *asking) settled(c *clock) ledger.Link {
	if !a.begun.IsZero() {
		a.link.KeyFirstUsed = c.firstUse(a.begun) // the API may have told its time meanwhile
	}
	switch {
	case a.link.State == ledger.LinkMade, a.link.State == ledger.LinkFailed:
	case a.doubt:
		a.link.State = ledger.LinkAsked
	default:
		a.link.State = ledger.LinkNone
		if !a.used {
			a.link.KeyFirstUsed = time.Time{}
		}
	}
	return a.link
}
