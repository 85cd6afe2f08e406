package ingest

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// InboxState is what the latest look into a feed's inbox showed.
type InboxState struct {
	Feed          string
	Polled        time.Time // when the latest poll ended; zero: none has
	Failed        string    // why it failed, "" = it did not
	Waiting       int       // bill files that lie in the inbox, complete or not
	OldestWaiting time.Time // when the one that lies there longest was first seen; zero: none waits
	Remarks       []Remark
}

// Remark is something in or about an inbox that a person should know of. It stands until a look shows that it is no more so.
type Remark struct {
	Kind  string // RemarkMissing, RemarkStranger or RemarkUnsettled
	Name  string // of the file, or the expected pattern; a file's may hold anything
	Text  string // what is the matter and what to do
	Since time.Time
}

// Kinds of remarks.
const (
	RemarkMissing   = "missing"   // an expected file has not come
	RemarkStranger  = "stranger"  // a name that is left alone
	RemarkUnsettled = "unsettled" // a bill file that does not become complete
)

// Inboxes tells of every feed what the latest look into its inbox showed, in the order of Options.Feeds. It may be called
// concurrently with everything else.
func (w *Worker) Inboxes() []InboxState {
	states := make([]InboxState, len(w.Feeds))
	for i, f := range w.Feeds {
		states[i] = w.inboxes.state(f.Name)
	}
	return states
}

// topic is what remarks come from. Each is looked into on its own, and what it showed stands until the next look into it.
type topic uint8

const (
	aboutExpected topic = iota
	aboutInbox
	aboutProcessing
	aboutClaims
	topics
)

// headings are what the log says of a remark, before the remark.
var headings = [topics]string{
	aboutExpected: "expected file is missing", aboutInbox: "left alone in the inbox", aboutProcessing: "left alone in processing", aboutClaims: "not claimed",
}

// mostLogged bounds the lines that one look adds to the log: a directory full of strangers needs no line each.
const mostLogged = 100

// board holds what the latest looks into the inboxes showed. It may be used concurrently.
type board struct {
	mu    sync.Mutex
	views map[string]*view // by feed
}

// view is what is known of one inbox.
type view struct {
	polled  time.Time
	failed  string
	waiting map[string]time.Time // bill files → when first seen
	remarks [topics][]Remark
}

func newBoard(feeds []*Feed) *board {
	b := &board{views: make(map[string]*view, len(feeds))}
	for _, f := range feeds {
		b.views[f.Name] = &view{waiting: make(map[string]time.Time)}
	}
	return b
}

func (b *board) state(feed string) InboxState {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.views[feed]
	s := InboxState{Feed: feed, Polled: v.polled, Failed: v.failed, Waiting: len(v.waiting)}
	for _, first := range v.waiting {
		if s.OldestWaiting.IsZero() || first.Before(s.OldestWaiting) {
			s.OldestWaiting = first
		}
	}
	s.Remarks = slices.Concat(v.remarks[:]...)
	return s
}

// saw replaces the bill files that wait in an inbox: name → when it was first seen. The board keeps the map.
func (b *board) saw(feed string, waiting map[string]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.views[feed].waiting = waiting
}

// claimed takes a bill file off those that wait.
func (b *board) claimed(feed, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.views[feed].waiting, name)
}

// polled records that a poll of a feed has ended, well or with err.
func (b *board) polled(feed string, now time.Time, err error) {
	failed := ""
	if err != nil {
		failed = strings.ReplaceAll(err.Error(), "\n", "; ")
		if hint := adviceOn(err); hint != "" {
			failed += ": " + hint
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.views[feed]
	v.polled, v.failed = now, failed
}

// replace puts the remarks of the latest look into a topic in the place of the earlier ones, and returns those that are new and
// those that are no more. A remark that was there before keeps its Since.
func (b *board) replace(feed string, about topic, remarks []Remark) (fresh, gone []Remark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.views[feed]
	timeless := func(r Remark) Remark { r.Since = time.Time{}; return r }
	before := make(map[Remark]Remark, len(v.remarks[about]))
	for _, r := range v.remarks[about] {
		before[timeless(r)] = r
	}
	still := make(map[Remark]bool, len(remarks))
	var kept []Remark
	for _, r := range remarks {
		old, known := before[timeless(r)]
		switch {
		case still[timeless(r)]: // said twice
			continue
		case known:
			r = old
		default:
			fresh = append(fresh, r)
		}
		still[timeless(r)] = true
		kept = append(kept, r)
	}
	for _, r := range v.remarks[about] {
		if !still[timeless(r)] {
			gone = append(gone, r)
		}
	}
	v.remarks[about] = kept
	return fresh, gone
}

// remark replaces the remarks of a topic, and tells the log what is new, once, and what is over.
func (w *Worker) remark(feed string, about topic, remarks []Remark) {
	fresh, gone := w.inboxes.replace(feed, about, remarks)
	for i, r := range fresh {
		if i == mostLogged {
			w.Log.Warn(headings[about]+": and more, not named here", "feed", feed, "more", len(fresh)-i)
			break
		}
		heading := headings[about]
		if r.Kind == RemarkUnsettled {
			heading = "not complete yet, left in the inbox"
		}
		w.Log.Warn(heading, "feed", feed, "file", r.Name, "why", r.Text)
	}
	level := slog.LevelDebug
	if about == aboutExpected {
		level = slog.LevelInfo
	}
	for _, r := range gone {
		w.Log.Log(context.Background(), level, "no more: "+headings[about], "feed", feed, "file", r.Name)
	}
}
