package delivery

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	p := testPolicy()
	for n := 1; n < 100; n++ {
		for _, who := range []string{"", "INV-1", "INV-2"} {
			if d := p.backoff(who, n); d < p.BackoffMin || d > p.BackoffMax {
				t.Errorf("backoff(%q, %d) = %v", who, n, d)
			}
		}
	}
	if p.backoff("INV-1", 5) == p.backoff("INV-2", 5) {
		t.Error("two rows wait equally long: no jitter")
	}
	if p.backoff("INV-1", 1) > 2*p.BackoffMin {
		t.Errorf("first wait is %v", p.backoff("INV-1", 1))
	}
}

// The waits stay the same from version to version, so that a run can be repeated.
func TestBackoffIsPinned(t *testing.T) {
	usual := testPolicy()
	narrow := Policy{BackoffMin: 50 * time.Millisecond, BackoffMax: 75 * time.Millisecond}
	for _, c := range []struct {
		policy Policy
		who    string
		waits  []time.Duration
	}{
		{usual, "INV-1", []time.Duration{801271043, 1308423025, 1665020544, 2905951088, 1567437484, 17031310695, 41793371715, 976748651, 37166752194}},
		{narrow, "INV-1", []time.Duration{51815005, 60358789, 72484550, 62585282, 71328514}},
	} {
		for i, want := range c.waits {
			if got := c.policy.backoff(c.who, i+1); got != want {
				t.Errorf("try %d: %d, want %d", i+1, got, want)
			}
		}
	}
	if got := usual.backoff("", 70); got != 13973829206 {
		t.Errorf("try 70: %d", got)
	}
}
