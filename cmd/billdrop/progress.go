package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

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
	name    string
	rows    int
	done    int
	logged  int // done at the last log line
	started time.Time
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
func (p *progress) FileStarted(id, name string, rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[id] = &fileProgress{name: name, rows: rows, started: time.Now()}
	p.bar = nil // made anew, for what is under way now
}

// RowDone implements ingest.Progress.
func (p *progress) RowDone(id string, _ ledger.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.files[id]; f != nil {
		f.done++
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
	for _, f := range p.files {
		title, done, rows = f.name, done+f.done, rows+f.rows
	}
	if len(p.files) > 1 {
		title = fmt.Sprintf("%d files", len(p.files))
	}
	return title, done, rows
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
			progressbar.OptionSetDescription(title),
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
	for id, f := range p.files {
		perSecond := float64(f.done-f.logged) / logEvery.Seconds()
		f.logged = f.done
		p.log.Info("rows done", "file", f.name, "file_id", id, "done", f.done, "rows", f.rows, "per_second", int(perSecond+0.5))
	}
}
