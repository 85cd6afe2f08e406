package input

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"billdrop/cmd/billdrop/describe"
)

// Age is a number of whole days, of weeks or of years.
type Age time.Duration

// Since is how long ago something was: a number of whole hours, days or weeks.
type Since time.Duration

var (
	ageForm   = regexp.MustCompile(`^([0-9]{1,5})([dwy])$`)
	sinceForm = regexp.MustCompile(`^([0-9]{1,5})([hdw])$`)
)

// hours are those of each unit.
var hours = map[string]int{"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}

// UnmarshalText reads 90d, 12w or 7y.
func (a *Age) UnmarshalText(text []byte) error {
	return read((*time.Duration)(a), text, ageForm, "an age", "write a whole number of days, weeks or years, such as 90d, 12w or 7y")
}

// UnmarshalText reads 24h, 7d or 2w.
func (s *Since) UnmarshalText(text []byte) error {
	return read((*time.Duration)(s), text, sinceForm, "a time span", "write a whole number of hours, days or weeks, such as 24h, 7d or 2w")
}

// read sets d to a number with its unit.
func read(d *time.Duration, text []byte, form *regexp.Regexp, what, hint string) error {
	m := form.FindStringSubmatch(string(text))
	if m == nil {
		return describe.Advise(fmt.Errorf("%q is not %s", text, what), "%s", hint)
	}
	n, err := strconv.Atoi(m[1])
	*d = time.Duration(n*hours[m[2]]) * time.Hour
	return err
}
