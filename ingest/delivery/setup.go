package delivery

import (
	"context"
	"sync"

	"billdrop/client"
)

// setupRefusals is how many rows must be refused in the same way, before any other answer has come, for the set-up to be
// blamed rather than the rows.
const setupRefusals = 5

// setupCheck tells a wrong set-up from wrong rows. A wrong base URL or a merchant without billing makes the API
// refuse every row alike. So the first such refusals of a run are not put down to their rows at once: they wait until
// another answer shows that the set-up is right, until enough of them show that it is wrong, or until no row is left
// that could tell. Once another answer was onAnswer, the set-up is right for the rest of the run. It may be used
// concurrently.
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

// refusal is what makes two refusals the same one.
type refusal struct {
	status      int
	kind, title string
}

// verdict is what some held rows wait for.
type verdict struct {
	known   chan struct{} // closed when atFault is set
	atFault bool          // the set-up is
	// sure: what is held cannot be the rows' fault, however few they are.
	sure bool
}

func newSetupCheck() *setupCheck {
	return &setupCheck{verdict: &verdict{known: make(chan struct{})}}
}

// feeding counts files that may still bring rows: +1 when one begins, -1 when all its rows are under way.
func (f *setupCheck) feeding(n int) { f.count(&f.feeders, n) }

// working counts rows under way. A row that waits for another one is not counted meanwhile.
func (f *setupCheck) working(n int) { f.count(&f.rows, n) }

func (f *setupCheck) count(what *int, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*what += n
	if f.held > 0 && f.alike < setupRefusals && f.feeders == 0 && f.rows == f.held {
		f.decide(f.verdict.sure) // nobody is left who could tell
	}
}

// decide lets the held rows know. f.mu is held.
func (f *setupCheck) decide(atFault bool) {
	f.verdict.atFault = atFault
	close(f.verdict.known)
	f.verdict = &verdict{known: make(chan struct{})}
	f.held = 0
}

// hear takes note of what an answer says of the set-up. It is called before the gate learns that the request came back: silence
// is what follows the last word.
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

// suspicious reports whether an answer may speak of the set-up: 402 and 422 are about what was sent, and a replay is
// about the set-up as it was when its key was new.
func suspicious(a client.Answer) bool {
	return a.Kind == client.Refused && !a.Replayed && a.Status != 402 && a.Status != 422
}

// hold waits until it is known whose fault a suspicious refusal is that was onAnswer. It returns true when it is the set-up's, or when g
// closes. byID: the refused body named something by an id, which may be what was not found.
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

// listen waits, with enough rows refused alike, for the answers that are still on their way: any of them may speak for the
// set-up. Nothing more is sent meanwhile.
func (f *setupCheck) awaitSilence(ctx context.Context, g *gate, v *verdict) (bool, error) {
	atFault, err := f.await(ctx, g, v, g.quiesce())
	if !atFault {
		g.resume()
	}
	return atFault, err
}

// await waits for the verdict, or for silence, which is one.
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
