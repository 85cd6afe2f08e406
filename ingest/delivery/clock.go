package delivery

import (
	"context"
	"sync"
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// maxSkew is by how much this machine's clock and the API's may differ. Beyond it one of them
// is wrong, and a key's age by this machine's clock proves nothing.
const maxSkew = 5 * time.Minute

// clock compares this machine's clock with the API's (the Date of its answers, RFC 9110,
// section 6.6.1), and with itself.
type clock struct {
	now    func() time.Time // this machine's clock
	asking chan struct{}    // held while the API is asked for its time

	mu     sync.Mutex
	began  time.Time
	asked  bool          // the API was asked, whether or not it told its time
	told   time.Time     // when an answer last told the API's time; zero: none has
	offset time.Duration // the API's time less this machine's, if they differ by more than maxSkew
	back   bool          // this machine's clock was set back
}

// newClock returns a clock that compares now; nil = time.Now.
func newClock(now func() time.Time) *clock {
	if now == nil {
		now = time.Now
	}
	return &clock{now: now, asking: make(chan struct{}, 1), began: now()}
}

// observe compares with the time of an answer that has just arrived.
func (c *clock) observe(a client.Answer) {
	if a.Date.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.told = true, c.now()
	if c.offset = wall(c.now(), a.Date); c.offset.Abs() <= maxSkew {
		c.offset = 0
	}
}

// toAsk reports whether the API is to be asked for its time, which is so once.
func (c *clock) toAsk() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = true
	return !asked
}

// recorded compares with a time that the ledger holds. One in the future shows that the clock
// was set back.
func (c *clock) recorded(at time.Time) {
	if wall(c.now(), at) <= maxSkew {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back = true
}

// wrong reports whether a key's age by this machine's clock proves nothing.
func (c *clock) wrong() bool {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	// The wall clock may run ahead of the monotonic one, which stands during a suspend.
	c.back = c.back || wall(c.began, now) < now.Sub(c.began)-maxSkew
	return c.back || c.offset != 0
}

// earliest and latest are the time now, by whichever of the two clocks is behind or ahead. So a
// key's age comes out too high, if anything.
func (c *clock) earliest() time.Time { return c.now().Round(0).Add(min(0, c.difference())) }
func (c *clock) latest() time.Time   { return c.now().Round(0).Add(max(0, c.difference())) }

func (c *clock) difference() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// uncheckedSlack is how fast a clock that was not checked may be. A key that was first used by
// such a clock is usable for keyLifetime less this time.
const uncheckedSlack = 14 * time.Hour

// firstUse returns the time to record for a key that this process first committed at first, with
// its monotonic reading: never later than that moment. While this machine's clock was not compared
// with the API's since it was last set, it may be fast, and once it is corrected the key would
// look too young. So the time is uncheckedSlack earlier until then.
func (c *clock) firstUse(first time.Time) time.Time {
	now := c.now()
	c.mu.Lock()
	told := c.told
	c.mu.Unlock()
	used := now.Round(0).Add(min(0, c.difference()) - elapsed(first, now))
	if told.IsZero() || (wall(told, now)-now.Sub(told)).Abs() > maxSkew {
		used = used.Add(-uncheckedSlack)
	}
	return used
}

// usable reports whether a key may be sent now that this run first committed at first, or, if
// that is zero, an earlier run at recorded.
func (c *clock) usable(first, recorded time.Time) bool {
	if first.IsZero() {
		return keyUsable(recorded, c.latest())
	}
	return elapsed(first, c.now()) < keyLifetime
}

// elapsed returns the time between two moments of this process, by the clock that ran longer: the
// wall clock may be set back, and the monotonic one stands while the machine is suspended.
func elapsed(from, to time.Time) time.Duration { return max(wall(from, to), to.Sub(from)) }

// wall returns the time from one moment to another by the wall clock. Without Round, Sub uses
// the monotonic clock.
func wall(from, to time.Time) time.Duration { return to.Round(0).Sub(from.Round(0)) }

// askClock lets a row that an earlier run sent look at the API's clock before it trusts its
// key's age, unless an answer has told the time already.
func (d *delivery) askClock(ctx context.Context) (found bool, err error) {
	c := d.lane.clock
	d.park()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-d.gate.closed:
		return false, d.gate.err()
	}
	if !c.toAsk() {
		return false, nil
	}
	a, err := d.ask(ctx, d.lane.api.GetBill, d.bill.Reference)
	return a.Kind == client.Found, err
}

// checkClock replaces a decision to send a key of an earlier run again, if the clocks cannot be
// trusted: then the bill is looked up first.
func (d *delivery) checkClock(ctx context.Context, todo decision) (decision, error) {
	if todo.Do != stepResend {
		return todo, nil
	}
	found, err := d.askClock(ctx)
	if err != nil {
		return decision{}, err
	}
	return clockStep(todo, found || d.lane.clock.wrong(), d.rec), nil
}

// clockStep decides whether the key of an earlier run is sent again.
func clockStep(todo decision, doubtful bool, rec *ledger.Bill) decision {
	if todo.Do == stepResend && doubtful && rec.Send.Count > 0 {
		return decision{Do: stepLookUp, Cause: causeExpired}
	}
	return todo
}
