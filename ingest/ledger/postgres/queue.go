package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"billdrop/ingest/ledger"
)

const (
	// maxBatch bounds what one transaction holds, and what waits for it. A write that finds the
	// batch full waits until the batch before it is committed.
	maxBatch = 2048
	// gather is how long a write for which a caller waits gathers others to share its commit.
	gather = 4 * time.Millisecond
	// linger is how long a batch of nothing but Records, for which no caller waits, gathers.
	linger = 50 * time.Millisecond
	// closePatience bounds how long Close tries to commit what is queued while the server is out of
	// reach.
	closePatience = 10 * time.Second
)

// op is one caller's write. apply runs in the writer's goroutine, and again when the batch is tried
// again. An error from apply fails the batch, so a refusal is kept in the op instead.
type op interface {
	apply(t *tx) error
}

// batch is what one transaction commits. Its ops are in the order in which they were submitted.
type batch struct {
	ops     []op
	awaited bool          // a caller waits for one of them
	taken   chan struct{} // closed when the writer takes it: the next batch has room
	done    chan struct{} // closed when it is committed or failed
	err     error         // valid once done is closed
}

func newBatch() *batch {
	return &batch{taken: make(chan struct{}), done: make(chan struct{})}
}

// queue turns concurrent writes into batches. It owns the goroutine that commits them, one after the
// other in the order of submission; close joins that goroutine.
type queue struct {
	commit func([]op) error // called by that goroutine only; all or nothing
	kick   chan struct{}    // holds a token when open should be committed now
	due    *time.Timer      // kicks when open has gathered long enough
	joined chan struct{}    // closed when the goroutine has ended

	mu      sync.Mutex
	open    *batch // takes new ops
	writing *batch // being committed, or nil
	failed  error  // of an earlier commit: every later write returns it
	closed  bool
	// gaveUp is closed while the server has been out of reach for longer than callers wait.
	gaveUp chan struct{}
	why    error // valid while gaveUp is closed
}

func newQueue(commit func([]op) error) *queue {
	q := &queue{
		commit: commit,
		kick:   make(chan struct{}, 1),
		joined: make(chan struct{}),
		open:   newBatch(),
		gaveUp: make(chan struct{}),
	}
	q.due = time.AfterFunc(time.Hour, q.wake)
	q.due.Stop()
	go q.run()
	return q
}

// submit queues o and returns its batch. It blocks only while the queue is full.
func (q *queue) submit(ctx context.Context, o op) (*batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, queued, err := q.add(o)
		if queued || err != nil {
			return b, err
		}
		if err := q.await(ctx, b.taken); err != nil {
			return nil, err
		}
	}
}

// add adds o to the open batch, which it returns, unless the batch is full.
func (q *queue) add(o op) (b *batch, queued bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.refusal(); err != nil {
		return nil, false, err
	}
	b = q.open
	if len(b.ops) == maxBatch {
		return b, false, nil
	}
	b.ops = append(b.ops, o)
	_, isRecord := o.(*record)
	switch {
	case len(b.ops) == maxBatch:
		q.wake()
	case !isRecord && !b.awaited:
		b.awaited = true
		q.due.Reset(gather)
	case len(b.ops) == 1:
		q.due.Reset(linger)
	}
	return b, true, nil
}

// await waits for what, unless ctx ends or the server was out of reach for too long first.
func (q *queue) await(ctx context.Context, what <-chan struct{}) error {
	q.mu.Lock()
	gaveUp := q.gaveUp
	q.mu.Unlock()
	select {
	case <-what:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-gaveUp:
	}
	select {
	case <-what:
		return nil
	default:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.why != nil {
		return q.why
	}
	return ledger.ErrUnreachable // the server is back, but too late for this caller
}

// wait returns the fate of b, or why its caller waits no longer (b may be committed all the same).
func (q *queue) wait(ctx context.Context, b *batch) error {
	if err := q.await(ctx, b.done); err != nil {
		return err
	}
	return b.err
}

// barrier returns once every op submitted before it for which about is true is durable; a nil about is
// true of all.
func (q *queue) barrier(ctx context.Context, about func(op) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	open, writing, last := *q.open, q.writing, q.open
	q.mu.Unlock()
	switch {
	case holds(open.ops, about):
		q.wake()
		return q.wait(ctx, last)
	case writing != nil && (about == nil || holds(writing.ops, about)):
		return q.wait(ctx, writing)
	}
	return nil
}

func holds(ops []op, about func(op) bool) bool {
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

// refusal is why no write may succeed any more, if so. q.mu is held.
func (q *queue) refusal() error {
	switch {
	case q.failed != nil:
		return q.failed
	case q.closed:
		return fmt.Errorf("%w: %w", ledger.ErrUnusable, errClosed)
	}
	return q.why
}

// failure is why no write may succeed any more, nil if it may.
func (q *queue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refusal()
}

// fail makes every later write return err, and what is queued too.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed == nil {
		q.setFailed(err)
	}
}

// renew lets writes succeed again after they were fenced. It waits for the batch under way.
func (q *queue) renew(ctx context.Context) error {
	q.mu.Lock()
	writing := q.writing
	q.mu.Unlock()
	if writing != nil {
		if err := q.await(ctx, writing.done); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed != nil && !errors.Is(q.failed, ledger.ErrFenced) {
		return q.failed
	}
	if q.closed {
		return fmt.Errorf("%w: %w", ledger.ErrUnusable, errClosed)
	}
	q.failed = nil
	return nil
}

// outage says that callers need not wait any longer, for this reason; nil says that they may again.
func (q *queue) outage(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case why != nil && q.why == nil:
		q.why = why
		close(q.gaveUp)
	case why == nil && q.why != nil:
		q.why = nil
		q.gaveUp = make(chan struct{})
	}
}

// wake lets the goroutine commit what is queued.
func (q *queue) wake() {
	select {
	case q.kick <- struct{}{}:
	default: // one token is enough
	}
}

// close commits what is queued, ends the goroutine and returns the failure of a write, if there was
// one. stop is called when the server has been out of reach for too long.
func (q *queue) close(stop func()) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.due.Stop()
	q.wake()
	last := time.AfterFunc(closePatience, stop)
	defer last.Stop()
	<-q.joined
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

func (q *queue) run() {
	defer close(q.joined)
	for range q.kick {
		b, last := q.take()
		if b != nil {
			q.finish(b, q.commit(b.ops))
		}
		if last {
			return
		}
	}
}

// take starts the next batch, nil when there is nothing to commit. last: no batch comes after it.
func (q *queue) take() (b *batch, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.open.ops) == 0 {
		return nil, q.closed
	}
	b = q.open
	q.writing, q.open = b, newBatch()
	close(b.taken)
	return b, q.closed
}

// finish reports b's fate to those who wait for it. After a failure what is queued behind b is refused
// too, because committing it would leave a hole in the order.
func (q *queue) finish(b *batch, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = nil
	b.err = err
	close(b.done)
	if err != nil {
		q.setFailed(err)
	}
}

// setFailed refuses what is queued, and what comes. q.mu is held.
func (q *queue) setFailed(err error) {
	q.failed = err
	behind := q.open
	q.open = newBatch()
	behind.err = err
	close(behind.taken)
	close(behind.done)
}
