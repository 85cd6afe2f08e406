package payments

import (
	"fmt"
	"strings"
	"time"
)

// Schedule says when reports are due. Its zero value is not one; see ParseSchedule.
type Schedule struct {
	every time.Duration // 0 = daily
	at    time.Duration // since midnight
	zone  *time.Location
}

// minEvery is the shortest time between two reports.
const minEvery = time.Second

// ParseSchedule reads a duration of at least 1s, such as 1h, or a time of day such as "daily
// 06:00" in a zone.
func ParseSchedule(s string, zone *time.Location) (Schedule, error) {
	if clock, daily := strings.CutPrefix(s, "daily "); daily {
		t, err := time.Parse("15:04", clock)
		if err != nil || len(clock) != len("15:04") {
			return Schedule{}, fmt.Errorf("%q is not a time of day", clock)
		}
		return Schedule{at: time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, zone: zone}, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < minEvery {
		return Schedule{}, fmt.Errorf("it is not a duration of at least %s", minEvery)
	}
	return Schedule{every: d}, nil
}

// due reports whether a report is due at now, when the last one was begun at last (zero = there
// was none) and the oldest payment that is in none was received at oldest.
func (s Schedule) due(now, last, oldest time.Time) bool {
	if s.every > 0 {
		// A clock that was set back must not delay reports for ever.
		return last.IsZero() || now.Sub(last) >= s.every || last.After(now)
	}
	latest := s.latest(now)
	if last.IsZero() {
		last = oldest
	}
	return last.Before(latest)
}

// latest returns the latest daily time that is not after now.
func (s Schedule) latest(now time.Time) time.Time {
	y, m, d := now.In(s.zone).Date()
	for {
		// time.Date takes an hour that a change of clocks skips for the one after it.
		at := time.Date(y, m, d, int(s.at/time.Hour), int(s.at%time.Hour/time.Minute), 0, 0, s.zone)
		if !at.After(now) {
			return at
		}
		d--
	}
}
