package console

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
	barEvery = 100 * time.Millisecond // between two drawings of a bar
	logEvery = 10 * time.Second       // between two log lines about a file
)

// Progress shows how far the files under way are: with a bar on a terminal, with a log
// line now and then elsewhere. Its methods only count. One goroutine shows the counts,
// and Close joins it.
type Progress struct {
	console *Console
	log     *slog.Logger
	stop    context.CancelFunc
	showing sync.WaitGroup

	mu    sync.Mutex
	files map[string]*fileProgress // under way, by file id
	bar   *progressbar.ProgressBar
}

type fileProgress struct {
	name     string
	rows     int
	done     int
	statuses map[ledger.Status]int
	// The latest log line; at first, the start.
	logged   int // rows done then
	loggedAt time.Time
}

var _ ingest.Progress = (*Progress)(nil)

// NewProgress starts to show progress, with a bar if bars is true and the console is a
// terminal. The caller closes it.
func NewProgress(c *Console, log *slog.Logger, bars bool) *Progress {
	ctx, stop := context.WithCancel(context.Background())
	p := &Progress{console: c, log: log, stop: stop, files: make(map[string]*fileProgress)}
	every, show := logEvery, p.logLines
	if bars && c.terminal {
		every, show = barEvery, p.drawBar
	}
	p.showing.Go(func() {
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

// Close takes the bar off the screen. No other method may be called after it.
func (p *Progress) Close() {
	p.stop()
	p.showing.Wait()
	p.console.draw(nil)
}

// FileStarted implements ingest.Progress.
func (p *Progress) FileStarted(s ingest.Started) {
	f := &fileProgress{
		name: s.Name, rows: s.Rows, statuses: make(map[ledger.Status]int), loggedAt: time.Now(),
	}
	for status, n := range s.Done {
		f.statuses[status] = n
		f.done += n
	}
	f.logged = f.done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[s.ID] = f
	p.bar = nil // the next drawing makes one for all files under way
}

// RowDone implements ingest.Progress.
func (p *Progress) RowDone(id string, status ledger.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.files[id]; f != nil {
		f.done++
		f.statuses[status]++
	}
}

// FileLeft implements ingest.Progress.
func (p *Progress) FileLeft(id string) { p.FileFinished(id, report.Summary{}) }

// FileFinished implements ingest.Progress.
func (p *Progress) FileFinished(id string, _ report.Summary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.files, id)
	p.bar = nil
}

// sums returns what a bar shows of all files under way. p.mu is held.
func (p *Progress) sums() (title string, done, rows int) {
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
	var counts []string
	for _, status := range ledger.Statuses {
		if n := statuses[status]; n > 0 {
			counts = append(counts, humanize.Comma(int64(n))+" "+string(status))
		}
	}
	if len(counts) > 0 {
		title += ": " + strings.Join(counts, ", ")
	}
	return title, done, rows
}

func (p *Progress) drawBar() {
	p.mu.Lock()
	title, done, rows := p.sums()
	if done == 0 { // there is no rate to show yet
		p.mu.Unlock()
		p.console.draw(nil)
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions(rows,
			progressbar.OptionSetWriter(p.console.w),
			progressbar.OptionSetWidth(24),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("rows"),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetTheme(progressbar.Theme{
				Saucer: "█", SaucerPadding: "░", BarStart: " ", BarEnd: " ",
			}),
		)
	}
	bar := p.bar
	p.mu.Unlock()
	p.console.draw(func() {
		bar.Describe(title)
		// A bar that reaches its end starts a new line. So it stops one row short; when
		// the last row is done, so is the file, and the bar goes.
		if at := min(done, rows-1); at > int(bar.State().CurrentNum) {
			_ = bar.Set(at) // the work goes on, with or without a bar
			return
		}
		_ = bar.RenderBlank()
	})
}

func (p *Progress) logLines() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for id, f := range p.files {
		took := now.Sub(f.loggedAt)
		if took < logEvery/2 {
			continue // it has just begun
		}
		attrs := []any{"file", f.name, "file_id", id, "rows", f.rows, "done", f.done}
		for _, status := range ledger.Statuses {
			if n := f.statuses[status]; n > 0 {
				attrs = append(attrs, string(status), n)
			}
		}
		rate := float64(f.done-f.logged) / took.Seconds()
		attrs = append(attrs, "per_second", int(rate+0.5))
		if rate > 0 {
			left := time.Duration(float64(f.rows-f.done) / rate * float64(time.Second))
			attrs = append(attrs, "left", left.Round(time.Second).String())
		}
		p.log.Info("rows done", attrs...)
		f.logged, f.loggedAt = f.done, now
	}
}
