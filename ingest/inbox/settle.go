package inbox

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// maxName bounds the names of bill files, in bytes. A report's temporary name adds about 40
// bytes, and file systems allow 255.
const maxName = 200

// sidecarSuffixes follow a bill file's whole name: for its checksum and its control totals. Other
// packages call these files companions.
var sidecarSuffixes = [...]string{".sha256", ".control.json"}

// Watch is the rule by which names in an inbox are bill files, and bill files are complete.
type Watch struct {
	Pattern string        // path.Match on the base name, without regard to letter case; "" = *.csv; a bad pattern matches nothing
	Ignore  []string      // patterns of names that are passed over without a remark
	Settle  time.Duration // a file seen twice, this far apart, unchanged, is complete; 0 = at first sight
	Marker  string        // e.g. ".done": a file is complete when NAME.done exists, without Settle; "" = none
}

// Listing is the result of one look at an inbox.
type Listing struct {
	Ready   []Entry // complete bill files, oldest first, then by name
	Waiting []Entry // bill files that are not complete yet, in the same order
	// NextLook is the shortest time from now in which a waiting file can become ready; 0 if no
	// file waits for time alone.
	NextLook time.Duration
	Ignored  []Ignored // by name
	// First is when each bill file and each sidecar was first seen, even if it changed since.
	First map[string]time.Time
	// Sidecars are the names of existing sidecars by their bill file: NAME.sha256,
	// NAME.control.json and the marker. The bill file itself may be missing.
	Sidecars map[string][]string
}

// Ignored is a name that is neither a bill file nor a sidecar of one, and that no pattern of
// Watch.Ignore covers. It stays in the inbox, and an operator should learn of it.
type Ignored struct {
	Name   string // as the server sends it: it may hold anything
	Reason string // what it is, and what to do
}

// Settler finds the complete bill files among those in an inbox. It has no clock: its caller
// passes the time. Sizes and times of files are compared for equality alone, so the server's
// clock does not matter. A Settler is not for concurrent use.
type Settler struct {
	watch Watch
	seen  map[string]sighting // bill files and sidecars, by name
}

// sighting is what is known of a file in the inbox.
type sighting struct {
	size    int64
	modTime time.Time
	since   time.Time // unchanged since
	first   time.Time // there since
}

// NewSettler returns a Settler that has seen nothing.
func NewSettler(w Watch) *Settler {
	if w.Pattern == "" {
		w.Pattern = "*.csv"
	}
	w.Ignore = slices.Clone(w.Ignore)
	return &Settler{watch: w, seen: make(map[string]sighting)}
}

// Look evaluates one listing of the inbox, made at now by this machine's clock. It drops names
// that are gone. A ready file stays ready until it is gone or changes. If now carries Go's
// monotonic reading, a clock that is set does no harm. Without one, files wait again after a
// clock is set back.
func (s *Settler) Look(now time.Time, entries []Entry) Listing {
	l := Listing{Sidecars: make(map[string][]string), First: make(map[string]time.Time)}
	var bills []Entry
	seen := make(map[string]sighting, len(s.seen))
	for _, e := range entries {
		class, about := s.classify(e)
		switch class {
		case isBill:
			bills = append(bills, e)
			seen[e.Name] = s.observe(now, e)
		case isSidecar:
			l.Sidecars[about] = append(l.Sidecars[about], e.Name)
			seen[e.Name] = s.observe(now, e)
		case isIgnored:
			l.Ignored = append(l.Ignored, Ignored{Name: e.Name, Reason: about})
		}
	}
	s.seen = seen
	for name, sighting := range seen {
		l.First[name] = sighting.first
	}

	slices.SortFunc(bills, oldestFirst)
	slices.SortFunc(l.Ignored, func(a, b Ignored) int { return strings.Compare(a.Name, b.Name) })
	for _, names := range l.Sidecars {
		slices.Sort(names)
	}
	for _, e := range bills {
		ready, wait := s.complete(now, e.Name, l.Sidecars[e.Name])
		if ready {
			l.Ready = append(l.Ready, e)
			continue
		}
		l.Waiting = append(l.Waiting, e)
		if wait > 0 && (l.NextLook == 0 || wait < l.NextLook) {
			l.NextLook = wait
		}
	}
	return l
}

// Claimed drops a file that was moved away: a new file of its name has to settle again, even if
// its size and time are the same.
func (s *Settler) Claimed(name string) { delete(s.seen, name) }

// complete reports whether a bill file is complete, and otherwise how long it has to stay
// unchanged; 0 if it waits for its marker.
func (s *Settler) complete(now time.Time, name string, sidecars []string) (ready bool, wait time.Duration) {
	if s.watch.Marker != "" {
		return slices.Contains(sidecars, name+s.watch.Marker), 0
	}
	// Its sidecars have to be complete too: half a checksum would refuse a good file.
	for _, n := range append([]string{name}, sidecars...) {
		wait = max(wait, s.watch.Settle-now.Sub(s.seen[n].since))
	}
	return wait <= 0, max(wait, 0)
}

// observe returns the sighting of a file that is in the inbox now.
func (s *Settler) observe(now time.Time, e Entry) sighting {
	last, ok := s.seen[e.Name]
	if ok && last.size == e.Size && last.modTime.Equal(e.ModTime) && !now.Before(last.since) {
		return last
	}
	if !ok {
		last.first = now
	}
	return sighting{size: e.Size, modTime: e.ModTime, since: now, first: last.first}
}

// Takes reports whether an entry is a bill file or a sidecar. It may be called concurrently.
func (s *Settler) Takes(e Entry) bool {
	class, _ := s.classify(e)
	return class == isBill || class == isSidecar
}

// class is what an entry of an inbox is.
type class uint8

const (
	isPassedOver class = iota // Watch.Ignore covers it
	isBill
	isSidecar
	isIgnored
)

// classify returns what an entry is, and about it: the bill file of a sidecar, the reason of an
// ignored entry.
func (s *Settler) classify(e Entry) (_ class, about string) {
	if slices.ContainsFunc(s.watch.Ignore, func(glob string) bool { return matches(glob, e.Name) }) {
		return isPassedOver, ""
	}
	if reason := unfit(e); reason != "" {
		return isIgnored, reason
	}
	if owner, ok := s.owner(e.Name); ok {
		return isSidecar, owner
	}
	if !matches(s.watch.Pattern, e.Name) {
		return isIgnored, fmt.Sprintf("does not match the pattern %q: rename it, or list it under ignore", s.watch.Pattern)
	}
	if len(e.Name) > maxName {
		return isIgnored, fmt.Sprintf("its name is longer than %d bytes, too long for the names of its reports: rename it", maxName)
	}
	return isBill, ""
}

// owner returns the name of the bill file that a sidecar belongs to.
func (s *Settler) owner(name string) (string, bool) {
	for _, suffix := range append(sidecarSuffixes[:], s.watch.Marker) {
		owner, ok := strings.CutSuffix(name, suffix)
		if ok && suffix != "" && matches(s.watch.Pattern, owner) {
			return owner, true
		}
	}
	return "", false
}

// unfit returns why an entry is never taken, whatever the pattern; "" if it may be.
func unfit(e Entry) string {
	switch {
	case e.Link:
		return "is a symbolic link: put the file itself there"
	case e.Dir:
		return "is a directory: bill files must be in the inbox itself"
	case !e.Regular:
		return "is not a regular file"
	case e.Name == "" || strings.HasPrefix(e.Name, ".") || strings.HasPrefix(e.Name, " "):
		return "its name starts with a dot or a space: rename it"
	case strings.ContainsFunc(e.Name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._ -", r))
	}):
		return "its name has characters other than A-Z a-z 0-9 . _ - and space: rename it"
	default:
		return ""
	}
}

// matches reports whether a name matches a pattern, whatever the case of their letters: Windows
// programs write NAME.CSV.
func matches(glob, name string) bool {
	ok, err := path.Match(strings.ToLower(glob), strings.ToLower(name))
	return ok && err == nil
}
