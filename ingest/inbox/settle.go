package inbox

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// maxName bounds the names of bill files, in bytes: the report's temporary name adds some 40 to it, and file
// systems end at 255.
const maxName = 200

// sidecarSuffixes follow a bill file's whole name: its checksum and its control totals.
var sidecarSuffixes = [...]string{".sha256", ".control.json"}

// Watch says which names in an inbox are bill files, and when one is complete.
type Watch struct {
	Pattern string        // path.Match on the base name; "" = *.csv
	Ignore  []string      // the same; these are left alone without a word
	Settle  time.Duration // seen twice, this far apart, unchanged = complete; 0 = complete at first sight
	Marker  string        // e.g. ".done": complete when NAME.done is there, whatever Settle says; "" = none
}

// Check finds globs that are none. Names match no bad pattern, so such a watch sees nothing.
func (w Watch) Check() error {
	for _, glob := range append([]string{w.Pattern}, w.Ignore...) {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", glob, err)
		}
	}
	return nil
}

// Listing is what one look at an inbox came to.
type Listing struct {
	Ready   []Entry // complete bill files, oldest first, then by name
	Waiting []Entry // bill files that are not complete yet, in the same order
	// NextLook is how long from now a waiting file could be ready at the earliest; 0 when none waits for time alone.
	NextLook time.Duration
	Odd      []Oddity // what is left alone though somebody may have meant it, by name
	// First is when each bill file and each companion was first seen, however it has changed since.
	First map[string]time.Time
	// Sidecars are the companions that are there, by the name of their bill file: NAME.sha256, NAME.control.json and the
	// marker. The bill file need not be there.
	Sidecars map[string][]string
}

// Oddity is a name that is no bill file and nothing that is known to go with one.
type Oddity struct {
	Name string // as the server tells it: may hold anything
	Why  string // what it is, and what to do
}

// Settler tells complete bill files from those still on their way. It has no clock: its caller brings the time. Sizes
// and times of files are compared for equality alone, so it makes no difference whose clock they are from. It is
// not for concurrent use.
type Settler struct {
	watch Watch
	seen  map[string]sighting // of bill files and sidecars
}

// sighting is a file as it was seen, since when it has been so, and since when it has been there.
type sighting struct {
	size    int64
	modTime time.Time
	since   time.Time
	first   time.Time
}

// NewSettler starts afresh: nothing has been seen.
func NewSettler(w Watch) *Settler {
	if w.Pattern == "" {
		w.Pattern = "*.csv"
	}
	w.Ignore = slices.Clone(w.Ignore)
	return &Settler{watch: w, seen: make(map[string]sighting)}
}

// Look takes one listing of the inbox, made at now by our clock. Names that are gone are forgotten. A ready file stays ready until
// it is gone or changes. A now that carries Go's monotonic reading is proof against clocks that are set; without, a clock set
// back makes files wait anew.
func (s *Settler) Look(now time.Time, entries []Entry) Listing {
	l := Listing{Sidecars: make(map[string][]string), First: make(map[string]time.Time)}
	var bills []Entry
	still := make(map[string]sighting, len(s.seen))
	for _, e := range entries {
		about, what := s.classify(e)
		switch what {
		case isBill:
			bills = append(bills, e)
			still[e.Name] = s.sight(now, e)
		case isSidecar:
			l.Sidecars[about] = append(l.Sidecars[about], e.Name)
			still[e.Name] = s.sight(now, e)
		case isOdd:
			l.Odd = append(l.Odd, Oddity{Name: e.Name, Why: about})
		}
	}
	s.seen = still
	for name, seen := range still {
		l.First[name] = seen.first
	}

	slices.SortFunc(bills, oldestFirst)
	slices.SortFunc(l.Odd, func(a, b Oddity) int { return strings.Compare(a.Name, b.Name) })
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

// Claimed forgets a file that was moved away: a new one of its name has to settle anew, even if it looks the same.
func (s *Settler) Claimed(name string) { delete(s.seen, name) }

// complete reports whether a bill file is complete, or else how long it has to stay as it is; 0 where only a marker helps.
func (s *Settler) complete(now time.Time, name string, sidecars []string) (ready bool, wait time.Duration) {
	if s.watch.Marker != "" {
		return slices.Contains(sidecars, name+s.watch.Marker), 0
	}
	// Its companions have to be whole too: half a checksum would condemn a good file.
	for _, n := range append([]string{name}, sidecars...) {
		wait = max(wait, s.watch.Settle-now.Sub(s.seen[n].since))
	}
	return wait <= 0, max(wait, 0)
}

// sight is how long a file has been as it is now.
func (s *Settler) sight(now time.Time, e Entry) sighting {
	last, ok := s.seen[e.Name]
	if ok && last.size == e.Size && last.modTime.Equal(e.ModTime) && !now.Before(last.since) {
		return last
	}
	if !ok {
		last.first = now
	}
	return sighting{size: e.Size, modTime: e.ModTime, since: now, first: last.first}
}

// Takes reports whether a name is a bill file under this watch, or goes with one. It may be called concurrently.
func (s *Settler) Takes(e Entry) bool {
	_, what := s.classify(e)
	return what == isBill || what == isSidecar
}

// class is what a name in an inbox is to us.
type class uint8

const (
	isIgnored class = iota
	isBill
	isSidecar
	isOdd
)

// classify says what a name is; with a sidecar, whose; with an oddity, why.
func (s *Settler) classify(e Entry) (string, class) {
	if slices.ContainsFunc(s.watch.Ignore, func(glob string) bool { return matches(glob, e.Name) }) {
		return "", isIgnored
	}
	if why := unfit(e); why != "" {
		return why, isOdd
	}
	if owner, ok := s.owner(e.Name); ok {
		return owner, isSidecar
	}
	if !matches(s.watch.Pattern, e.Name) {
		return fmt.Sprintf("does not match the pattern %q: rename it, or list it under ignore", s.watch.Pattern), isOdd
	}
	if len(e.Name) > maxName {
		return fmt.Sprintf("its name is longer than %d bytes, which leaves no room for its reports' names: rename it", maxName), isOdd
	}
	return "", isBill
}

// owner is the bill file that a sidecar goes with, by name.
func (s *Settler) owner(name string) (string, bool) {
	for _, suffix := range append(sidecarSuffixes[:], s.watch.Marker) {
		owner, ok := strings.CutSuffix(name, suffix)
		if ok && suffix != "" && matches(s.watch.Pattern, owner) {
			return owner, true
		}
	}
	return "", false
}

// unfit is why a name is left alone whatever the pattern says, "" if it is not.
func unfit(e Entry) string {
	switch {
	case e.Link:
		return "is a symbolic link: put the file itself there"
	case e.Dir:
		return "is a directory: bill files are taken from the inbox itself alone"
	case !e.Regular:
		return "is not a regular file"
	case e.Name == "" || strings.HasPrefix(e.Name, ".") || strings.HasPrefix(e.Name, " "):
		return "its name starts with a dot or a space: rename it"
	case strings.ContainsFunc(e.Name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._ -", r))
	}):
		return "its name has other characters than A-Z a-z 0-9 . _ - and space: rename it"
	default:
		return ""
	}
}

func matches(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return ok && err == nil
}
