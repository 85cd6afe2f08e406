package delivery

import (
	"context"
	"fmt"
	"sync"

	"billdrop/client"
)

// setupRefusals rows must be refused alike, before any other answer has come, for the set-up to
// be blamed instead of the rows.
const setupRefusals = 5

// setupCheck distinguishes a wrong set-up from wrong rows. With a wrong base URL, or for a
// merchant that may not bill, the API refuses every row alike. So the first such refusals of a
// run are held: until another answer shows that the set-up is right, until enough of them show
// that it is wrong, or until no row is left that could show either. Once the set-up is confirmed,
// it counts as right for the rest of the process. It may be used concurrently.
type setupCheck struct {
	mu        sync.Mutex
	confirmed bool // the set-up has shown itself to be right
	feeders   int  // files that may still bring rows
	rows      int  // rows under way that do not wait for another row, held ones included
	held      int
	alike     int // refusals so far, all alike, held or not
	kind      refusal
	verdict   *verdict // on those that are held now
}

// refusal identifies what the API said: two refusals are alike if these are equal.
type refusal struct {
	status      int
	kind, title string
}

// verdict is what held rows wait for.
type verdict struct {
	known   chan struct{} // closed when atFault is set
	atFault bool          // the set-up is
	// sure: what is held cannot be the rows' fault, however few they are.
	sure bool
}

func newSetupCheck() *setupCheck {
	return &setupCheck{verdict: &verdict{known: make(chan struct{})}}
}

// feeding adds n to the number of files that may still bring rows.
func (f *setupCheck) feeding(n int) { f.count(&f.feeders, n) }

// working adds n to the number of rows under way. A row that waits for another row is not
// counted, because it cannot show anything meanwhile.
func (f *setupCheck) working(n int) { f.count(&f.rows, n) }

func (f *setupCheck) count(what *int, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*what += n
	if f.held > 0 && f.alike < setupRefusals && f.feeders == 0 && f.rows == f.held {
		f.decide(f.verdict.sure) // no row is left that could show it
	}
}

// decide releases the held rows with a verdict. f.mu is held.
func (f *setupCheck) decide(atFault bool) {
	f.verdict.atFault = atFault
	close(f.verdict.known)
	f.verdict = &verdict{known: make(chan struct{})}
	f.held = 0
}

// observe records what an answer shows of the set-up. It is called before the gate gets the
// ticket back: once the gate is idle, every answer has been observed.
func (f *setupCheck) observe(a client.Answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !suspicious(a) {
		switch a.Kind {
		case client.Created, client.Taken, client.InFlight, client.KeyReused, client.Refused:
			if !a.Replayed || a.Kind == client.Created {
				f.confirm()
			}
		}
		return
	}
	this := refusal{a.Status, a.Problem.Type, a.Problem.Title}
	switch {
	case f.confirmed:
	case f.alike > 0 && f.kind != this:
		f.confirm() // rows are refused for different reasons
	default:
		f.kind = this
		f.alike++
	}
}

func (f *setupCheck) confirm() {
	if f.confirmed = true; f.held > 0 {
		f.decide(false)
	}
}

// suspicious reports whether a refusal may be the set-up's fault. A 402 and a 422 are about what
// was sent. A replay is about the set-up at the time its key was new.
func suspicious(a client.Answer) bool {
	return a.Kind == client.Refused && !a.Replayed && a.Status != 402 && a.Status != 422
}

// forbidden reports whether an answer is a 403 that may be the key's fault, or that of a gateway
// which refuses one request. What becomes of it depends on whether any answer has proven that the
// API accepts the key (provesKey):
//
//   - Not proven: the gate holds all requests back until those in flight are answered, which may
//     prove it (gate.quiesce, awaitProof). If none does, the run stops (afterAnswer, stopReason).
//   - Proven: the refusal is the gateway's and the row's alone. The row tries again, charged
//     (afterAnswer), and its failures count towards an outage (gate.observe), which stops the run
//     at once. Attempts used up, it is looked up (causeForbidden), and rejected if the look-up
//     finds nothing or is refused likewise (afterLookUp, foundForbidden).
//   - A look-up is judged in the same way; if no other request has passed since the row's first
//     403, the key was withdrawn, and the run stops (gate.ask, gate.passedSince).
//   - Of a payment request alone, the key is proven by the bills (present.go, presentstep.go).
func forbidden(a client.Answer) bool { return a.Kind == client.KeyRefused && a.Status == 403 }

// provesKey reports whether an answer shows that the API accepts the key. A 400 does not: the API
// may give it to a key that is not valid.
func provesKey(a client.Answer) bool {
	switch a.Kind {
	case client.Created, client.Found, client.Absent, client.Taken, client.InFlight, client.KeyReused:
		return true
	case client.Refused:
		return a.Status == 402 || a.Status == 422
	}
	return false
}

// hold waits until it is known whether the set-up is at fault for a suspicious refusal that was
// observed. It returns true if it is, or if g closes. byID: the refused body names something by
// its id, which may be what the API did not find.
func (f *setupCheck) hold(ctx context.Context, g *gate, a client.Answer, byID bool) (bool, error) {
	f.mu.Lock()
	if f.confirmed {
		f.mu.Unlock()
		return false, nil
	}
	f.held++
	v := f.verdict
	// "No such resource", where all that was named is the path.
	v.sure = v.sure || a.Status == 404 && !byID
	enough := f.alike >= setupRefusals
	f.mu.Unlock()
	f.working(0)
	if !enough {
		return f.await(ctx, g, v, nil)
	}
	// New requests are held back until those on their way are answered, because any of these
	// answers may clear the set-up.
	atFault, err := f.await(ctx, g, v, g.quiesce())
	if !atFault {
		g.resume()
	}
	return atFault, err
}

// await waits for the verdict. A closed silence is a verdict as well.
func (f *setupCheck) await(ctx context.Context, g *gate, v *verdict, silence <-chan struct{}) (bool, error) {
	select {
	case <-v.known:
		return v.atFault, nil
	case <-silence:
		f.mu.Lock()
		defer f.mu.Unlock()
		return !f.confirmed, nil
	case <-g.closed:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// Documented reports whether a refusal is a problem document, as the API documents all of its
// errors. A server at a wrong address usually answers otherwise, and then a 404 says nothing
// about a bill. A Problem always has a title, so only type and detail show it. Answer.Foreign
// of package client (isForeign) is the laxer rule, for rows: a 404 that is doubted wrongly
// holds a row up, but one that is believed wrongly is reported to the operator as a missing
// bill, or as a set-up that is right.
func Documented(a client.Answer) bool { return a.Problem.Type != "" || a.Problem.Detail != "" }

// wrongKeyer is an API that can be asked with a key that does not exist.
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
		if Documented(a) {
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
	return &Stop{Setup: true, Reason: "the API answered " + a.Label() + " to a look-up of a bill that does not exist", Hint: "check api.base_url"}
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
