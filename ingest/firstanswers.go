package ingest

import (
	"context"
	"sync"

	"billdrop/client"
)

// setupRefusals is how many different rows must be refused in the same way, before any other answer has come,
// for the set-up to be blamed rather than the rows.
const setupRefusals = 5

// firstAnswers tells a wrong set-up from wrong rows. A wrong base URL or a merchant without billing
// makes the API refuse every row alike with 400 or 404. So the first such refusals of a run are not put
// down to their rows at once: they wait until another answer shows that the set-up is right, until enough of
// them show that it is wrong, or until no row is left that could tell. It may be used concurrently.
type firstAnswers struct {
	mu       sync.Mutex
	feeders  int // files that may still bring rows
	rows     int // rows under way, held ones included
	held     int
	kind     refusal
	setup    bool          // what is held cannot be the rows' fault
	decided  chan struct{} // closed once the refusals may be put down to the rows
	isClosed bool
	blamed   bool // decided: it is the set-up
}

// refusal is what makes two refusals the same one.
type refusal struct {
	status      int
	kind, title string
}

func newFirstAnswers() *firstAnswers { return &firstAnswers{decided: make(chan struct{})} }

// feeding counts files that may still bring rows: +1 when one begins, -1 when all its rows are under way.
func (f *firstAnswers) feeding(n int) { f.count(func() { f.feeders += n }) }

// working counts rows under way.
func (f *firstAnswers) working(n int) { f.count(func() { f.rows += n }) }

func (f *firstAnswers) count(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	if f.held > 0 && f.feeders == 0 && f.rows == f.held {
		f.decide() // nobody is left who could tell
		f.blamed = f.setup
	}
}

// decide is called with f.mu held.
func (f *firstAnswers) decide() {
	if !f.isClosed {
		f.isClosed = true
		close(f.decided)
	}
}

// heard takes note of an answer that is no such refusal, but shows that the set-up is right.
func (f *firstAnswers) heard(a client.Answer) {
	switch a.Kind {
	case client.Created, client.Taken, client.InFlight, client.KeyReused, client.Refused:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.decide()
	}
}

// suspicious reports whether an answer may speak of the set-up.
func suspicious(a client.Answer) bool {
	return a.Kind == client.Refused && (a.Status == 400 || a.Status == 404)
}

// hold waits until it is known whose fault a suspicious refusal is, or stop is closed. It returns true when
// it is the set-up's. byID: the refused body named something by an id, which may be what was not found.
func (f *firstAnswers) hold(ctx context.Context, stop <-chan struct{}, a client.Answer, byID bool) (bool, error) {
	f.mu.Lock()
	this := refusal{a.Status, a.Problem.Type, a.Problem.Title}
	switch {
	case f.isClosed:
		defer f.mu.Unlock()
		return f.blamed, nil
	case f.held > 0 && f.kind != this:
		f.decide() // rows are refused for different reasons
		f.mu.Unlock()
		return false, nil
	}
	f.kind = this
	f.held++
	if a.Status == 404 && !byID {
		f.setup = true // "no such resource", where all that was named is the path
	}
	guilty := f.held >= setupRefusals
	f.mu.Unlock()
	f.count(func() {})
	defer f.count(func() { f.held-- })
	if guilty {
		return true, nil
	}
	select {
	case <-f.decided:
		return f.blame(), nil
	case <-stop:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// blame is what was decided.
func (f *firstAnswers) blame() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blamed
}
