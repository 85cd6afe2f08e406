package sqlite

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/ingest/ledger"
)

// nop is an op that is never applied: these tests commit by themselves.
type nop struct{}

func (nop) apply(*writer) error { return nil }

// do submits an op and waits for it, as Begin does.
func do(ctx context.Context, q *queue) error {
	b, err := q.submit(ctx, nop{})
	if err != nil {
		return err
	}
	return b.wait(ctx)
}

func TestQueueSharesCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		q := newQueue(func(ops []op) error {
			sizes = append(sizes, len(ops))
			time.Sleep(5 * time.Millisecond) // the sync of a disk
			return nil
		})
		var waiting atomic.Int32
		for range 100 {
			go func() {
				if err := do(t.Context(), q); err != nil {
					t.Error(err)
				}
				waiting.Add(-1)
			}()
			waiting.Add(1)
		}
		start := time.Now()
		synctest.Wait()
		if err := q.barrier(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 20*time.Millisecond {
			t.Errorf("100 writes took %v: they did not share syncs", took)
		}
		synctest.Wait()
		if n := waiting.Load(); n != 0 {
			t.Errorf("%d callers still wait after a barrier", n)
		}
		if err := q.close(); err != nil {
			t.Error(err)
		}
		total := 0
		for _, n := range sizes {
			total += n
		}
		if total != 100 {
			t.Errorf("batches %v hold %d writes, want 100", sizes, total)
		}
	})
}

// A write is committed when its batch has gathered long enough, with what came in the
// meantime.
func TestQueueGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var committed atomic.Int64
		q := newQueue(func(ops []op) error { committed.Add(int64(len(ops))); return nil })
		defer q.close()
		start := time.Now()
		for range 3 {
			if _, err := q.submit(t.Context(), nop{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(gather / 4)
		}
		synctest.Wait()
		if n := committed.Load(); n != 0 {
			t.Errorf("%d writes were committed after %v", n, time.Since(start))
		}
		time.Sleep(gather / 4)
		synctest.Wait()
		if n := committed.Load(); n != 3 {
			t.Errorf("%d writes were committed after %v, want 3", n, time.Since(start))
		}
	})
}

// A write for which no caller waits gathers longer, unless one joins it for which a caller waits.
func TestQueueLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var committed atomic.Int64
		q := newQueue(func(ops []op) error { committed.Add(int64(len(ops))); return nil })
		defer q.close()
		for _, c := range []struct {
			joins  bool
			after  time.Duration
			before time.Duration
		}{{false, linger, gather}, {true, gather, 0}} {
			committed.Store(0)
			if _, err := q.submit(t.Context(), &record{}); err != nil {
				t.Fatal(err)
			}
			if c.joins {
				if _, err := q.submit(t.Context(), nop{}); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(c.before)
			synctest.Wait()
			if n := committed.Load(); n != 0 {
				t.Errorf("joined: %v: %d writes were committed after %v", c.joins, n, c.before)
			}
			time.Sleep(c.after - c.before)
			synctest.Wait()
			if n := committed.Load(); n == 0 {
				t.Errorf("joined: %v: nothing was committed after %v", c.joins, c.after)
			}
		}
	})
}

// A full queue holds callers back, not memory, and lets them go when it has room or they
// have had enough.
func TestQueueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		q := newQueue(func([]op) error { <-proceed; return nil })
		var queued atomic.Int32
		const n = 3*maxBatch + 1
		for range n {
			go func() {
				if _, err := q.submit(t.Context(), nop{}); err != nil {
					t.Error(err)
				}
				queued.Add(1)
			}()
		}
		synctest.Wait()
		if got := queued.Load(); got != 2*maxBatch { // one batch in the commit, one waiting
			t.Errorf("%d writes were taken, want %d", got, 2*maxBatch)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := do(ctx, q); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("submit to a full queue: %v, want the context's error", err)
		}
		close(proceed)
		if err := q.barrier(t.Context(), nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := queued.Load(); got != n {
			t.Errorf("%d writes were taken in the end, want %d", got, n)
		}
		if err := q.close(); err != nil {
			t.Error(err)
		}
	})
}

// A failed commit fails its own callers, those queued behind it, and everybody later;
// none of the latter is tried.
func TestQueueFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		proceed := make(chan struct{})
		commits := 0
		q := newQueue(func([]op) error {
			commits++
			<-proceed
			return broken
		})
		errs := make(chan error, 4)
		submit := func() { errs <- do(t.Context(), q) }
		go submit()
		synctest.Wait() // in the commit
		go submit()
		go func() { errs <- q.barrier(t.Context(), nil) }()
		synctest.Wait() // behind it
		close(proceed)
		synctest.Wait()
		submit()
		for range 4 {
			if err := <-errs; !errors.Is(err, broken) {
				t.Errorf("%v, want the failure", err)
			}
		}
		if _, err := q.submit(t.Context(), nop{}); !errors.Is(err, broken) {
			t.Errorf("a write without waiting: %v, want the failure", err)
		}
		if err := q.close(); !errors.Is(err, broken) {
			t.Errorf("close: %v, want the failure", err)
		}
		if commits != 1 {
			t.Errorf("%d commits were tried, want 1", commits)
		}
	})
}

// A caller whose context ends leaves; what it queued is written.
func TestQueueContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		q := newQueue(func(ops []op) error {
			time.Sleep(time.Second)
			written += len(ops)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := do(ctx, q); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("submit: %v, want the context's error", err)
		}
		if err := q.barrier(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("barrier: %v, want the context's error", err)
		}
		if err := q.close(); err != nil {
			t.Error(err)
		}
		if written != 1 {
			t.Errorf("%d writes, want 1", written)
		}
		if err := do(t.Context(), q); !errors.Is(err, ledger.ErrUnusable) {
			t.Errorf("submit after close: %v, want ErrUnusable", err)
		}
	})
}
