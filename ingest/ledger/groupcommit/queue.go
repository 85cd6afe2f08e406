// Package groupcommit lets concurrent writes share commits, so that each costs a share of a
// sync. The engines of the ledger stand on it; what a write is, and how a batch is committed,
// is theirs.
package groupcommit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// linger is how long a batch gathers while no caller waits for any of its ops. Each commit
// has readers fetch again what they had cached.
const linger = 50 * time.Millisecond

// Config is what a Queue commits, and when.
type Config[O any] struct {
	// Commit makes a batch durable, all of it or nothing. The ops are in the order in which
	// they were added. It is called by one goroutine.
	Commit func(ops []O) error
	// Max bounds what one batch holds, and what waits for it. A write that finds the batch
	// full waits until the batch before it is committed.
	Max int
	// Gather is how long an op for which a caller waits gathers others to share its commit.
	// 0 = it gathers while the batch before it is being committed.
	Gather time.Duration
	// Awaited reports whether a caller waits for an op; nil = for all.
	Awaited func(O) bool
	// Closed is what writes return after Close.
	Closed error
	// FailAlone has a commit that fails leave later ones alone. Without it, whatever comes
	// later fails too, because committing it would leave a hole in the order.
	FailAlone bool
}

// Queue turns concurrent writes into batches. It owns the goroutine that commits them, one
// after the other in the order of their addition; Close joins that goroutine. Its methods may
// be called concurrently.
type Queue[O any] struct {
	config Config[O]
	kick   chan struct{} // holds a token when open should be committed now
	due    *time.Timer   // kicks when open has gathered long enough
	joined chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	open    *batch[O] // takes new ops
	writing *batch[O] // being committed, or nil
	failed  error     // every later write returns it
	closed  bool
	outage  *outage // the one that lasts, or the next one
}

// batch is what one commit covers.
type batch[O any] struct {
	ops     []O
	awaited bool          // a caller waits for one of them
	taken   chan struct{} // closed when it is being committed: the next batch has room
	done    chan struct{} // closed when it is committed or failed
	err     error         // valid once done is closed
}

func newBatch[O any]() *batch[O] {
	return &batch[O]{taken: make(chan struct{}), done: make(chan struct{})}
}

// outage is a time in which callers do not wait.
type outage struct {
	begun chan struct{} // closed when it begins
	why   error         // valid once begun is closed
}

func newOutage() *outage { return &outage{begun: make(chan struct{})} }

// New returns a queue whose goroutine runs.
func New[O any](c Config[O]) *Queue[O] {
	q := &Queue[O]{
		config: c,
		kick:   make(chan struct{}, 1),
		joined: make(chan struct{}),
		open:   newBatch[O](),
		outage: newOutage(),
	}
	q.due = time.AfterFunc(time.Hour, q.Wake)
	q.due.Stop()
	go q.run()
	return q
}

// Add queues o, and does not wait for its commit. It blocks only while the queue is full.
func (q *Queue[O]) Add(ctx context.Context, o O) error {
	_, err := q.submit(ctx, o)
	return err
}

// Do queues o and returns once it is durable, or has failed. When ctx ends or an outage
// begins first, o may be committed all the same.
func (q *Queue[O]) Do(ctx context.Context, o O) error {
	p, err := q.submit(ctx, o)
	if err != nil {
		return err
	}
	return p.wait(ctx)
}

// DoNow is Do for a caller that has nothing else to do: the batch gathers no longer.
func (q *Queue[O]) DoNow(ctx context.Context, o O) error {
	p, err := q.submit(ctx, o)
	if err != nil {
		return err
	}
	q.Wake()
	return p.wait(ctx)
}

// Barrier returns once every op is committed that was added before it and for which about is
// true; a nil about is true of all. It returns the failure of such an op, not one of an
// earlier batch.
func (q *Queue[O]) Barrier(ctx context.Context, about func(O) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	queued, writing := q.open.ops, q.writing
	last := pending[O]{q.open, q.outage}
	q.mu.Unlock()
	switch {
	case holds(queued, about):
		q.Wake()
		return last.wait(ctx)
	case writing != nil && holds(writing.ops, about):
		return pending[O]{writing, last.outage}.wait(ctx)
	}
	return nil
}

func holds[O any](ops []O, about func(O) bool) bool {
	if about == nil {
		return len(ops) > 0
	}
	for _, o := range ops {
		if about(o) {
			return true
		}
	}
	return false
}

// pending is a batch as a caller waits for it.
type pending[O any] struct {
	*batch[O]
	outage *outage
}

// wait returns the fate of the batch, or why its caller waits no longer.
func (p pending[O]) wait(ctx context.Context) error {
	if err := p.await(ctx, p.done); err != nil {
		return err
	}
	return p.err
}

// await waits for what, unless ctx ends or an outage begins first.
func (p pending[O]) await(ctx context.Context, what <-chan struct{}) error {
	select {
	case <-what:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.outage.begun:
	}
	select {
	case <-what:
		return nil
	default:
		return p.outage.why
	}
}

// submit queues o.
func (q *Queue[O]) submit(ctx context.Context, o O) (pending[O], error) {
	for {
		if err := ctx.Err(); err != nil {
			return pending[O]{}, err
		}
		p, queued, err := q.add(o)
		if queued || err != nil {
			return p, err
		}
		if err := p.await(ctx, p.taken); err != nil {
			return p, err
		}
	}
}

// add adds o to the open batch, which it returns, unless the batch is full.
func (q *Queue[O]) add(o O) (p pending[O], queued bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.refusal(); err != nil {
		return p, false, err
	}
	b := q.open
	p = pending[O]{b, q.outage}
	if len(b.ops) == q.config.Max {
		return p, false, nil
	}
	b.ops = append(b.ops, o)
	switch {
	case len(b.ops) == q.config.Max:
		q.Wake()
	case !b.awaited && (q.config.Awaited == nil || q.config.Awaited(o)):
		b.awaited = true
		q.due.Reset(q.config.Gather)
	case len(b.ops) == 1:
		q.due.Reset(linger)
	}
	return p, true, nil
}

// Wake has what is queued committed now.
func (q *Queue[O]) Wake() {
	select {
	case q.kick <- struct{}{}:
	default: // one token is enough
	}
}

// refusal is Err. q.mu is held.
func (q *Queue[O]) refusal() error {
	switch {
	case q.failed != nil:
		return q.failed
	case q.closed:
		return q.config.Closed
	}
	return q.outage.why
}

// Err returns why a write would fail now, nil if it would not.
func (q *Queue[O]) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refusal()
}

// Fail has every later write return err, and what is queued too. The commit under way goes on.
// A queue that has failed keeps its first error.
func (q *Queue[O]) Fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed == nil {
		q.setFailed(err)
	}
}

// Renew lets writes succeed again after a failure that is of. It waits for the commit under
// way. Another failure stays, and is returned.
func (q *Queue[O]) Renew(ctx context.Context, of error) error {
	q.mu.Lock()
	p := pending[O]{q.writing, q.outage}
	q.mu.Unlock()
	if p.batch != nil {
		if err := p.await(ctx, p.done); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.failed != nil && !errors.Is(q.failed, of):
		return q.failed
	case q.closed:
		return q.config.Closed
	}
	q.failed = nil
	return nil
}

// Outage has callers return why, instead of waiting for a commit that takes too long. What they
// queued is committed all the same, unless Commit fails. A nil why lets callers wait again.
func (q *Queue[O]) Outage(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch o := q.outage; {
	case why != nil && o.why == nil:
		o.why = why
		close(o.begun)
	case why == nil && o.why != nil:
		q.outage = newOutage()
	}
}

// Close commits what is queued, ends the goroutine and returns the failure of a write, if
// there was one.
func (q *Queue[O]) Close() error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.due.Stop()
	q.Wake()
	<-q.joined
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

func (q *Queue[O]) run() {
	defer close(q.joined)
	for range q.kick {
		b, last := q.take()
		if b != nil {
			q.finish(b, q.config.Commit(b.ops))
		}
		if last {
			return
		}
	}
}

// take starts the next batch, nil when there is nothing to commit. last: no batch comes after
// it.
func (q *Queue[O]) take() (b *batch[O], last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.open.ops) == 0 {
		return nil, q.closed
	}
	b = q.open
	q.writing, q.open = b, newBatch[O]()
	close(b.taken)
	return b, q.closed
}

// finish reports b's fate to those who wait for it.
func (q *Queue[O]) finish(b *batch[O], err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = nil
	b.err = err
	close(b.done)
	if err != nil && !q.config.FailAlone {
		q.setFailed(err)
	}
}

// setFailed refuses what is queued, and what comes. q.mu is held.
func (q *Queue[O]) setFailed(err error) {
	q.failed = err
	behind := q.open
	q.open = newBatch[O]()
	behind.err = err
	close(behind.taken)
	close(behind.done)
}
