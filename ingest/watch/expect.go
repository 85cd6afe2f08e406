package watch

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"billdrop/ingest/ledger"
)

// Expect is a file that a feed has to get by a certain time of certain days.
type Expect struct {
	Pattern string         // path.Match on the base name
	By      time.Duration  // what the clock shows when it is due: since midnight, whole minutes, under 24 h
	Zone    *time.Location // of that clock; nil = this machine's
	Days    []time.Weekday // on which it is due, by that clock; none = every day
}

// Overdue is an expected file that has not come.
type Overdue struct {
	Feed    string
	Pattern string
	Due     time.Time // in the zone of the expectation
}

// Text is what is the matter, and what to do.
func (o Overdue) Text() string {
	return fmt.Sprintf("no file that matches %q was claimed by %s: look for it in the inbox, else ask its sender",
		o.Pattern, o.Due.Format("Mon 2 Jan 2006 15:04 MST"))
}

// Due returns the latest time at which the file was due, now or before, and the one before
// that.
func (e *Expect) Due(now time.Time) (latest, previous time.Time) {
	zone := cmp.Or(e.Zone, time.Local)
	today := now.In(zone)
	// A day of the week comes back within seven days, so two of them lie within 14.
	for back := range 15 {
		day := time.Date(today.Year(), today.Month(), today.Day()-back, 12, 0, 0, 0, zone)
		if len(e.Days) > 0 && !slices.Contains(e.Days, day.Weekday()) {
			continue
		}
		switch due := e.on(day); {
		case due.After(now):
		case latest.IsZero():
			latest = due
		case due.Before(latest): // not the same day twice: clocks have skipped whole days
			return latest, due
		}
	}
	return latest, previous
}

// on returns when the file is due on a day. A time of day that the clocks skip is due at
// the change. Of one that they show twice, the second counts, so that no sender is called
// late too early.
func (e *Expect) on(day time.Time) time.Time {
	hour, minute := int(e.By/time.Hour), int(e.By%time.Hour/time.Minute)
	due := time.Date(day.Year(), day.Month(), day.Day(), hour, minute, 0, 0, day.Location())
	start, end := due.ZoneBounds()
	switch wanted := time.Date(day.Year(), day.Month(), day.Day(), hour, minute, 0, 0, time.UTC); wallClock(due).Compare(wanted) {
	case 1: // skipped; due is by the clock after the change
		return start
	case -1: // skipped; due is by the clock before the change
		return end
	}
	if !end.IsZero() {
		_, offset := due.Zone()
		_, next := end.Zone()
		if again := due.Add(time.Duration(offset-next) * time.Second); next < offset && !again.Before(end) {
			return again
		}
	}
	return due
}

// wallClock is what a clock on the wall shows at t, as a time in UTC, to be compared with
// another such.
func wallClock(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// Missed reports whether the file was due and has not come, and when it was due. It has
// come when a file of a matching name was received after the previous due time, whatever
// became of it, unless it was dropped unread. files are the feed's.
func (e *Expect) Missed(now time.Time, files []*ledger.File) (due time.Time, missed bool) {
	due, previous := e.Due(now)
	return due, !slices.ContainsFunc(files, func(f *ledger.File) bool {
		return f.State != ledger.Dropped && f.Received.After(previous) && e.matches(f.Name)
	})
}

func (e *Expect) matches(name string) bool {
	ok, err := path.Match(strings.ToLower(e.Pattern), strings.ToLower(name))
	return ok && err == nil
}

// FindOverdue compares what a feed expects with the files of the ledger. It returns nil
// when nothing is overdue, or nothing expected.
func FindOverdue(ctx context.Context, led ledger.Ledger, feed string, e *Expect, now time.Time) (*Overdue, error) {
	if e == nil {
		return nil, nil
	}
	_, previous := e.Due(now)
	// The newest come first: files are read until they reach back to the previous due time.
	for limit := 64; ; limit *= 8 {
		files, err := led.Files(ctx, ledger.Query{Feed: feed, ExcludeDropped: true, Limit: limit})
		if err != nil {
			return nil, err
		}
		due, missed := e.Missed(now, files)
		if !missed {
			return nil, nil
		}
		if len(files) < limit || !files[len(files)-1].Received.After(previous) {
			return &Overdue{Feed: feed, Pattern: e.Pattern, Due: due}, nil
		}
	}
}
