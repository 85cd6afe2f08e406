package billfile

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// isoDate is the layout of dates in the API, and in files unless the feed says otherwise.
const isoDate = "2006-01-02"

// Years that a bill may be of. Others are slips of the pen, or what programs write for no date.
const minYear, maxYear = 2000, 2099

// checkDateFormat returns an error unless layout carries a whole date and nothing else.
func checkDateFormat(layout string) error {
	day := time.Date(2031, 11, 28, 0, 0, 0, 0, time.UTC)
	other := time.Date(2032, 12, 27, 23, 59, 58, 0, time.UTC)
	for _, t := range [...]time.Time{day, other} {
		back, err := time.Parse(layout, t.Format(layout))
		if err != nil || back.Year() != t.Year() || back.Month() != t.Month() || back.Day() != t.Day() || back.Hour() != 0 || back.Minute() != 0 || back.Second() != 0 {
			return fmt.Errorf("date_format: %q is not a date layout: write how 2 January 2006 looks, such as 2006-01-02 or 02/01/2006", layout)
		}
	}
	return nil
}

// dateFormat is how a feed writes dates, with the details of its findings.
type dateFormat struct {
	layout string
	form   string // a day in it
	want   string
	noDay  string
	other  string // of a cell that has another format
}

func newDateFormat(layout string) dateFormat {
	form := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC).Format(layout)
	want := ": write it in the form " + form
	noDay := " is not a day of the calendar, or not in this feed's form"
	return dateFormat{
		layout: layout, form: form, want: want, noDay: noDay + want,
		other: noDay + " (it looks like another date format, perhaps with day and month the other way round; none is guessed)" + want,
	}
}

// parse reads a date strictly and returns it as YYYY-MM-DD.
func (d dateFormat) parse(s string) (string, finding) {
	t, err := time.Parse(d.layout, s)
	if err != nil {
		return "", d.bad(s)
	}
	// In most layouts time.Parse ignores missing leading zeros and extra spaces, so the date must
	// look the same when it is written again.
	if d.layout != isoDate && !strings.EqualFold(t.Format(d.layout), s) {
		return "", d.bad(s)
	}
	switch {
	case t.Year() < minYear, t.Year() > maxYear:
		return "", finding{CodeDateOutOfRange, s, " is not in the years 2000 to 2099: correct the year, or leave the cell blank if there is no date"}
	case d.layout == isoDate:
		return s, finding{}
	}
	return t.Format(isoDate), finding{}
}

// bad returns what is wrong with text that is not a date in the feed's format.
func (d dateFormat) bad(s string) finding {
	switch {
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " is the error value " + quote(s) + " of a spreadsheet: correct the formula and export the file again"}
	case scientific(s, false):
		return finding{CodeSpreadsheetDamage, s, " was shortened by a spreadsheet" + d.want}
	case len(s) == 5 && isDigits(s) && s >= "20000" && s < "80000":
		return finding{CodeInvalidDate, s, " looks like a spreadsheet's serial number of a day: format the column as a date" + d.want}
	case isDigits(s) && (len(s) == 10 || len(s) == 13) && (s[0] == '1' || s[0] == '2'):
		return finding{CodeInvalidDate, s, " looks like a count of seconds, a moment in UTC, where the day may still be the one before: write the local date, in the form " + d.form}
	case strings.Trim(s, "0-/. :") == "":
		return finding{CodeInvalidDate, s, " is what programs write for no date: write the date in the form " + d.form + ", or leave the cell blank"}
	case hasTime(s):
		if hasZone(s) {
			return finding{CodeInvalidDate, s, " is a moment with a time zone, not a date; in UTC, late evening is the next day in South Africa: write the local date, in the form " + d.form}
		}
		return finding{CodeInvalidDate, s, " has a time behind the date; if that is the time in UTC, late evening is the next day in South Africa: write the local date alone, in the form " + d.form}
	}
	if d.otherFormat(s) {
		return finding{CodeInvalidDate, s, d.other}
	}
	return finding{CodeInvalidDate, s, d.noDay}
}

// hasTime reports whether s is a date with a time of day behind it.
func hasTime(s string) bool {
	if len(s) > 8 && s[8] == 'T' && isDigits(s[:8]) {
		return true
	}
	i := strings.IndexAny(s, "T ")
	return i >= 6 && i < len(s)-3 && isDigit(s[0]) && isDigit(s[i+1]) && strings.IndexByte(s[i:], ':') > 0
}

// hasZone reports whether a date with a time ends in a time zone: Z, UTC, GMT, or an offset.
func hasZone(s string) bool {
	if strings.HasSuffix(s, "Z") || strings.HasSuffix(s, "UTC") || strings.HasSuffix(s, "GMT") {
		return true
	}
	i := strings.LastIndexAny(s, "+-")
	return i > 10 && strings.Trim(s[i+1:], "0123456789:") == ""
}

// usualDates are common layouts by the characters between their parts.
var usualDates = map[string][]string{
	"--":  {isoDate, "02-01-2006", "01-02-2006", "2006-02-01", "2-Jan-06"},
	"//":  {"02/01/2006", "01/02/2006", "2006/01/02", "2/1/2006", "1/2/2006", "02/01/06", "01/02/06"},
	"..":  {"02.01.2006"},
	"":    {"20060102"},
	"  ":  {"2 Jan 2006"},
	" , ": {"Jan 2, 2006"},
}

// otherFormat reports whether s is a date in a common format that is not the feed's.
func (d dateFormat) otherFormat(s string) bool {
	var space [8]byte
	between := space[:0]
	for i := range len(s) {
		if !isDigit(s[i]) && !isLetter(s[i]) {
			between = append(between, s[i])
		}
	}
	return slices.ContainsFunc(usualDates[string(between)], func(layout string) bool {
		_, err := time.Parse(layout, s)
		return err == nil && layout != d.layout
	})
}
