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
	m := ageForm.FindStringSubmatch(string(text))
	if m == nil {
		return describe.Advise(fmt.Errorf("%q is not an age", text), "write a whole number of days, weeks or years, such as 90d, 12w or 7y")
	}
	d, err := span(m)
	*a = Age(d)
	return err
}

// UnmarshalText reads 24h, 7d or 2w.
func (s *Since) UnmarshalText(text []byte) error {
	m := sinceForm.FindStringSubmatch(string(text))
	if m == nil {
		return describe.Advise(fmt.Errorf("%q is not a time span", text), "write a whole number of hours, days or weeks, such as 24h, 7d or 2w")
	}
	d, err := span(m)
	*s = Since(d)
	return err
}

// span is a number and its unit, which were matched.
func span(m []string) (time.Duration, error) {
	n, err := strconv.Atoi(m[1])
	return time.Duration(n*hours[m[2]]) * time.Hour, err
}
