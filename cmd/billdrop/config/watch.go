package config

import (
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// weekdays are the names of days, from Sunday on as in package time.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Clock is By since midnight; false where it is not a time of day.
func (e Expect) Clock() (time.Duration, bool) {
	t, err := time.Parse("15:04", e.By)
	if err != nil || len(e.By) != len("15:04") {
		return 0, false
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, true
}

// Zone is the zone of Timezone; an error where this machine's data and our own have none of that name.
func (e Expect) Zone() (*time.Location, error) {
	if e.Timezone == "" {
		return time.Local, nil
	}
	return time.LoadLocation(e.Timezone)
}

// Weekdays are the Days; those of other names are left out.
func (e Expect) Weekdays() []time.Weekday {
	var days []time.Weekday
	for _, name := range e.Days {
		if i := slices.Index(weekdays, name); i >= 0 {
			days = append(days, time.Weekday(i))
		}
	}
	return days
}

// checkExpect holds to the rules what file a feed expects.
func (k *checker) checkExpect(at string, f *Feed) {
	e := f.Expect
	switch _, ok := e.Clock(); {
	case e.By == "" && (e.Pattern != "" || e.Timezone != "" || len(e.Days) > 0):
		k.problem(join(at, "by"), "is missing; write the time of day at which the file is late, such as \"06:30\"")
	case e.By != "" && !ok:
		k.problem(join(at, "by"), "is not valid; write hours and minutes of a day of 24 hours in quotes, such as \"06:30\"")
	}
	if _, err := path.Match(e.Pattern, ""); err != nil || strings.Contains(e.Pattern, "/") {
		k.problem(join(at, "pattern"), "is not valid; write a pattern for file names such as \"bills-*.csv\" (*, ? and [a-z] stand for others; no /)")
	} else if fits, _ := path.Match(f.Pattern, e.Pattern); e.Pattern != "" && !fits && !strings.ContainsAny(e.Pattern, `*?[\`) {
		k.problem(join(at, "pattern"), "names a file that the feed's pattern does not match, so it is never taken; write one that it does")
	}
	if _, err := e.Zone(); err != nil {
		k.problem(join(at, "timezone"), "is not a known time zone; write its IANA name, such as \"Africa/Johannesburg\" or \"UTC\", or leave it out for this machine's")
	}
	for i, day := range e.Days {
		k.oneOf(join(at, indexed("days", i)), day, append(weekdays[1:7:7], weekdays[0])...)
	}
}

// checkCommands finds commands of on_finish that cannot be run. The feeds' come after the top level's, and one that a feed
// has from there is told once.
func (k *checker) checkCommands() {
	if k.has("on_finish") {
		k.checkCommand("on_finish", k.config.OnFinish)
	}
	for i, f := range k.config.Feeds {
		if at := join(feedPath(i), "on_finish"); k.has(at) && len(f.OnFinish) > 0 {
			k.checkCommand(at, f.OnFinish)
		}
	}
}

func (k *checker) checkCommand(at string, command []string) {
	if len(command) == 0 || command[0] == "" {
		k.problem(at, "names no command; write [/path/to/command, argument, …], or leave the key out")
		return
	}
	if !k.needs.OnFinish {
		return
	}
	if _, err := exec.LookPath(resolveCommand(k.dir, command)[0]); err != nil {
		k.problem(indexed(at, 0), "is no command that can be run here; write the path of one that exists, and make it executable (chmod +x)")
	}
}

// resolveCommand takes a command with a slash in its name from dir where that is relative; one without is looked up in PATH.
func resolveCommand(dir string, command []string) []string {
	if len(command) == 0 || filepath.Base(command[0]) == command[0] || filepath.IsAbs(command[0]) {
		return command
	}
	return append([]string{filepath.Join(dir, command[0])}, command[1:]...)
}
