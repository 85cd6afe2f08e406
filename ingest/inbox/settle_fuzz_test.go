package inbox

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// FuzzLook: whatever names an inbox holds, each is one thing, a name that is taken up stays in
// its directory, and a Settler keeps nothing of names that are gone.
func FuzzLook(f *testing.F) {
	f.Add("a.csv\na.csv.sha256\na.csv.done\n../b.csv\n.c.csv\nd.csv.part", "*.csv", "*.tmp", ".done", int64(1))
	f.Add("a.csv\na.csv\n\x1b[2J.csv\n\u202evsc.csv\n/etc/passwd.csv\n..\n.\n\n\xff.csv", "", "[", "", int64(-1))
	f.Fuzz(func(t *testing.T, names, pattern, ignore, marker string, size int64) {
		s := NewSettler(Watch{Pattern: pattern, Ignore: []string{ignore}, Marker: marker, Settle: time.Second})
		var entries []Entry
		for i, name := range strings.Split(names, "\n") {
			entries = append(entries, Entry{Name: name, Size: size, Regular: i%5 != 4, Link: i%5 == 4, ModTime: time.Unix(size, 0)})
		}
		now := time.Now()
		s.Look(now, entries)
		l := s.Look(now.Add(time.Minute), entries)
		if n := len(l.Ready) + len(l.Waiting) + len(l.Ignored); n > len(entries) {
			t.Errorf("%d things of %d entries", n, len(entries))
		}
		for _, e := range append(l.Ready, l.Waiting...) {
			if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\\\x00") || len(e.Name) > maxName || !e.Regular {
				t.Errorf("taken up: %+v", e)
			}
		}
		for _, o := range l.Ignored {
			// The pattern is the operator's. Quoted, a byte of it may take four.
			if o.Reason == "" || len(o.Reason) > 200+4*len(pattern) || strings.ContainsFunc(o.Reason, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
				t.Errorf("%q: %q", o.Name, o.Reason)
			}
		}
		s.Look(now.Add(2*time.Minute), nil)
		if len(s.seen) > 0 {
			t.Errorf("%d names are kept", len(s.seen))
		}
	})
}
