package delivery

import (
	"context"
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
	rows      int  // rows under way that wait for nobody else, held ones included
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
		f.decide(f.verdict.sure) // nobody is left who could tell
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
// which refuses one request.
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
	if enough {
		return f.awaitSilence(ctx, g, v)
	}
	return f.await(ctx, g, v, nil)
}

// awaitSilence is called when enough rows were refused alike. It holds new requests back and
// waits for the answers that are still on their way, because any of them may clear the set-up.
func (f *setupCheck) awaitSilence(ctx context.Context, g *gate, v *verdict) (bool, error) {
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
