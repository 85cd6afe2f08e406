package delivery

import (
	"context"
	"fmt"

	"billdrop/client"
)

// documented reports whether a refusal is a problem document, as the API documents all of its
// errors. A server at a wrong address usually answers otherwise.
func documented(a client.Answer) bool { return a.Problem.Type != "" || a.Problem.Detail != "" }

// wrongKeyer is an API that can be asked with a key that is nobody's.
type wrongKeyer interface {
	GetBillWithWrongKey(ctx context.Context, reference string) client.Answer
}

// Probe asks the API, past the gate, for a bill with a reference that no bill has. It returns nil
// if the API answers 404 in its documented form, and something else to a wrong key: then the
// address is right and the key is known. Errors are a *Stop.
func (l *Lane) Probe(ctx context.Context, reference string) error {
	a := l.api.GetBill(ctx, reference)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch a.Kind {
	case client.Absent:
		if documented(a) {
			return l.probeKey(ctx, reference)
		}
		return &Stop{Setup: true, Reason: "what answers there is not the Billing API: its 404 is no problem document", Hint: "correct api.base_url"}
	case client.KeyRefused, client.Redirected, client.Untrusted, client.ProxyRefused, client.Mismatched:
		return stopReason(a)
	case client.Throttled:
		return &Stop{Reason: "the API answers 429, too many requests", Hint: "wait a while, and lower api.rate_limit if it stays"}
	case client.NotSent, client.Lost, client.Unreadable:
		return &Stop{Reason: "no answer that could be used (" + a.Reason() + ")", Hint: "check api.base_url, the network and whether the API is up"}
	case client.Blocked:
		return &Stop{Setup: true, Reason: "a gateway in front of the API refuses the request (" + a.Reason() + ")", Hint: "ask those who run it to let this machine's requests through"}
	case client.ServerFault:
		if a.Status < 500 {
			return &Stop{Setup: true, Reason: fmt.Sprintf("what answers there is not the Billing API: %s, a page for people", a.Reason()), Hint: "correct api.base_url"}
		}
		return &Stop{Reason: "the API is not well (" + a.Reason() + ")", Hint: "wait, or ask Moment"}
	}
	return &Stop{Setup: true, Reason: "the API answered " + a.Label() + " to a look-up of a bill that nobody has", Hint: "check api.base_url"}
}

// probeKey checks that what answers looks at the key. The API's server answers 404 to any path that
// it does not know, before it looks at a key.
func (l *Lane) probeKey(ctx context.Context, reference string) error {
	api, ok := l.api.(wrongKeyer)
	if !ok {
		return nil
	}
	if a := api.GetBillWithWrongKey(ctx, reference); a.Kind == client.Absent {
		return &Stop{Setup: true, Reason: "what answers there does not look at the key: a wrong one gets the same answer", Hint: "correct the path in api.base_url"}
	}
	return nil
}
