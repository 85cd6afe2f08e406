package delivery

import (
	"context"
	"fmt"

	"billdrop/client"
)

// documented reports whether a refusal is a problem document, as the API documents all of its
// errors. A server at a wrong address usually answers otherwise.
func documented(a client.Answer) bool { return a.Problem.Type != "" || a.Problem.Detail != "" }

// Probe asks the API once, past the gate, for a bill with a reference that no bill has. It
// returns nil if the API answers 404 in its documented form: then the address is right and the
// key is known. Errors are a *Stop.
func (l *Lane) Probe(ctx context.Context, reference string) error {
	a := l.api.GetBill(ctx, reference)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch a.Kind {
	case client.Absent:
		if documented(a) {
			return nil
		}
		return &Stop{Setup: true, Reason: "what answers there is not the Billing API: its 404 is no problem document", Hint: "correct api.base_url"}
	case client.KeyRefused, client.Redirected, client.Untrusted, client.Mismatched:
		return stopReason(a)
	case client.Throttled:
		return &Stop{Reason: "the API answers 429, too many requests", Hint: "wait a while, and lower api.rate_limit if it stays"}
	case client.NotSent, client.Lost, client.Unreadable:
		return &Stop{Reason: fmt.Sprintf("no answer that could be used (%v)", a.Err), Hint: "check api.base_url, the network and whether the API is up"}
	case client.ServerFault:
		if a.Status < 500 {
			return &Stop{Setup: true, Reason: fmt.Sprintf("what answers there is not the Billing API: it answered %d with a page for people", a.Status), Hint: "correct api.base_url"}
		}
		return &Stop{Reason: fmt.Sprintf("the API is not well (%d %s)", a.Status, client.StatusText(a.Status)), Hint: "wait, or ask Moment"}
	}
	return &Stop{Setup: true, Reason: "the API answered " + a.Label() + " to a look-up of a bill that nobody has", Hint: "check api.base_url"}
}
