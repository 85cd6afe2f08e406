package delivery

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// standing returns t as it would be if the monotonic clock had stood for that long before it
// (a suspend), or had run on while the wall clock was set back, for a negative duration.
func standing(tb testing.TB, t time.Time, stood time.Duration) time.Time {
	changed := t
	(*[2]int64)(unsafe.Pointer(&changed))[1] -= int64(stood) // the monotonic reading; see type time.Time
	if wall(t, changed) != 0 || changed.Sub(t) != -stood {
		tb.Fatalf("%v by the wall clock, %v by the monotonic clock", wall(t, changed), changed.Sub(t))
	}
	return changed
}

// A key grows old while the machine is suspended, although the monotonic clock stands.
func TestKeyUsableAfterSuspend(t *testing.T) {
	first := time.Now()
	if !keyUsable(first, first.Add(19*time.Hour)) {
		t.Error("after 19 hours a key is not usable")
	}
	if woken := standing(t, first.Add(26*time.Hour), 25*time.Hour); keyUsable(first, woken) {
		t.Error("a key is usable 26 hours after its first use, of which 25 were a suspend")
	}
}

// A key of an earlier run is not sent again on the word of a clock that is known to be wrong.
func TestClockStep(t *testing.T) {
	sent := &ledger.Bill{State: ledger.Pending, Send: ledger.Send{Key: "k", Count: 1}}
	unsent := &ledger.Bill{State: ledger.Pending, Send: ledger.Send{Key: "k"}}
	look := decision{Do: stepLookUp, Cause: causeExpired}
	for _, tt := range []struct {
		name     string
		todo     decision
		doubtful bool
		rec      *ledger.Bill
		want     decision
	}{
		{"clocks agree", decision{Do: stepResend}, false, sent, decision{Do: stepResend}},
		{"clocks differ", decision{Do: stepResend}, true, sent, look},
		{"clocks differ, nothing was sent", decision{Do: stepResend}, true, unsent, decision{Do: stepResend}},
		{"clocks differ, a new row", decision{Do: stepSend}, true, nil, decision{Do: stepSend}},
		{"clocks differ, the bill is known", decision{Do: stepCompare}, true, sent, decision{Do: stepCompare}},
	} {
		if got := clockStep(tt.todo, tt.doubtful, tt.rec); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestClock(t *testing.T) {
	for _, tt := range []struct {
		name             string
		ahead            time.Duration // the API's clock
		wrong            bool
		earliest, latest time.Duration // from this machine's
	}{
		{"agree", 0, false, 0, 0},
		{"5 min", 5 * time.Minute, false, 0, 0},
		{"this machine's is slow", 5*time.Minute + 1, true, 0, 5*time.Minute + 1},
		{"this machine's is fast", -10 * time.Hour, true, -10 * time.Hour, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, now := newClock(nil), time.Now()
			c.observe(client.Answer{Date: now.Add(tt.ahead)})
			c.observe(client.Answer{}) // without a Date
			if got := c.wrong(); got != tt.wrong {
				t.Errorf("%s: wrong is %v", tt.name, got)
			}
			if e, l := c.earliest().Sub(now), c.latest().Sub(now); e != tt.earliest || l != tt.latest {
				t.Errorf("%s: %v to %v, want %v to %v", tt.name, e, l, tt.earliest, tt.latest)
			}
		})
	}
}

// That the clock was set back shows in the ledger's times, or against the monotonic clock.
func TestClockSetBack(t *testing.T) {
	c := newClock(nil)
	c.recorded(time.Now().Add(maxSkew - time.Minute))
	if c.wrong() {
		t.Error("a few minutes are taken for a clock that was set back")
	}
	c.recorded(time.Now().Add(time.Hour))
	if !c.wrong() {
		t.Error("the ledger holds a time in the future, and the clock counts as right")
	}
	began := standing(t, time.Now().Add(-time.Hour), 2*time.Hour)
	if c := (&clock{now: time.Now, began: began}); !c.wrong() {
		t.Error("one hour by the wall clock in three by the monotonic one, and the clock counts as right")
	}
	began = standing(t, time.Now().Add(-26*time.Hour), -25*time.Hour)
	if c := (&clock{now: time.Now, began: began}); c.wrong() {
		t.Error("a suspend is taken for a clock that was set back")
	}
}

// The first use of a key is recorded once the API has told its time, and corrected by it.
func TestFirstUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, first := newClock(nil), time.Now()
		if got := c.firstUse(first); !got.Equal(first.Add(-uncheckedSlack)) {
			t.Errorf("before an answer: %v, want %v less the slack", got, first)
		}
		time.Sleep(time.Minute)
		c.observe(client.Answer{}) // without a Date
		if got, want := c.firstUse(first), first.Add(-uncheckedSlack); !got.Equal(want) {
			t.Errorf("after an answer without a date: %v, want %v", got, want)
		}
		c.observe(client.Answer{Date: time.Now()})
		if got := c.firstUse(first); !got.Equal(first) {
			t.Errorf("clocks agree: %v, want %v", got, first)
		}
		c.observe(client.Answer{Date: time.Now().Add(-10 * time.Hour)})
		if got, want := c.firstUse(first), first.Add(-10*time.Hour); !got.Equal(want) {
			t.Errorf("this machine's clock is 10 h fast: %v, want %v", got, want)
		}
		c.observe(client.Answer{Date: time.Now().Add(10 * time.Hour)})
		if got := c.firstUse(first); !got.Equal(first) {
			t.Errorf("this machine's clock is 10 h slow: %v, want %v", got, first)
		}
	})
	now := time.Now() // a time of synctest has no monotonic reading
	c := &clock{now: time.Now, told: standing(t, now.Add(-time.Second), 10*time.Hour)}
	if got, want := c.firstUse(now), now.Add(-uncheckedSlack); got.After(want) {
		t.Errorf("the clock was set since the last answer: %v, want %v", got, want)
	}
}

// The age of a key within a run is by the clock that ran longer.
func TestElapsed(t *testing.T) {
	from := time.Now()
	if got := elapsed(from, standing(t, from.Add(26*time.Hour), 25*time.Hour)); got != 26*time.Hour {
		t.Errorf("across a suspend: %v", got)
	}
	if got := elapsed(from, standing(t, from.Add(time.Hour), -2*time.Hour)); got != 3*time.Hour {
		t.Errorf("with a clock set back: %v", got)
	}
}
