package monitor

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// files follows the files under way, and passes all progress on. It may be used
// concurrently.
type files struct {
	metrics *metrics
	next    ingest.Progress

	mu     sync.Mutex
	moving map[string]*moving            // by file id
	last   map[string]time.Time          // feed → when its latest file was finished
	warned map[string][]billfile.Warning // by file id, of the latest that this process finished
	oldest []string                      // ids in warned
}

// mostWarned is how many files' warnings are kept. Those of others are in their summaries.
const mostWarned = 1000

// moving is a file whose rows are being sent.
type moving struct {
	feed  string
	rows  int
	done  map[ledger.Status]int // outcomes, including those of earlier runs
	count map[ledger.Status]prometheus.Counter
	all   int  // in done
	left  bool // it is not in this worker's hand any more, but its rows were counted
	pace  pace
	track track
}

var _ ingest.Progress = (*files)(nil)

// Progress returns a Progress that follows the worker's files and passes everything on to
// next. Feeds are those of the worker.
func (m *Monitor) Progress(ctx context.Context, led ledger.Ledger, feeds []*ingest.Feed, next ingest.Progress) (ingest.Progress, error) {
	if m == nil {
		return next, nil
	}
	f := &files{metrics: m.metrics, next: next, moving: make(map[string]*moving), last: make(map[string]time.Time), warned: make(map[string][]billfile.Warning)}
	for _, feed := range feeds {
		m.metrics.begin(feed.Name)
		newest, err := led.Files(ctx, ledger.Query{Feed: feed.Name, ExcludeDropped: true, Limit: 100})
		if err != nil {
			return nil, err
		}
		for _, file := range newest {
			f.finished(feed.Name, file.Finished)
		}
	}
	m.files = f
	return f, nil
}

// FileStarted implements ingest.Progress.
func (f *files) FileStarted(s ingest.Started) {
	f.next.FileStarted(s)
	m := &moving{feed: s.Feed, rows: s.Rows, done: make(map[ledger.Status]int), count: make(map[ledger.Status]prometheus.Counter)}
	maps.Copy(m.done, s.Done)
	for _, status := range ledger.Statuses {
		m.count[status] = f.metrics.rows.WithLabelValues(s.Feed, string(status))
	}
	for _, n := range m.done {
		m.all += n
	}
	now := time.Now()
	m.pace.begin(now)
	m.track.add(now, m.all)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moving[s.ID] = m
}

// RowDone implements ingest.Progress.
func (f *files) RowDone(id string, status ledger.Status) {
	f.next.RowDone(id, status)
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.moving[id]
	if m == nil {
		return
	}
	m.done[status]++
	m.all++
	m.pace.add(now)
	m.track.add(now, m.all)
	if c := m.count[status]; c != nil {
		c.Inc()
	}
}

// FileLeft implements ingest.Progress.
func (f *files) FileLeft(id string) {
	f.next.FileLeft(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.moving[id]; m != nil {
		m.left = true
	}
}

// FileFinished implements ingest.Progress.
func (f *files) FileFinished(id string, s report.Summary) {
	f.next.FileFinished(id, s)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.metrics.files.WithLabelValues(s.Feed, s.Outcome).Inc()
	if f.moving[id] == nil && s.Outcome == ledger.FileRejected {
		// A file that was refused as a whole has no RowDone. For other files that were not
		// followed, an earlier process has counted the rows.
		for status, n := range s.Rows.By {
			f.metrics.rows.WithLabelValues(s.Feed, string(status)).Add(float64(n))
		}
	}
	delete(f.moving, id)
	f.finished(s.Feed, s.FinishedAt.Time)
	if len(s.Warnings) > 0 {
		f.keepWarnings(id, s.Warnings)
	}
}

// keepWarnings keeps the warnings of a file for its page. f.mu is held.
func (f *files) keepWarnings(id string, w []billfile.Warning) {
	if f.warned[id] == nil {
		f.oldest = append(f.oldest, id)
	}
	f.warned[id] = w
	if len(f.oldest) > mostWarned {
		delete(f.warned, f.oldest[0])
		f.oldest = slices.Delete(f.oldest, 0, 1)
	}
}

// warningsOf returns the warnings of a file that this process finished.
func (f *files) warningsOf(id string) []billfile.Warning {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.warned[id]
}

// finished records when a feed's latest file was finished. f.mu is held, or f is not shared
// yet.
func (f *files) finished(feed string, at time.Time) {
	if at.After(f.last[feed]) {
		f.last[feed] = at
	}
}

// lastOf is when a feed's latest file was finished; zero if none was.
func (f *files) lastOf(feed string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last[feed]
}

// busy reports whether rows of a feed's file are being sent.
func (f *files) busy(feed string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.moving {
		if m.feed == feed && !m.left {
			return true
		}
	}
	return false
}

// advance is how far a file under way is.
type advance struct {
	Done, Rows int
	ByStatus   map[ledger.Status]int
	PerSecond  float64       // rows, over the last paceWindow; 0 if none
	Left       time.Duration // at that rate; 0 if unknown
}

// advanceOf returns how far a file is; false if it is not followed.
func (f *files) advanceOf(id string, now time.Time) (advance, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.moving[id]
	if m == nil || m.left {
		return advance{}, false
	}
	a := advance{Done: min(m.all, m.rows), Rows: m.rows, ByStatus: maps.Clone(m.done), PerSecond: m.pace.perSecond(now)}
	a.Left = timeLeft(a)
	return a, true
}

// paceOf draws the pace of a file; nil if it is not followed, or too new.
func (f *files) paceOf(id string, now time.Time) *pacePicture {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.moving[id]
	if m == nil || m.left {
		return nil
	}
	return m.track.picture(now, m.all)
}

// timeLeft is how long the open rows take at the pace that a has; 0 if that is unknown.
func timeLeft(a advance) time.Duration {
	open := a.Rows - a.Done
	if open <= 0 || a.PerSecond <= 0 {
		return 0
	}
	return time.Duration(float64(open) / a.PerSecond * float64(time.Second))
}

// paceWindow is the time that a pace covers, in seconds.
const paceWindow = 30

// pace counts rows by the second. It may not be used concurrently.
type pace struct {
	began time.Time
	slots [paceWindow + 1]struct {
		second int64 // since 1970
		rows   int
	}
}

func (p *pace) begin(now time.Time) { *p = pace{began: now} }

func (p *pace) add(now time.Time) {
	second := now.Unix()
	slot := &p.slots[second%int64(len(p.slots))]
	if slot.second != second {
		slot.second, slot.rows = second, 0
	}
	slot.rows++
}

// perSecond is the rate over the last paceWindow seconds, or since begin if that is later.
func (p *pace) perSecond(now time.Time) float64 {
	rows := 0
	for _, s := range p.slots {
		if age := now.Unix() - s.second; age >= 0 && age <= paceWindow {
			rows += s.rows
		}
	}
	return float64(rows) / min(max(now.Sub(p.began).Seconds(), 1), paceWindow)
}

// watched is the ledger, except that the totals of a file under way are the counts followed
// here, without amounts. To add up a large file for every page would slow it down.
type watched struct {
	ledger.Ledger
	files *files
}

// Totals implements ledger.Ledger.
func (w watched) Totals(ctx context.Context, id string) (ledger.Totals, error) {
	if a, ok := w.files.advanceOf(id, time.Now()); ok {
		return ledger.Totals{Rows: a.ByStatus}, nil
	}
	return w.Ledger.Totals(ctx, id)
}
