package billfile

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// isISO reports whether the reader of dates takes s for a day, be it out of range.
func isISO(s string) bool {
	_, f := newDateFormat(isoDate).parse(s)
	return f.code == "" || f.code == CodeDateOutOfRange
}

// The reader of ISO dates agrees with the calendar.
func TestISODates(t *testing.T) {
	for day := time.Date(1899, 12, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2110; day = day.AddDate(0, 0, 1) {
		s := day.Format(isoDate)
		if got := isISO(s); !got {
			t.Fatalf("%s: got %v", s, got)
		}
	}
	for year := 1999; year < 2009; year++ {
		for month := range 14 {
			for day := range 33 {
				s := fmt.Sprintf("%04d-%02d-%02d", year, month, day)
				_, err := time.Parse(isoDate, s)
				if got := isISO(s); got != (err == nil) {
					t.Fatalf("%s: got %v, the calendar says %v", s, got, err)
				}
			}
		}
	}
}

func TestDateHints(t *testing.T) {
	for cell, want := range map[string]string{
		"46053": "serial number", "31/01/2026": "another date format", "2026-31-01": "the other way round", "2026-01-31T00:00:00Z": "time",
	} {
		if _, f := newDateFormat(isoDate).parse(cell); f.code != CodeInvalidDate || !strings.Contains(f.detail, want) {
			t.Errorf("%s: got %v, want a hint at %q", cell, f, want)
		}
	}
}
