// Package watch finds what the operator should know of an inbox: files that never become
// complete, names that are left alone, expected files that have not come. It changes
// nothing.
package watch

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"billdrop/ingest/inbox"
)

// Patience is how many settling times a file may keep changing before it is remarked on,
// and how many a single poll waits for it.
const Patience = 10

// How long a name may lie in an inbox as it is before it is remarked on.
const (
	// unsettledAfter is for a file that keeps changing: Patience settling times, but not
	// less than this.
	unsettledAfter = 10 * time.Minute
	// companionAfter is for a bill file without its marker, and for a companion without its
	// bill file.
	companionAfter = time.Hour
)

// Look is one listing of an inbox.
type Look struct {
	inbox.Listing
	Watch   inbox.Watch
	At      time.Time
	Entries []inbox.Entry // all of them
	Cut     []Remark      // that the inbox lists more than was read of it
	// Once: the process has not looked before and will not look again, so it judges the age
	// of a file by the file's own time.
	Once bool
	// StillChanging: what is still waiting kept changing for as long as a single poll
	// waits.
	StillChanging bool
}

// Waits are the bill files in the inbox, complete or not: name → when it was first seen.
func (l *Look) Waits() map[string]time.Time {
	waits := make(map[string]time.Time, len(l.Ready)+len(l.Waiting))
	for _, e := range slices.Concat(l.Ready, l.Waiting) {
		waits[e.Name] = l.First[e.Name]
	}
	return waits
}

// Remarks returns what the operator should know, by name.
func (l *Look) Remarks() []Remark {
	list := slices.Clone(l.Cut)
	add := func(kind, name, text string, since time.Time) {
		list = append(list, Remark{Kind: kind, Name: name, Text: text, Since: since})
	}
	for _, o := range l.Ignored {
		add(Stranger, o.Name, o.Reason, l.At)
	}
	since := l.since()
	for _, e := range l.Waiting {
		switch first := l.First[e.Name]; {
		case l.Watch.Marker != "":
			if l.At.Sub(since(e.Name)) >= companionAfter {
				add(Unsettled, e.Name, fmt.Sprintf("waits for its marker %s%s: have it delivered, or move the file away", e.Name, l.Watch.Marker), since(e.Name))
			}
		case l.StillChanging || l.At.Sub(first) >= max(unsettledAfter, Patience*l.Watch.Settle):
			add(Unsettled, e.Name, "keeps changing, so it is not taken: a program is still writing to it, or its time does not stand still; ask its sender", first)
		}
	}
	bills := l.Waits()
	for _, bill := range slices.Sorted(maps.Keys(l.Sidecars)) {
		for _, name := range l.Sidecars[bill] {
			if _, there := bills[bill]; !there && l.At.Sub(since(name)) >= companionAfter {
				add(Stranger, name, fmt.Sprintf("belongs to a bill file %s, which is not there: have that delivered, or remove this one", bill), since(name))
			}
		}
	}
	return list
}

// Cut remarks that a directory lists more than was read of it, if that is what err says.
func Cut(dir string, err error, at time.Time) []Remark {
	cut, ok := errors.AsType[*inbox.Error](err)
	if !errors.Is(err, inbox.ErrListingCut) || !ok || cut.Err == nil {
		return nil
	}
	return []Remark{{Kind: Crowded, Name: dir, Since: at,
		Text: cut.Err.Error() + ", and the others are not looked at: move away what does not belong there"}}
}

// since returns when a name appeared in the inbox: when it was first seen; for a process
// that looks once, when it was last changed, by the server's clock, which may be off.
func (l *Look) since() func(name string) time.Time {
	if !l.Once {
		return func(name string) time.Time { return l.First[name] }
	}
	changed := make(map[string]time.Time, len(l.Entries))
	for _, e := range l.Entries {
		changed[e.Name] = e.ModTime
	}
	return func(name string) time.Time {
		if t := changed[name]; t.Before(l.First[name]) {
			return t
		}
		return l.First[name]
	}
}
