package inbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// file returns a regular file of a size, modified some seconds after noon.
func file(name string, size int64, second int) Entry {
	return Entry{Name: name, Size: size, ModTime: noon.Add(time.Duration(second) * time.Second), Regular: true}
}

func names(entries []Entry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Name)
	}
	return strings.Join(all, " ")
}

// look is one look, some seconds after noon, and its expected result.
type look struct {
	at      int
	entries []Entry
	ready   string
	waiting string
	next    time.Duration
}

func TestSettle(t *testing.T) {
	t.Parallel()
	settle := Watch{Pattern: "*.csv", Ignore: []string{"*.part", ".*"}, Settle: 10 * time.Second}
	a := file("a.csv", 5, 0)
	for name, c := range map[string]struct {
		watch Watch
		looks []look
	}{
		"twice, apart": {settle, []look{
			{0, []Entry{a}, "", "a.csv", 10 * time.Second},
			{4, []Entry{a}, "", "a.csv", 6 * time.Second},
			{9, []Entry{a}, "", "a.csv", time.Second},
			{10, []Entry{a}, "a.csv", "", 0},
			{11, []Entry{a}, "a.csv", "", 0},
		}},
		"no settling": {Watch{}, []look{{0, []Entry{a}, "a.csv", "", 0}}},
		"grows": {settle, []look{
			{0, []Entry{a}, "", "a.csv", 10 * time.Second},
			{10, []Entry{file("a.csv", 6, 0)}, "", "a.csv", 10 * time.Second},
			{20, []Entry{file("a.csv", 6, 0)}, "a.csv", "", 0},
		}},
		"written to, same size": {settle, []look{
			{0, []Entry{a}, "", "a.csv", 10 * time.Second},
			{10, []Entry{file("a.csv", 5, 1)}, "", "a.csv", 10 * time.Second},
			{25, []Entry{file("a.csv", 5, 1)}, "a.csv", "", 0},
		}},
		"changes after it was ready": {settle, []look{
			{0, []Entry{a}, "", "a.csv", 10 * time.Second},
			{10, []Entry{a}, "a.csv", "", 0},
			{11, []Entry{file("a.csv", 9, 11)}, "", "a.csv", 10 * time.Second},
		}},
		"vanishes and comes back": {settle, []look{
			{0, []Entry{a}, "", "a.csv", 10 * time.Second},
			{5, nil, "", "", 0},
			{10, []Entry{a}, "", "a.csv", 10 * time.Second},
		}},
		"from the future and from 1970": {settle, []look{
			{0, []Entry{file("a.csv", 1, 1<<30), {Name: "b.csv", ModTime: time.Unix(0, 0), Regular: true}}, "", "b.csv a.csv", 10 * time.Second},
			{10, []Entry{file("a.csv", 1, 1<<30), {Name: "b.csv", ModTime: time.Unix(0, 0), Regular: true}}, "b.csv a.csv", "", 0},
		}},
		"our clock is set back": {settle, []look{
			{3600, []Entry{a}, "", "a.csv", 10 * time.Second},
			{0, []Entry{a}, "", "a.csv", 10 * time.Second},
			{10, []Entry{a}, "a.csv", "", 0},
		}},
		"oldest first, each for itself": {settle, []look{
			{0, []Entry{file("b.csv", 1, 1), file("c.csv", 1, 0)}, "", "c.csv b.csv", 10 * time.Second},
			{4, []Entry{file("a.csv", 1, 1), file("b.csv", 1, 1), file("c.csv", 1, 0)}, "", "c.csv a.csv b.csv", 6 * time.Second},
			{11, []Entry{file("a.csv", 1, 1), file("b.csv", 1, 1), file("c.csv", 1, 0)}, "c.csv b.csv", "a.csv", 3 * time.Second},
		}},
		"a sidecar settles too": {settle, []look{
			{0, []Entry{a}, "", "a.csv", 10 * time.Second},
			{8, []Entry{a, file("a.csv.sha256", 10, 8)}, "", "a.csv", 10 * time.Second},
			{12, []Entry{a, file("a.csv.sha256", 64, 9)}, "", "a.csv", 10 * time.Second},
			{22, []Entry{a, file("a.csv.sha256", 64, 9)}, "a.csv", "", 0},
		}},
		"marker": {Watch{Pattern: "*.csv", Settle: time.Hour, Marker: ".done"}, []look{
			{0, []Entry{a, file("b.csv", 1, 0)}, "", "a.csv b.csv", 0},
			{1, []Entry{a, file("b.csv", 1, 0), file("b.csv.done", 0, 1)}, "b.csv", "a.csv", 0},
		}},
		"a marker that is a link": {Watch{Marker: ".done"}, []look{
			{0, []Entry{a, {Name: "a.csv.done", Link: true}}, "", "a.csv", 0},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSettler(c.watch)
			for _, k := range c.looks {
				l := s.Look(noon.Add(time.Duration(k.at)*time.Second), k.entries)
				if got := names(l.Ready); got != k.ready {
					t.Errorf("at %d s: ready %q, want %q", k.at, got, k.ready)
				}
				if got := names(l.Waiting); got != k.waiting {
					t.Errorf("at %d s: waiting %q, want %q", k.at, got, k.waiting)
				}
				if l.NextLook != k.next {
					t.Errorf("at %d s: next look in %v, want %v", k.at, l.NextLook, k.next)
				}
			}
		})
	}
}

func TestSettleAfterClaim(t *testing.T) {
	t.Parallel()
	s := NewSettler(Watch{Settle: time.Second})
	a := file("a.csv", 5, 0)
	s.Look(noon, []Entry{a})
	if l := s.Look(noon.Add(time.Second), []Entry{a}); names(l.Ready) != "a.csv" {
		t.Fatalf("not ready: %+v", l)
	}
	s.Claimed("a.csv")
	if l := s.Look(noon.Add(2*time.Second), []Entry{a}); names(l.Waiting) != "a.csv" {
		t.Errorf("a new file of the name did not settle: %+v", l)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	watch := Watch{Pattern: "*.csv", Ignore: []string{"*.part", "*.tmp", ".*"}, Marker: ".done"}
	for _, c := range []struct {
		e     Entry
		want  class
		about string // of an ignored name: part of the reason; of a sidecar: its bill file
	}{
		{file("a.csv", 1, 0), isBill, ""},
		{file("za_acme-daily 2026-03-01.csv", 1, 0), isBill, ""},
		{file(strings.Repeat("n", maxName-4)+".csv", 1, 0), isBill, ""},
		{file(strings.Repeat("n", maxName-3)+".csv", 1, 0), isIgnored, "longer than 200"},
		{file("a.csv.part", 1, 0), isPassedOver, ""},
		{file(".a.csv", 1, 0), isPassedOver, ""},
		{Entry{Name: "old", Dir: true}, isIgnored, "directory"},
		{Entry{Name: "x\ny", Dir: true}, isIgnored, "directory"},
		{file("a.csv.sha256", 1, 0), isSidecar, "a.csv"},
		{file("a.csv.control.json", 1, 0), isSidecar, "a.csv"},
		{file("a.csv.done", 1, 0), isSidecar, "a.csv"},
		{file("a.txt.done", 1, 0), isIgnored, "pattern"},
		{file("a.sha256", 1, 0), isIgnored, "pattern"},
		{file("a.txt", 1, 0), isIgnored, `"*.csv"`},
		{file("A.CSV", 1, 0), isBill, ""},
		{file("a.Csv", 1, 0), isBill, ""},
		{file("A.CSV.PART", 1, 0), isPassedOver, ""},
		{file("A.TXT", 1, 0), isIgnored, "pattern"},
		{Entry{Name: "a.csv", Link: true}, isIgnored, "symbolic link"},
		{Entry{Name: "a.csv"}, isIgnored, "regular"},
		{file(" a.csv", 1, 0), isIgnored, "starts with"},
		{file("ä.csv", 1, 0), isIgnored, "characters"},
		{file("a\n.csv", 1, 0), isIgnored, "characters"},
		{file("a;rm.csv", 1, 0), isIgnored, "characters"},
		{file("a\xff.csv", 1, 0), isIgnored, "characters"},
	} {
		got, about := NewSettler(watch).classify(c.e)
		if got != c.want || !strings.Contains(about, c.about) {
			t.Errorf("%+v: got %d %q, want %d %q", c.e, got, about, c.want, c.about)
		}
	}
	if got, about := NewSettler(Watch{Pattern: "*"}).classify(file(".a", 1, 0)); got != isIgnored {
		t.Errorf("hidden name under a pattern for all: %d %q", got, about)
	}
}

func TestIgnored(t *testing.T) {
	t.Parallel()
	s := NewSettler(Watch{})
	ignored := func(entries ...Entry) string {
		var all []string
		for _, o := range s.Look(noon, entries).Ignored {
			all = append(all, o.Name)
		}
		return strings.Join(all, " ")
	}
	b, a := file("b.txt", 1, 0), file("a.txt", 1, 0)
	link := Entry{Name: "a.txt", Link: true}
	for i, c := range []struct {
		entries []Entry
		want    string
	}{
		{[]Entry{b, a}, "a.txt b.txt"}, {[]Entry{b, a}, "a.txt b.txt"}, {[]Entry{link}, "a.txt"}, {[]Entry{}, ""}, {[]Entry{b, link}, "a.txt b.txt"},
	} {
		if got := ignored(c.entries...); got != c.want {
			t.Errorf("look %d: ignored %q, want %q", i, got, c.want)
		}
	}
}

// TestFirst: First stays the same through all changes of a file, until it is gone or claimed.
func TestFirst(t *testing.T) {
	t.Parallel()
	s := NewSettler(Watch{Settle: time.Minute})
	look := func(after time.Duration, entries ...Entry) time.Duration {
		t.Helper()
		first, ok := s.Look(noon.Add(after), entries).First["a.csv"]
		if ok != (len(entries) > 0) {
			t.Fatalf("after %v: there: %t", after, ok)
		}
		return first.Sub(noon)
	}
	if got := look(0, file("a.csv", 1, 0)); got != 0 {
		t.Errorf("at first: %v", got)
	}
	if got := look(time.Hour, file("a.csv", 2, 1)); got != 0 {
		t.Errorf("changed: %v", got)
	}
	s.Claimed("a.csv")
	if got := look(2*time.Hour, file("a.csv", 2, 1)); got != 2*time.Hour {
		t.Errorf("claimed, and another came: %v", got)
	}
	look(3 * time.Hour)
	if got := look(4*time.Hour, file("a.csv", 2, 1)); got != 4*time.Hour {
		t.Errorf("gone, and back: %v", got)
	}
}

func TestTakes(t *testing.T) {
	t.Parallel()
	s := NewSettler(Watch{Pattern: "a*.csv", Marker: ".done", Ignore: []string{"*x*"}})
	for name, want := range map[string]bool{"a.csv": true, "a.csv.done": true, "a.csv.sha256": true, "b.csv": false, "ax.csv": false} {
		if got := s.Takes(file(name, 1, 0)); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestSidecars(t *testing.T) {
	t.Parallel()
	l := NewSettler(Watch{Marker: ".done"}).Look(noon, []Entry{
		file("a.csv.sha256", 1, 0), file("a.csv", 1, 0), file("a.csv.done", 1, 0), file("a.csv.control.json", 1, 0), file("b.csv.sha256", 1, 0),
	})
	if got, want := l.Sidecars["a.csv"], []string{"a.csv.control.json", "a.csv.done", "a.csv.sha256"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := l.Sidecars["b.csv"]; len(got) != 1 || len(l.Ignored) != 0 {
		t.Errorf("a sidecar before its file: %q, odd %v", got, l.Ignored)
	}
}

func TestBadPatternMatchesNothing(t *testing.T) {
	t.Parallel()
	if l := NewSettler(Watch{Pattern: "["}).Look(noon, []Entry{file("[", 1, 0)}); len(l.Ready) != 0 {
		t.Errorf("a bad pattern matches: %+v", l)
	}
}

func TestStallCountsCallsAndProgress(t *testing.T) {
	t.Parallel()
	beats := func(s *stall, n int) bool {
		for range n {
			if s.beat() {
				return true
			}
		}
		return false
	}
	for name, c := range map[string]struct {
		between func(s *stall) // after each of the first beats
		late    bool
	}{
		"nothing":          {func(*stall) {}, true},
		"data":             {func(s *stall) { s.data.Add(1) }, false},
		"life signs":       {func(s *stall) { s.raw.Add(200) }, true},
		"part of a packet": {func(s *stall) { s.raw.Add(rawProgress / stallTicks) }, false},
		"our own writer":   {func(s *stall) { s.busy.Store(1) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stall{}
			if beats(s, 100) {
				t.Fatal("late without a call")
			}
			defer s.begin()()
			late := false
			for range 4 * stallTicks {
				late = late || s.beat()
				c.between(s)
			}
			if late != c.late {
				t.Errorf("late: %t, want %t", late, c.late)
			}
		})
	}
	// Another call that begins and ends is not progress of this one.
	s := &stall{}
	end := s.begin()
	for i := range stallTicks + 1 {
		s.begin()()
		if got, want := s.beat(), i == stallTicks; got != want {
			t.Errorf("beat %d: late %t", i, got)
		}
	}
	end()
	if beats(s, 100) {
		t.Error("late after the call")
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"sftp.example.com": "sftp.example.com:22", "sftp.example.com:2222": "sftp.example.com:2222",
		"192.0.2.1": "192.0.2.1:22", "::1": "[::1]:22", "[::1]": "[::1]:22", "[::1]:2222": "[::1]:2222",
	} {
		if got := withPort(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func ExampleSettler() {
	s := NewSettler(Watch{Pattern: "*.csv", Settle: 10 * time.Second})
	bills := []Entry{{Name: "bills.csv", Size: 100, Regular: true}}
	first := s.Look(noon, bills)
	second := s.Look(noon.Add(first.NextLook), bills)
	fmt.Println(len(first.Ready), len(second.Ready))
	// Output: 0 1
}
