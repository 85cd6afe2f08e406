package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"billdrop/ingest/ledger"
)

const (
	// maxBatch bounds what one transaction holds, and what waits for it: about 30 ms of
	// work. A write that finds the batch full waits until the batch before it is
	// committed.
	maxBatch = 1024
	// gather is how long a write for which a caller waits gathers others to share its
	// commit. The pages that rows have in common are written once a commit.
	gather = 10 * time.Millisecond
	// linger is how long a batch of nothing but Records, for which no caller waits,
	// gathers. A commit makes every reader fetch its pages again.
	linger = 50 * time.Millisecond
)

// op is one caller's write. apply runs in the writer's goroutine, within the batch's
// transaction. An error from apply fails the ledger, so a refusal (ErrExists) is kept in
// the op instead.
type op interface {
	apply(w *writer) error
}

// batch is what one transaction commits. Its ops are in the order in which they were
// submitted.
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

// wait returns the fate of b, or ctx.Err() when ctx ends first (b is committed all the
// same).
func (b *batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// queue turns concurrent writes into batches. It owns the goroutine that commits them,
// one after the other in the order of submission; close joins that goroutine.
type queue struct {
	commit func([]op) error // called by that goroutine only; all or nothing
	kick   chan struct{}    // holds a token when open should be committed now
	due    *time.Timer      // kicks when open has gathered long enough
	joined chan struct{}    // closed when the goroutine has ended

	mu      sync.Mutex
	open    *batch // takes new ops
	writing *batch // being committed, or nil
	failed  error  // of an earlier commit: every later call returns it
	closed  bool
}

func newQueue(commit func([]op) error) *queue {
	q := &queue{
		commit: commit,
		kick:   make(chan struct{}, 1),
		joined: make(chan struct{}),
		open:   newBatch(),
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
		select {
		case <-b.taken:
		case <-ctx.Done():
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

// barrier returns once every op submitted before it for which about is true is durable; a
// nil about is true of all.
func (q *queue) barrier(ctx context.Context, about func(op) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	err := q.refusal()
	open, writing := *q.open, q.writing
	last := q.open
	q.mu.Unlock()
	switch {
	case err != nil:
		return err
	case holds(open.ops, about):
		q.wake()
		return last.wait(ctx)
	case writing != nil && (about == nil || holds(writing.ops, about)):
		return writing.wait(ctx)
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

// refusal is why no call may succeed any more, if so. q.mu is held.
func (q *queue) refusal() error {
	switch {
	case q.failed != nil:
		return q.failed
	case q.closed:
		return fmt.Errorf("%w: %w", ledger.ErrUnusable, errClosed)
	}
	return nil
}

// wake lets the goroutine commit what is queued.
func (q *queue) wake() {
	select {
	case q.kick <- struct{}{}:
	default: // one token is enough
	}
}

// close commits what is queued, ends the goroutine and returns the failure of a write, if
// there was one.
func (q *queue) close() error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.due.Stop()
	q.wake()
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

// take starts the next batch, nil when there is nothing to commit. last: no batch comes
// after it.
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

// finish reports b's fate to those who wait for it. After a failure what is queued behind
// b is refused too, because committing it would leave a hole in the order.
func (q *queue) finish(b *batch, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = nil
	b.err = err
	close(b.done)
	if err == nil {
		return
	}
	q.failed = err
	behind := q.open
	q.open = newBatch()
	behind.err = err
	close(behind.taken)
	close(behind.done)
}
