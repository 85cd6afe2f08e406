package watch

import (
	"context"
	"fmt"
	"testing"
	"time"
	_ "time/tzdata" // zones, whatever the machine has

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestDue(t *testing.T) {
	t.Parallel()
	weekdays := []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	for _, c := range []struct {
		name         string
		zone         string
		by           string
		days         []time.Weekday
		now          string // RFC 3339
		due, earlier string // likewise, in the zone
	}{
		{"a minute before", "Africa/Johannesburg", "6h30m", nil, "2026-11-23T04:29:00Z", "2026-11-22T06:30:00+02:00", "2026-11-21T06:30:00+02:00"},
		{"on time", "Africa/Johannesburg", "6h30m", nil, "2026-11-23T04:30:00Z", "2026-11-23T06:30:00+02:00", "2026-11-22T06:30:00+02:00"},
		{"the day there, not here", "Pacific/Auckland", "6h30m", nil, "2026-06-30T20:00:00Z", "2026-07-01T06:30:00+12:00", "2026-06-30T06:30:00+12:00"},
		{"midnight", "Africa/Johannesburg", "0s", nil, "2026-11-22T22:00:00Z", "2026-11-23T00:00:00+02:00", "2026-11-22T00:00:00+02:00"},
		{"before midnight", "Africa/Johannesburg", "23h59m", nil, "2026-11-23T08:00:00Z", "2026-11-22T23:59:00+02:00", "2026-11-21T23:59:00+02:00"},
		{"Monday after a weekend", "UTC", "6h30m", weekdays, "2026-11-23T06:30:00Z", "2026-11-23T06:30:00Z", "2026-11-20T06:30:00Z"},
		{"weekend", "UTC", "6h30m", weekdays, "2026-11-22T12:00:00Z", "2026-11-20T06:30:00Z", "2026-11-19T06:30:00Z"},
		{"once a week, just before", "UTC", "6h30m", []time.Weekday{time.Monday}, "2026-11-23T06:29:00Z", "2026-11-16T06:30:00Z", "2026-11-09T06:30:00Z"},

		// Clocks go forward: 02:30 does not exist on 8 March in New York, 00:15 not on 24
		// April in Cairo. It is due at the change.
		{"skipped", "America/New_York", "2h30m", nil, "2026-03-08T07:00:00Z", "2026-03-08T03:00:00-04:00", "2026-03-07T02:30:00-05:00"},
		{"not due before the change", "America/New_York", "2h30m", nil, "2026-03-08T06:59:00Z", "2026-03-07T02:30:00-05:00", "2026-03-06T02:30:00-05:00"},
		{"skipped at midnight", "Africa/Cairo", "15m", nil, "2026-04-23T22:00:00Z", "2026-04-24T01:00:00+03:00", "2026-04-23T00:15:00+02:00"},
		{"skipped, east of Greenwich", "Europe/Berlin", "2h30m", nil, "2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00", "2026-03-28T02:30:00+01:00"},
		{"a day of 23 hours", "Europe/Berlin", "6h30m", nil, "2026-03-29T05:00:00Z", "2026-03-29T06:30:00+02:00", "2026-03-28T06:30:00+01:00"},
		// Clocks go back: 01:30 and 02:30 come twice. The second counts.
		{"first of two", "America/New_York", "1h30m", nil, "2026-11-01T05:30:00Z", "2026-10-31T01:30:00-04:00", "2026-10-30T01:30:00-04:00"},
		{"second of two", "America/New_York", "1h30m", nil, "2026-11-01T06:30:00Z", "2026-11-01T01:30:00-05:00", "2026-10-31T01:30:00-04:00"},
		{"second of two, east", "Europe/Berlin", "2h30m", nil, "2026-10-25T01:30:00Z", "2026-10-25T02:30:00+01:00", "2026-10-24T02:30:00+02:00"},
		{"before both, east", "Europe/Berlin", "2h30m", nil, "2026-10-25T01:29:00Z", "2026-10-24T02:30:00+02:00", "2026-10-23T02:30:00+02:00"},
		{"just before the change", "America/New_York", "59m", nil, "2026-11-01T04:59:00Z", "2026-11-01T00:59:00-04:00", "2026-10-31T00:59:00-04:00"},
		// Apia had no 30 December 2011 at all, so nothing was due on it.
		{"a day that was skipped", "Pacific/Apia", "6h30m", nil, "2011-12-30T16:30:00Z", "2011-12-31T06:30:00+14:00", "2011-12-29T06:30:00-10:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			by, err := time.ParseDuration(c.by)
			if err != nil {
				t.Fatal(err)
			}
			now, err := time.Parse(time.RFC3339, c.now)
			if err != nil {
				t.Fatal(err)
			}
			e := Expect{Pattern: "*", By: by, Zone: zone(t, c.zone), Days: c.days}
			due, earlier := e.Due(now)
			if got := due.Format(time.RFC3339); got != c.due {
				t.Errorf("due %s, want %s", got, c.due)
			}
			if got := earlier.Format(time.RFC3339); got != c.earlier {
				t.Errorf("before that %s, want %s", got, c.earlier)
			}
		})
	}
}

// Due times are times of the day, some day, not after now, in every zone and at every
// change of its clocks.
func TestDueIsOrdered(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"UTC", "America/New_York", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu"} {
		for by := time.Duration(0); by < 24*time.Hour; by += 45 * time.Minute {
			e := Expect{By: by, Zone: zone(t, name)}
			last := time.Time{}
			for now := time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC); now.Year() < 2019; now = now.Add(7 * time.Hour) {
				due, earlier := e.Due(now)
				if due.After(now) || !earlier.Before(due) || due.Before(last) || now.Sub(due) > 26*time.Hour || due.Sub(earlier) > 26*time.Hour {
					t.Fatalf("%s, by %v, now %v: due %v, before that %v, at the last look %v", name, by, now, due, earlier, last)
				}
				last = due
			}
		}
	}
}

func TestMissed(t *testing.T) {
	t.Parallel()
	e := Expect{Pattern: "bills-*.csv", By: 6*time.Hour + 30*time.Minute, Zone: time.UTC}
	now := time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)
	file := func(name string, state ledger.FileState, ago time.Duration) *ledger.File {
		return &ledger.File{Name: name, State: state, Received: now.Add(-ago)}
	}
	for name, c := range map[string]struct {
		file *ledger.File
		want bool
	}{
		"done":                          {file("bills-1.csv", ledger.Done, time.Hour), false},
		"late":                          {file("bills-1.csv", ledger.Sending, time.Minute), false},
		"held":                          {file("bills-1.csv", ledger.Held, time.Hour), false},
		"being claimed":                 {file("bills-1.csv", ledger.Claiming, time.Hour), false},
		"dropped":                       {file("bills-1.csv", ledger.Dropped, time.Hour), true},
		"another name":                  {file("notes.csv", ledger.Done, time.Hour), true},
		"yesterday's":                   {file("bills-1.csv", ledger.Done, 25*time.Hour), true},
		"yesterday's, to the minute":    {file("bills-1.csv", ledger.Done, 24*time.Hour+30*time.Minute), true},
		"early, just after yesterday's": {file("bills-1.csv", ledger.Done, 24*time.Hour+29*time.Minute), false},
	} {
		due, missed := e.Missed(now, []*ledger.File{file("x.csv", ledger.Done, 0), c.file})
		if missed != c.want || !due.Equal(time.Date(2026, 11, 23, 6, 30, 0, 0, time.UTC)) {
			t.Errorf("%s: missed %t at %v", name, missed, due)
		}
	}
	if _, missed := e.Missed(now, nil); !missed {
		t.Error("nothing at all: not missed")
	}
}

// The file is found however many others came after it, and no more is read than reaches
// back to the time before.
func TestFindOverdue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)
	e := &Expect{Pattern: "bills.csv", By: 6 * time.Hour, Zone: time.UTC}
	for name, c := range map[string]struct {
		files int           // others, a second apart, up to now
		ago   time.Duration // when the file was received; 0 = never
		feed  string
		want  bool
	}{
		"empty ledger":         {0, 0, "bills", true},
		"others only":          {700, 0, "bills", true},
		"exactly a first read": {64, 0, "bills", true},
		"behind many":          {700, 2 * time.Hour, "bills", false},
		"in another feed":      {10, time.Hour, "more", true},
		"too long ago":         {10, 30 * time.Hour, "bills", true},
	} {
		led := ledgertest.NewMemory()
		add := func(name, feed string, received time.Time) {
			t.Helper()
			f := &ledger.File{ID: fmt.Sprint(name, feed, received.UnixNano()), Feed: feed, Name: name, State: ledger.Done, Received: received}
			if err := led.AddFile(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		for i := range c.files {
			add("other.csv", "bills", now.Add(-time.Duration(i)*time.Second))
		}
		if c.ago > 0 {
			add("bills.csv", c.feed, now.Add(-c.ago))
		}
		m, err := FindOverdue(context.Background(), led, "bills", e, now)
		if err != nil || (m != nil) != c.want {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if m != nil && (m.Feed != "bills" || m.Pattern != "bills.csv" || !m.Due.Equal(now.Add(-time.Hour))) {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if m, err := FindOverdue(context.Background(), ledgertest.NewMemory(), "bills", nil, now); m != nil || err != nil {
		t.Errorf("nothing is expected: %+v, %v", m, err)
	}
}
