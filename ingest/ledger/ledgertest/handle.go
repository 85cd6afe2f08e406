package ledgertest

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"billdrop/ingest/ledger"
)

const (
	heartbeatEvery = 500 * time.Millisecond
	// commitDelay is how long what was recorded waits for more.
	commitDelay = 2 * time.Millisecond
	// maxQueued bounds the entries that wait to be handed over.
	maxQueued = 1000
	// retryDelay is how long a handle waits before it asks again what got no answer.
	retryDelay = 250 * time.Millisecond
	// maxUnheard is how old a confirmed heartbeat may be for Current to rely on it.
	maxUnheard = 3 * time.Second
)

// Handle is one worker's access to a Store. It may be used concurrently.
type Handle struct {
	store    *Store
	patience time.Duration
	done     chan struct{} // closed by Close and Kill
	running  sync.WaitGroup

	// Guarded by store.mu.
	member  *member // nil = not joined
	queue   []write
	waking  bool  // a commit of the queue is under way
	failed  error // of an earlier write, until the next Join
	closed  bool
	leaving func() // ends the heartbeat

	mu        sync.Mutex
	confirmed time.Time // when the latest heartbeat that was confirmed began
	lost      error     // what Current returns whatever the time is; nil = it depends on confirmed
	unheard   time.Duration
	paused    map[ledger.Scope]time.Time
	frozen    chan struct{} // closed by the thaw; nil = not frozen
	cut       chan struct{} // closed when healed; nil = not cut off
	silent    bool
	unfenced  bool // guarded by store.mu
	network   func(op string) Trouble
}

// Trouble is what the way to the store does to one exchange. The zero value is none.
type Trouble struct {
	Drop       bool          // the question does not arrive
	LoseAnswer bool          // the answer does not arrive
	Late       time.Duration // the answer comes so late
}

// Freeze stops the worker: nothing of it goes on until Thaw.
func (h *Handle) Freeze() { h.bar(&h.frozen) }

// Thaw ends a Freeze.
func (h *Handle) Thaw() { h.unbar(&h.frozen) }

// Cut keeps every question from the store until Heal.
func (h *Handle) Cut() { h.bar(&h.cut) }

// Heal ends a Cut.
func (h *Handle) Heal() { h.unbar(&h.cut) }

// Silence keeps heartbeats alone from the store, until the returned function is called.
func (h *Handle) Silence() (resume func()) {
	set := func(silent bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.silent = silent
	}
	set(true)
	return func() { set(false) }
}

// Unfence makes the store a wrong one, which lets this worker write after it was lost.
func (h *Handle) Unfence() {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	h.unfenced = true
}

// Network has trouble decide what happens to each exchange.
func (h *Handle) Network(trouble func(op string) Trouble) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.network = trouble
}

func (h *Handle) bar(bar *chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *bar == nil {
		*bar = make(chan struct{})
	}
}

func (h *Handle) unbar(bar *chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *bar != nil {
		close(*bar)
		*bar = nil
	}
}

// Kill ends the worker as kill -9 does. Of n entries that were recorded and not handed over, the
// last lose(n) are lost.
func (h *Handle) Kill(lose func(n int) int) {
	h.mu.Lock()
	cutOff := h.cut != nil
	h.mu.Unlock()
	s := h.store
	s.mu.Lock()
	s.reap(s.now())
	if kept := len(h.queue) - lose(len(h.queue)); !cutOff {
		h.queue = h.queue[:kept]
		h.handOver()
	}
	h.end()
	s.mu.Unlock()
	h.running.Wait()
}

// end closes the handle. store.mu is held.
func (h *Handle) end() {
	if !h.closed {
		h.closed, h.failed, h.queue = true, errClosed, nil
		close(h.done)
	}
}

// thawed waits until the worker is not frozen.
func (h *Handle) thawed() error {
	for {
		h.mu.Lock()
		frozen := h.frozen
		h.mu.Unlock()
		if frozen == nil {
			return nil
		}
		select {
		case <-frozen:
		case <-h.done:
			return errClosed
		}
	}
}

// await waits for what.
func await[T any](ctx context.Context, h *Handle, what <-chan T) error {
	select {
	case <-what:
		return nil
	case <-h.done:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// rest waits for d.
func (h *Handle) rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	return await(ctx, h, timer.C)
}

// exchange has one transaction done, and tries again until its answer has arrived. What was done
// already is not done twice. While the store is out of reach it waits, for the handle's patience.
func (h *Handle) exchange(ctx context.Context, op string, do func(now time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.patience > 0 {
		unreachable := fmt.Errorf("%s: %w", op, ledger.ErrUnreachable)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.patience, unreachable)
		defer cancel()
	}
	var result error
	for applied := false; ; {
		if err := h.arrive(ctx); err != nil {
			return err
		}
		h.mu.Lock()
		var trouble Trouble
		if h.network != nil {
			trouble = h.network(op)
		}
		h.mu.Unlock()
		if !applied && !trouble.Drop {
			result, applied = h.transact(op, do), true
		}
		if !trouble.Drop && !trouble.LoseAnswer {
			if err := h.rest(ctx, trouble.Late); err != nil {
				return err
			}
			if err := h.arrive(ctx); err != nil {
				return err
			}
			return result
		}
		if err := h.rest(ctx, retryDelay); err != nil {
			return err
		}
	}
}

// arrive waits until the worker runs and reaches the store.
func (h *Handle) arrive(ctx context.Context) error {
	for {
		if err := h.thawed(); err != nil {
			return err
		}
		h.mu.Lock()
		cut := h.cut
		h.mu.Unlock()
		if cut == nil {
			return nil
		}
		if err := await(ctx, h, cut); err != nil {
			return cmp.Or(h.thawed(), err)
		}
	}
}

// transact hands over what was recorded, and does one more thing.
func (h *Handle) transact(op string, do func(now time.Time) error) error {
	s := h.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.closed {
		return errClosed
	}
	now := s.now()
	s.reap(now)
	h.handOver()
	err := do(now)
	if s.trace != nil {
		name := ""
		if h.member != nil {
			name = h.member.Name
		}
		s.trace(name, op, err)
	}
	return err
}

// handOver commits what was recorded. store.mu is held.
func (h *Handle) handOver() {
	queue := h.queue
	h.queue = nil
	for _, w := range queue {
		if h.failed = cmp.Or(h.failed, h.fence()); h.failed != nil {
			return
		}
		h.failed = h.store.record(w)
	}
}

// fence returns ErrFenced unless the handle is a worker that is not taken for lost. store.mu is
// held.
func (h *Handle) fence() error {
	if h.store.live(h.member) || h.unfenced && h.member != nil {
		return nil
	}
	return ledger.ErrFenced
}

// mayWrite returns why nothing can be written; nil if it can. store.mu is held.
func (h *Handle) mayWrite() error { return cmp.Or(h.failed, h.fence()) }

// Join makes the handle a worker.
func (h *Handle) Join(ctx context.Context, m ledger.Member) error {
	if err := h.stopHeartbeat(); err != nil {
		return err
	}
	began := time.Now()
	err := h.exchange(ctx, "join", func(now time.Time) error {
		joined, err := h.store.join(h.member, m, now)
		if err != nil {
			return err
		}
		h.member, h.failed, h.queue = joined, nil, nil
		return nil
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.confirmed, h.lost, h.paused = began, nil, nil
	h.unheard = min(maxUnheard, m.LostAfter/2)
	h.mu.Unlock()
	beating, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	if h.closed {
		stop()
		return errClosed
	}
	h.leaving = func() {
		stop()
		<-ended
	}
	h.running.Go(func() {
		defer close(ended)
		h.beat(beating)
	})
	return nil
}

// stopHeartbeat ends the heartbeat of an earlier Join, if any.
func (h *Handle) stopHeartbeat() error {
	h.store.mu.Lock()
	closed, leaving := h.closed, h.leaving
	h.leaving = nil
	h.store.mu.Unlock()
	if closed {
		return errClosed
	}
	if leaving != nil {
		leaving()
	}
	return nil
}

// beat has the worker heard of until ctx ends or the worker is taken for lost.
func (h *Handle) beat(ctx context.Context) {
	for h.rest(ctx, heartbeatEvery) == nil {
		if h.thawed() != nil {
			return
		}
		h.mu.Lock()
		silent := h.silent
		h.mu.Unlock()
		if silent {
			continue
		}
		began := time.Now()
		paused := make(map[ledger.Scope]time.Time)
		err := h.exchange(ctx, "heartbeat", func(now time.Time) error {
			if err := h.fence(); err != nil {
				return err
			}
			h.member.heard = now
			if h.member.InFlight != nil {
				h.member.inFlight = h.member.InFlight()
			}
			for scope, until := range h.store.pauses {
				paused[scope] = began.Add(until.Sub(now))
			}
			return nil
		})
		h.mu.Lock()
		switch err {
		case nil:
			h.confirmed, h.paused = began, paused
		case ledger.ErrFenced:
			h.lost = err
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
	}
}

// Leave ends what Join began.
func (h *Handle) Leave(ctx context.Context) error {
	if err := h.stopHeartbeat(); err != nil {
		return err
	}
	h.mu.Lock()
	h.lost = ledger.ErrFenced
	h.mu.Unlock()
	return h.exchange(ctx, "leave", func(time.Time) error {
		if h.store.live(h.member) {
			h.store.expel(h.member)
		}
		h.member = nil
		return nil
	})
}

// Current returns nil as long as the worker is certain not to be taken for lost.
func (h *Handle) Current() error {
	if err := h.thawed(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch now := time.Now(); {
	case h.lost != nil:
		return h.lost
	case h.confirmed.IsZero():
		return ledger.ErrFenced
	// The monotonic clock stands while the machine sleeps, and the wall clock can be set.
	case max(now.Sub(h.confirmed), now.Round(0).Sub(h.confirmed.Round(0))) >= h.unheard:
		return ledger.ErrUnreachable
	}
	return nil
}

// Close hands over what was recorded, leaves, and ends the use of the handle.
func (h *Handle) Close() error {
	h.store.mu.Lock()
	closed, failed := h.closed, h.failed
	h.store.mu.Unlock()
	if closed {
		return nil
	}
	err := h.Leave(context.Background())
	h.store.mu.Lock()
	h.end()
	h.store.mu.Unlock()
	h.running.Wait()
	return cmp.Or(failed, err)
}
