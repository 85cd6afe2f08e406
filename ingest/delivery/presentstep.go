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
	case client.KeyReused, client.Taken:
		return linkFailed
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
