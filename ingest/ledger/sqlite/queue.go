package sqlite

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"billdrop/ingest/ledger"
)

const (
	// maxBatch bounds what is waiting and what one transaction holds: about 30 ms of work. A Record finds
	// room again when the batch before it is committed.
	maxBatch = 1024
)

// haste is how long a write may wait for others to share its commit, and whether somebody waits for it.
type haste int

const (
	// eventually: nobody waits for it; 20 ms.
	eventually haste = iota
	// shared: somebody waits, but not everybody: 8 ms. With many rows under way that is some dozens of them a commit, and what a
	// commit costs beside its rows is several times what a row costs.
	shared
	// atOnce: nothing goes on without it.
	atOnce
)

func (h haste) lag() time.Duration {
	return [...]time.Duration{eventually: 20 * time.Millisecond, shared: 8 * time.Millisecond, atOnce: 0}[h]
}

// op is one caller's write. apply runs in the writer's goroutine, within the batch's transaction; an
// error from it fails the ledger, so a refusal (ErrExists) is kept in the op instead.
type op interface {
	apply(w *writer) error
	touch(t touched) // what a read of bills or parties may wait for
}

// touch stands for a bill or a party that a write is about. Two may share one: then a read waits for nothing.
type touch uint64

var touchSeed = maphash.MakeSeed()

func billTouch(reference string) touch { return touch(maphash.String(touchSeed, reference)) }
func partyTouch(d ledger.Digest) touch { return touch(hashOf(d)) }

// touched is what the writes of a batch are about.
type touched map[touch]struct{}

func (t touched) add(k touch) { t[k] = struct{}{} }

func (t touched) any(keys []touch) bool {
	for _, k := range keys {
		if _, ok := t[k]; ok {
			return true
		}
	}
	return false
}

// batch is what one transaction commits. Its ops are in the order in which they were submitted.
type batch struct {
	ops   []op
	about touched
	haste haste         // the greatest of its ops
	taken chan struct{} // closed when the writer takes it: the next batch has room
	done  chan struct{} // closed when it is committed or failed
	err   error         // valid once done is closed
}

func newBatch() *batch {
	return &batch{about: make(touched), taken: make(chan struct{}), done: make(chan struct{})}
}

// wait returns the fate of b, or ctx.Err() when ctx ends first (b is committed all the same).
func (b *batch) wait(ctx context.Context) error {
	if ctx.Done() == nil { // as in a clean run: a plain wait costs less
		<-b.done
		return b.err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// queue turns concurrent writes into batches. It owns the goroutine that commits them, one after the other in
// the order of submission; close joins it.
type queue struct {
	commit func([]op) error // called by that goroutine only; all or nothing
	// tidy does a little of what can wait, and tells whether there is more; nil = there is nothing. Called by that goroutine too, while
	// nothing else is to be done.
	tidy   func() (more bool, err error)
	kick   chan struct{} // holds a token when open should be committed now
	lag    *time.Timer   // kicks when open is due
	joined chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	open    *batch // takes new ops
	writing *batch // being committed, or nil
	failed  error  // of an earlier commit: every later call gets it
	closed  bool
	atRest  bool      // since a file's end; until rows are sent again
	since   time.Time // when the latest commit was made
}

func newQueue(commit func([]op) error, tidy func() (bool, error)) *queue {
	q := &queue{
		commit: commit,
		tidy:   tidy,
		kick:   make(chan struct{}, 1),
		joined: make(chan struct{}),
		open:   newBatch(),
	}
	q.lag = time.AfterFunc(time.Hour, q.wake)
	q.lag.Stop()
	go q.run()
	return q
}

// submit queues o, and unless it is for eventually returns once it is durable. Else it returns at once, but for a full queue.
func (q *queue) submit(ctx context.Context, o op, h haste) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		q.mu.Lock()
		if err := q.refusal(); err != nil {
			q.mu.Unlock()
			return err
		}
		b := q.open
		if len(b.ops) < maxBatch {
			q.add(o)
			q.hurry(h)
			q.mu.Unlock()
			if h == eventually {
				return nil
			}
			return b.wait(ctx)
		}
		q.mu.Unlock()
		select {
		case <-b.taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add adds o to the open batch. q.mu is held.
func (q *queue) add(o op) {
	q.open.ops = append(q.open.ops, o)
	o.touch(q.open.about)
}

// hurry has the open batch, which a write of haste h has just joined, committed in time. q.mu is held.
func (q *queue) hurry(h haste) {
	b := q.open
	switch {
	case h == atOnce || len(b.ops) == maxBatch:
		q.wake()
	case len(b.ops) == 1 || h > b.haste:
		lag := h.lag()
		if h == shared && q.writing == nil && time.Since(q.since) > lag {
			lag /= 8 // the first after a while: who is to share with it is there at once
		}
		q.lag.Reset(lag)
	}
	b.haste = max(b.haste, h)
	q.atRest = q.atRest && h != shared
}

// rest tells that nothing is to be sent for a while.
func (q *queue) rest() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.atRest = q.tidy != nil
	q.wake()
}

// idle reports whether there is time to tidy.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.atRest && q.refusal() == nil && len(q.open.ops) == 0
}

// barrier returns once everything submitted before it is durable.
func (q *queue) barrier(ctx context.Context) error { return q.barrierFor(ctx, nil) }

// barrierFor returns once everything submitted before it that is about one of keys is durable; nil keys: everything.
func (q *queue) barrierFor(ctx context.Context, keys []touch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if err := q.refusal(); err != nil {
		q.mu.Unlock()
		return err
	}
	var b *batch
	if w := q.writing; w != nil && (keys == nil || w.about.any(keys)) {
		b = w
	}
	if o := q.open; len(o.ops) > 0 && (keys == nil || o.about.any(keys)) {
		b = o
		q.wake()
	}
	q.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.wait(ctx)
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

// close commits what is queued, ends the goroutine and returns the failure of a write, if there was one.
func (q *queue) close() error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.lag.Stop()
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
		for q.idle() {
			q.tidied(q.tidy())
		}
	}
}

func (q *queue) tidied(more bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.atRest = q.atRest && more
	if err != nil {
		q.fail(err)
	}
}

// take starts the next batch; nil when there is nothing to commit. last: none comes after it.
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

// finish tells b's waiters its fate. After a failure what is queued behind b is refused too: committing it would
// leave a hole in the order.
func (q *queue) finish(b *batch, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing, q.since = nil, time.Now()
	b.err = err
	close(b.done)
	if err != nil {
		q.fail(err)
	}
}

// fail refuses what is queued, and all that would come. q.mu is held.
func (q *queue) fail(err error) {
	q.failed = err
	behind := q.open
	q.open = newBatch()
	behind.err = err
	close(behind.taken)
	close(behind.done)
}
