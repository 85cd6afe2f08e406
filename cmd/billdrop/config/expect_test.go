package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestExpect(t *testing.T) {
	c, err := load(t, base+"    expect: {pattern: \"bills-*.csv\", by: 06:30, timezone: Africa/Johannesburg, days: [mon, sun]}\n", nil, all)
	if err != nil {
		t.Fatal(err)
	}
	e := c.Feeds[0].Expect
	by, ok := e.Clock()
	zone, err := e.Zone()
	if !ok || by != 6*time.Hour+30*time.Minute || err != nil || zone.String() != "Africa/Johannesburg" ||
		e.Pattern != "bills-*.csv" || !slices.Equal(e.Weekdays(), []time.Weekday{time.Monday, time.Sunday}) {
		t.Errorf("%+v: %v %t, %v %v, %v", e, by, ok, zone, err, e.Weekdays())
	}
	if zone, err := (Expect{}).Zone(); zone != time.Local || err != nil {
		t.Errorf("no timezone: %v, %v", zone, err)
	}
}

func TestExpectProblems(t *testing.T) {
	for keys, want := range map[string]string{
		`{pattern: "*.csv"}`:              "expect.by: is missing; write the time of day",
		`{timezone: UTC}`:                 "expect.by: is missing; write the time of day",
		`{by: "6:30"}`:                    "expect.by: is not valid; write hours and minutes",
		`{by: "24:00"}`:                   "expect.by: is not valid; write hours and minutes",
		`{by: "06:30:00"}`:                "expect.by: is not valid; write hours and minutes",
		`{by: "06:30", pattern: "["}`:     "expect.pattern: is not valid; write a pattern",
		`{by: "06:30", pattern: "a/b"}`:   "expect.pattern: is not valid; write a pattern",
		`{by: "06:30", pattern: "a.txt"}`: "expect.pattern: names a file that the feed's pattern does not match",
		`{by: "06:30", timezone: Mars}`:   "expect.timezone: is not a known time zone; write its IANA name",
		`{by: "06:30", timezone: "../x"}`: "expect.timezone: is not a known time zone; write its IANA name",
		`{by: "06:30", days: [monday]}`:   "expect.days[0]: is not valid; write one of mon, tue, wed, thu, fri, sat, sun",
		`{by: "06:30", grace: 5m}`:        "expect.grace: is not a known key",
		`{at: "06:30"}`:                   "expect.at: is not a known key",
		`"06:30"`:                         "expect: must be a section",
	} {
		_, err := load(t, base+"    expect: "+keys+"\n", nil, all)
		var problems *Errors
		if !errors.As(err, &problems) || len(problems.Problems) != 1 || !strings.Contains(err.Error(), ":14: feeds[0]."+want) {
			t.Errorf("%s: got %v, want %s", keys, err, want)
		}
	}
}
