package watch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// State is what the latest look into a feed's inbox showed.
type State struct {
	Feed          string
	Polled        time.Time // when the latest poll ended; zero: none has
	Failed        string    // why it failed; "" = it did not
	Waiting       int       // bill files in the inbox, complete or not
	OldestWaiting time.Time // when the one that has waited longest was first seen; zero: none waits
	Remarks       []Remark
}

// Remark is something in or about an inbox that the operator should know. It stands until a
// look shows that it is over.
type Remark struct {
	Kind  string // Missing, Stranger, Unsettled or Crowded
	Name  string // of the file or the directory, or the expected pattern; a file's may hold any bytes
	Text  string // what is the matter and what to do
	Since time.Time
}

// Kinds of remarks.
const (
	Missing   = "missing"   // an expected file has not come
	Stranger  = "stranger"  // a name that is left alone
	Unsettled = "unsettled" // a bill file that does not become complete
	Crowded   = "crowded"   // a directory that lists more than is read
)

// Topic is what a remark is about. Each topic is looked into on its own, and its remarks
// stand until the next look into it.
type Topic uint8

const (
	Expected   Topic = iota // files that should have come
	Inbox                   // names in the inbox
	Processing              // names in processing/
	Claims                  // files that could not be claimed
	topics
)

// headings begin the log line of a remark.
var headings = [topics]string{
	Expected: "expected file is missing", Inbox: "left alone in the inbox", Processing: "left alone in processing", Claims: "not claimed",
}

// mostLogged bounds the log lines of one look, because a directory may be full of
// strangers.
const mostLogged = 100

// Board holds what the latest looks into the inboxes of some feeds showed. It may be used
// concurrently.
type Board struct {
	log   *slog.Logger
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

// NewBoard makes an empty board for feeds, by name. No other feed may be named to its
// methods.
func NewBoard(log *slog.Logger, feeds []string) *Board {
	b := &Board{log: log, views: make(map[string]*view, len(feeds))}
	for _, name := range feeds {
		b.views[name] = &view{waiting: make(map[string]time.Time)}
	}
	return b
}

// State returns what is known of a feed's inbox.
func (b *Board) State(feed string) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.views[feed]
	s := State{Feed: feed, Polled: v.polled, Failed: v.failed, Waiting: len(v.waiting)}
	for _, first := range v.waiting {
		if s.OldestWaiting.IsZero() || first.Before(s.OldestWaiting) {
			s.OldestWaiting = first
		}
	}
	s.Remarks = slices.Concat(v.remarks[:]...)
	return s
}

// Saw replaces the bill files that wait in an inbox: name → when it was first seen. The
// board keeps the map.
func (b *Board) Saw(feed string, waiting map[string]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.views[feed].waiting = waiting
}

// Claimed removes a bill file from those that wait.
func (b *Board) Claimed(feed, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.views[feed].waiting, name)
}

// Polled records that a poll of a feed has ended; failed is why it failed, "" if it did
// not.
func (b *Board) Polled(feed string, now time.Time, failed string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.views[feed]
	v.polled, v.failed = now, failed
}

// Left forgets what is known of a feed's inbox, because another worker polls it from now on.
func (b *Board) Left(feed string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.views[feed] = &view{waiting: make(map[string]time.Time)}
}

// Remark replaces the remarks of a topic with those of the latest look into it. It logs
// each new remark once, and each that is over.
func (b *Board) Remark(feed string, about Topic, remarks []Remark) {
	fresh, over := b.replace(feed, about, remarks)
	for i, r := range fresh {
		if i == mostLogged {
			b.log.Warn(headings[about]+": and more, not named here", "feed", feed, "more", len(fresh)-i)
			break
		}
		heading := headings[about]
		switch r.Kind {
		case Unsettled:
			heading = "not complete yet, left in the inbox"
		case Crowded:
			heading = "the directory is read in part"
		}
		b.log.Warn(heading, "feed", feed, "file", r.Name, "why", r.Text)
	}
	level := slog.LevelDebug
	if about == Expected {
		level = slog.LevelInfo
	}
	for _, r := range over {
		b.log.Log(context.Background(), level, "no more: "+headings[about], "feed", feed, "file", r.Name)
	}
}

// replace replaces the remarks of a topic, and returns those that are new and those that
// are over. A remark that stood before keeps its Since.
func (b *Board) replace(feed string, about Topic, remarks []Remark) (fresh, over []Remark) {
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
		case still[timeless(r)]: // made twice
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
			over = append(over, r)
		}
	}
	v.remarks[about] = kept
	return fresh, over
}
