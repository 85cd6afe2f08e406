package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

const (
	barEvery = 100 * time.Millisecond // how often a bar is drawn anew
	logEvery = 10 * time.Second       // how often a log line tells how far it is
)

// progress shows how far the files under way are: a bar on a terminal, a log line now and then elsewhere. Its
// methods only count; one goroutine does the showing, and close joins it.
type progress struct {
	screen *console
	log    *slog.Logger
	bars   bool
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	files map[string]*fileProgress // under way
	bar   *progressbar.ProgressBar
}

type fileProgress struct {
	name     string
	rows     int
	done     int
	statuses map[ledger.Status]int
	// The last log line, at first the start.
	logged   int // done then
	loggedAt time.Time
}

var _ ingest.Progress = (*progress)(nil)

// newProgress starts showing; the caller closes it.
func newProgress(s *session) *progress {
	ctx, stop := context.WithCancel(context.Background())
	p := &progress{
		screen: s.screen, log: s.log, bars: s.screen.terminal && !s.NoProgress, stop: stop,
		files: make(map[string]*fileProgress),
	}
	every, show := logEvery, p.logLines
	if p.bars {
		every, show = barEvery, p.drawBar
	}
	p.wg.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show()
			case <-ctx.Done():
				return
			}
		}
	})
	return p
}

// close ends the showing and takes the bar off the screen. Nothing may be told to p afterwards.
func (p *progress) close() {
	p.stop()
	p.wg.Wait()
	p.screen.draw(nil)
}

// FileStarted implements ingest.Progress.
func (p *progress) FileStarted(s ingest.Started) {
	f := &fileProgress{name: s.Name, rows: s.Rows, statuses: make(map[ledger.Status]int), loggedAt: time.Now()}
	for status, n := range s.Done {
		f.statuses[status] = n
		f.done += n
	}
	f.logged = f.done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[s.ID] = f
	p.bar = nil // made anew, for what is under way now
}

// RowDone implements ingest.Progress.
func (p *progress) RowDone(id string, status ledger.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.files[id]; f != nil {
		f.done++
		f.statuses[status]++
	}
}

// FileFinished implements ingest.Progress.
func (p *progress) FileFinished(id string, _ report.Summary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.files, id)
	p.bar = nil
}

// sums is what a bar shows of the files under way.
func (p *progress) sums() (title string, done, rows int) {
	statuses := make(map[ledger.Status]int)
	for _, f := range p.files {
		title, done, rows = f.name, done+f.done, rows+f.rows
		for status, n := range f.statuses {
			statuses[status] += n
		}
	}
	if len(p.files) > 1 {
		title = fmt.Sprintf("%d files", len(p.files))
	}
	if counts := countsOf(statuses); counts != "" {
		title += ": " + counts
	}
	return title, done, rows
}

// countsOf is how many rows have come to each status, as a few words.
func countsOf(statuses map[ledger.Status]int) string {
	var parts []string
	for _, status := range ledger.Statuses {
		if n := statuses[status]; n > 0 {
			parts = append(parts, humanize.Comma(int64(n))+" "+string(status))
		}
	}
	return strings.Join(parts, ", ")
}

func (p *progress) drawBar() {
	p.mu.Lock()
	title, done, rows := p.sums()
	if done == 0 { // nothing to show a pace of
		p.mu.Unlock()
		p.screen.draw(nil)
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions(rows,
			progressbar.OptionSetWriter(p.screen.w),
			progressbar.OptionSetWidth(24),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("rows"),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: " ", BarEnd: " "}),
		)
	}
	bar := p.bar
	p.mu.Unlock()
	p.screen.draw(func() {
		bar.Describe(title)
		// A bar that reaches its end believes it is over and starts a new line, so it never does: when the last row is
		// done, so is the file, and the bar goes.
		if at := min(done, rows-1); at > int(bar.State().CurrentNum) {
			_ = bar.Set(at) // a bar that cannot be drawn is no reason to stop
			return
		}
		_ = bar.RenderBlank()
	})
}

func (p *progress) logLines() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for id, f := range p.files {
		took := now.Sub(f.loggedAt)
		if took < logEvery/2 {
			continue // it has only just begun
		}
		attrs := []any{"file", f.name, "file_id", id, "rows", f.rows, "done", f.done}
		for _, status := range ledger.Statuses {
			if n := f.statuses[status]; n > 0 {
				attrs = append(attrs, string(status), n)
			}
		}
		pace := float64(f.done-f.logged) / took.Seconds()
		attrs = append(attrs, "per_second", int(pace+0.5))
		if pace > 0 {
			attrs = append(attrs, "left", time.Duration(float64(f.rows-f.done)/pace*float64(time.Second)).Round(time.Second).String())
		}
		p.log.Info("rows done", attrs...)
		f.logged, f.loggedAt = f.done, now
	}
}
