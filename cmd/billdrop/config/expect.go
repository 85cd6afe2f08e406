package config

import (
	"path"
	"slices"
	"strings"
	"time"
)

// weekdays are the names of days, from Sunday on as in package time.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Clock is By as the time since midnight; false if By is not a time of day.
func (e Expect) Clock() (time.Duration, bool) {
	t, err := time.Parse("15:04", e.By)
	if err != nil || len(e.By) != len("15:04") {
		return 0, false
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, true
}

// Zone is the zone of Timezone, this machine's if there is none. It fails if neither the
// machine's data nor the program's own has the name.
func (e Expect) Zone() (*time.Location, error) {
	if e.Timezone == "" {
		return time.Local, nil
	}
	return time.LoadLocation(e.Timezone)
}

// Weekdays are the Days, without unknown names.
func (e Expect) Weekdays() []time.Weekday {
	var days []time.Weekday
	for _, name := range e.Days {
		if i := slices.Index(weekdays, name); i >= 0 {
			days = append(days, time.Weekday(i))
		}
	}
	return days
}

// checkExpect checks what file a feed expects.
func (k *checker) checkExpect(at string, f *Feed) {
	e := f.Expect
	switch _, ok := e.Clock(); {
	case e.By == "" && (e.Pattern != "" || e.Timezone != "" || len(e.Days) > 0):
		k.problem(join(at, "by"), "is missing; write the time of day at which the file is late, such as \"06:30\"")
	case e.By != "" && !ok:
		k.problem(join(at, "by"), "is not valid; write hours and minutes of a day of 24 hours in quotes, such as \"06:30\"")
	}
	if !isPattern(e.Pattern) {
		k.problem(join(at, "pattern"), "is not valid; write a pattern for file names such as \"bills-*.csv\"%s", patternHelp)
	} else if fits, _ := path.Match(strings.ToLower(f.Pattern), strings.ToLower(e.Pattern)); e.Pattern != "" && !fits && !strings.ContainsAny(e.Pattern, `*?[\`) {
		k.problem(join(at, "pattern"), "names a file that the feed's pattern does not match, so it is never taken; write one that it matches")
	}
	if _, err := e.Zone(); err != nil {
		k.problem(join(at, "timezone"), "is not a known time zone; write its IANA name, such as \"Africa/Johannesburg\" or \"UTC\", or leave it out for this machine's")
	}
	for i, day := range e.Days {
		k.oneOf(join(at, indexed("days", i)), day, append(weekdays[1:7:7], weekdays[0])...)
	}
}
