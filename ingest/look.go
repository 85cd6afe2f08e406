package ingest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"billdrop/ingest/inbox"
)

// How long a name may lie in an inbox as it is before somebody should know.
const (
	// unsettledAfter is for a file that keeps changing: ten settling times, but not less than this.
	unsettledAfter = 10 * time.Minute
	// companionAfter is for a bill file without its marker, and for a sidecar or marker without its bill file.
	companionAfter = time.Hour
)

// look is one listing of an inbox, and what is to be remarked on it.
type look struct {
	inbox.Listing
	watch    inbox.Watch
	at       time.Time
	entries  []inbox.Entry
	once     bool // by a process that has seen no earlier look: how long a file has been there is told by its own time
	restless bool // what waits still has been waited for in vain
}

// remarks tells what a person should know of, by name.
func (l *look) remarks() []Remark {
	var list []Remark
	add := func(kind, name, text string, since time.Time) {
		list = append(list, Remark{Kind: kind, Name: name, Text: text, Since: since})
	}
	for _, o := range l.Ignored {
		add(RemarkStranger, o.Name, o.Reason, l.at)
	}
	since := l.since()
	for _, e := range l.Waiting {
		switch first := l.First[e.Name]; {
		case l.watch.Marker != "":
			if l.at.Sub(since(e.Name)) >= companionAfter {
				add(RemarkUnsettled, e.Name, fmt.Sprintf("waits for its marker %s%s: have it delivered, or move the file away", e.Name, l.watch.Marker), since(e.Name))
			}
		case l.restless || l.at.Sub(first) >= max(unsettledAfter, patience*l.watch.Settle):
			add(RemarkUnsettled, e.Name, "keeps changing, so it is not taken: somebody is still writing to it, or its time does not stand still; ask whoever delivers it", first)
		}
	}
	bills := make(map[string]bool)
	for _, e := range slices.Concat(l.Ready, l.Waiting) {
		bills[e.Name] = true
	}
	for _, bill := range slices.Sorted(maps.Keys(l.Sidecars)) {
		for _, name := range l.Sidecars[bill] {
			if !bills[bill] && l.at.Sub(since(name)) >= companionAfter {
				add(RemarkStranger, name, fmt.Sprintf("goes with a bill file %s, which is not there: have it delivered, or remove this one", bill), since(name))
			}
		}
	}
	return list
}

// since tells how long a name has been there: since it was first seen; to a process that has only just come, since it
// was last changed, by the server's clock, which may be off.
func (l *look) since() func(name string) time.Time {
	if !l.once {
		return func(name string) time.Time { return l.First[name] }
	}
	changed := make(map[string]time.Time, len(l.entries))
	for _, e := range l.entries {
		changed[e.Name] = e.ModTime
	}
	return func(name string) time.Time {
		if t := changed[name]; t.Before(l.First[name]) {
			return t
		}
		return l.First[name]
	}
}
