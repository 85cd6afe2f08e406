package groupcommit

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	maxBatch = 100
	gather   = 10 * time.Millisecond
)

var errClosed = errors.New("closed")

// newQueue returns a queue of ops for which a caller waits, if they are true.
func newQueue(commit func([]bool) error) *Queue[bool] {
	return New(Config[bool]{
		Commit: commit, Max: maxBatch, Gather: gather, Awaited: func(o bool) bool { return o }, Closed: errClosed,
	})
}

func TestQueueSharesCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		q := newQueue(func(ops []bool) error {
			sizes = append(sizes, len(ops))
			time.Sleep(5 * time.Millisecond) // the sync of a disk
			return nil
		})
		var waiting atomic.Int32
		for range 100 {
			go func() {
				if err := q.Do(t.Context(), true); err != nil {
					t.Error(err)
				}
				waiting.Add(-1)
			}()
			waiting.Add(1)
		}
		start := time.Now()
		synctest.Wait()
		if err := q.Barrier(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 20*time.Millisecond {
			t.Errorf("100 writes took %v: they did not share syncs", took)
		}
		synctest.Wait()
		if n := waiting.Load(); n != 0 {
			t.Errorf("%d callers still wait after a barrier", n)
		}
		if err := q.Close(); err != nil {
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
		q := newQueue(func(ops []bool) error { committed.Add(int64(len(ops))); return nil })
		defer q.Close()
		start := time.Now()
		for range 3 {
			if err := q.Add(t.Context(), true); err != nil {
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
		q := newQueue(func(ops []bool) error { committed.Add(int64(len(ops))); return nil })
		defer q.Close()
		for _, c := range []struct {
			joins  bool
			after  time.Duration
			before time.Duration
		}{{false, linger, gather}, {true, gather, 0}} {
			committed.Store(0)
			if err := q.Add(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if c.joins {
				if err := q.Add(t.Context(), true); err != nil {
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
		q := newQueue(func([]bool) error { <-proceed; return nil })
		var queued atomic.Int32
		const n = 3*maxBatch + 1
		for range n {
			go func() {
				if err := q.Add(t.Context(), true); err != nil {
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
		if err := q.Do(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("submit to a full queue: %v, want the context's error", err)
		}
		close(proceed)
		if err := q.Barrier(t.Context(), nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := queued.Load(); got != n {
			t.Errorf("%d writes were taken in the end, want %d", got, n)
		}
		if err := q.Close(); err != nil {
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
		q := newQueue(func([]bool) error {
			commits++
			<-proceed
			return broken
		})
		errs := make(chan error, 4)
		submit := func() { errs <- q.Do(t.Context(), true) }
		go submit()
		synctest.Wait() // in the commit
		go submit()
		go func() { errs <- q.Barrier(t.Context(), nil) }()
		synctest.Wait() // behind it
		close(proceed)
		synctest.Wait()
		submit()
		for range 4 {
			if err := <-errs; !errors.Is(err, broken) {
				t.Errorf("%v, want the failure", err)
			}
		}
		if err := q.Add(t.Context(), true); !errors.Is(err, broken) {
			t.Errorf("a write without waiting: %v, want the failure", err)
		}
		if err := q.Close(); !errors.Is(err, broken) {
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
		q := newQueue(func(ops []bool) error {
			time.Sleep(time.Second)
			written += len(ops)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := q.Do(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("submit: %v, want the context's error", err)
		}
		if err := q.Barrier(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("barrier: %v, want the context's error", err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if written != 1 {
			t.Errorf("%d writes, want 1", written)
		}
		if err := q.Do(t.Context(), true); !errors.Is(err, errClosed) {
			t.Errorf("submit after close: %v, want errClosed", err)
		}
	})
}

// A batch that does not gather has what came during the commit before it.
func TestQueueGathersDuringCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		q := New(Config[int]{Max: maxBatch, Commit: func(ops []int) error {
			sizes = append(sizes, len(ops))
			time.Sleep(5 * time.Millisecond)
			return nil
		}})
		defer q.Close()
		start := time.Now()
		for i := range 10 {
			go q.Do(t.Context(), i)
			synctest.Wait()
		}
		if err := q.Barrier(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 10*time.Millisecond || len(sizes) != 2 || sizes[0] != 1 || sizes[1] != 9 {
			t.Errorf("batches of %v in %v, want 1 and 9 in two commits", sizes, took)
		}
	})
}

// Where commits fail alone, what comes after a failure succeeds.
func TestQueueFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		q := New(Config[bool]{Max: maxBatch, FailAlone: true, Closed: errClosed, Commit: func(ops []bool) error {
			if !ops[0] {
				return broken
			}
			return nil
		}})
		for _, c := range []struct {
			op   bool
			want error
		}{{true, nil}, {false, broken}, {true, nil}} {
			if err := q.Do(t.Context(), c.op); !errors.Is(err, c.want) {
				t.Errorf("%v: %v, want %v", c.op, err, c.want)
			}
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if err := q.Do(t.Context(), true); !errors.Is(err, errClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Fail refuses what is queued and what comes, but not the commit under way. Renew ends that,
// if the failure is the one that it is for.
func TestQueueFailAndRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fenced, other := errors.New("fenced"), errors.New("other")
		proceed := make(chan struct{})
		q := newQueue(func([]bool) error { <-proceed; return nil })
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- q.DoNow(t.Context(), true) }()
			synctest.Wait() // the first is in the commit, the second behind it
		}
		q.Fail(fenced)
		q.Fail(other) // the first one stays
		if err := <-errs; !errors.Is(err, fenced) {
			t.Errorf("behind the commit: %v, want fenced", err)
		}
		if err := q.Add(t.Context(), true); !errors.Is(err, fenced) || !errors.Is(q.Err(), fenced) {
			t.Errorf("later: %v, %v, want fenced", err, q.Err())
		}
		go func() { errs <- q.Renew(t.Context(), fenced) }()
		synctest.Wait()
		select {
		case err := <-errs:
			t.Fatalf("renewed during a commit: %v", err)
		default:
		}
		close(proceed)
		for range 2 { // the first op, and Renew
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if err := q.DoNow(t.Context(), true); err != nil {
			t.Errorf("renewed: %v", err)
		}
		q.Fail(other)
		if err := q.Renew(t.Context(), fenced); !errors.Is(err, other) {
			t.Errorf("renewed after another failure: %v", err)
		}
		if err := q.Close(); !errors.Is(err, other) {
			t.Errorf("close: %v, want the failure", err)
		}
	})
}

// In an outage no caller waits: not for a commit, not for room, not later ones. What was queued
// is committed in the end.
func TestQueueOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		proceed := make(chan struct{})
		committed := 0
		q := newQueue(func(ops []bool) error { <-proceed; committed += len(ops); return nil })
		errs := make(chan error, 3*maxBatch)
		for range cap(errs) {
			go func() { errs <- q.Do(t.Context(), true) }()
		}
		synctest.Wait()
		q.Outage(away)
		q.Outage(errors.New("still away"))
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, away) {
				t.Fatalf("a caller got %v", err)
			}
		}
		if err := q.Barrier(t.Context(), nil); !errors.Is(err, away) {
			t.Errorf("barrier: %v", err)
		}
		if err := q.Add(t.Context(), true); !errors.Is(err, away) || !errors.Is(q.Err(), away) {
			t.Errorf("later: %v, %v", err, q.Err())
		}
		close(proceed)
		q.Outage(nil)
		if err := q.DoNow(t.Context(), true); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if committed != 2*maxBatch+1 {
			t.Errorf("%d were committed, want %d", committed, 2*maxBatch+1)
		}
	})
}
