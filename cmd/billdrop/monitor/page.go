package monitor

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/watch"
)

const (
	// refreshAfter is how often a browser loads a page that changes.
	refreshAfter = 5 * time.Second
	// pageTimeout bounds how long a page waits for the ledger. It is below answerTimeout.
	pageTimeout = 25 * time.Second
	// newestFiles is how many finished files the front page lists.
	newestFiles = 50
	// mostLines bounds the lines of each kind that a page lists: files under way or held, and
	// remarks about an inbox, in which a sender may leave any number of names.
	mostLines = 200
	// mostPaces bounds the files under way whose pace the front page draws.
	mostPaces = 5
	// mostCounted bounds the files that are counted beyond those that are listed.
	mostCounted = 2_000
	// maxReason bounds what a page quotes of an error, in bytes.
	maxReason = 2_000
)

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

// contentPolicy allows a page its own inline style and nothing else.
var contentPolicy = func() string {
	sum := sha256.Sum256([]byte(styleText))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":    func() template.CSS { return template.CSS(styleText) },
	"at":       at,
	"datetime": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"short":    short,
	"ago":      humanize.Time,
	"clock":    func(t time.Time) string { return t.Local().Format("15:04:05") },
	"date":     func(t time.Time) string { return t.Format("2 Jan") },
	"left":     left,
	"join":     func(s []string) string { return strings.Join(s, ", ") },
	"moving":   newBar,
	"number":   describe.Number,
	"size":     func(n int64) string { return humanize.IBytes(uint64(max(0, n))) },
	"statuses": func() []ledger.Status { return ledger.Statuses[:] },
	"sums":     func(billed string) []string { return strings.SplitAfter(billed, ", ") },
	"words":    func(s ledger.Status) string { return strings.ReplaceAll(string(s), "_", " ") },
}).Parse(pageText))

// at is a time in the machine's time zone.
func at(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// short is a time without the date if it is today, else without the seconds.
func short(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// left is about how long something takes.
func left(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < time.Hour:
		return fmt.Sprintf("about %d min", int(d.Minutes()+0.5))
	}
	return fmt.Sprintf("about %d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// bar is the progress of a file.
type bar struct {
	Name string
	By   map[ledger.Status]int
	Rate int // rows a second
	Pace *pacePicture
	advance
}

func newBar(name string, a advance, p *pacePicture) bar {
	return bar{Name: name, By: a.ByStatus, Rate: int(a.PerSecond + 0.5), Pace: p, advance: a}
}

// page is what every page has.
type page struct {
	Title   string
	Version string
	Now     time.Time
	Refresh int  // seconds until the browser loads it again; 0 = never
	Live    bool // what it shows changes, whether or not Refresh is on
}

// newPage makes a page. changes says whether what it shows still changes.
func (v *view) newPage(r *http.Request, title string, changes bool) page {
	p := page{Title: title, Version: v.Version, Now: time.Now(), Live: changes}
	if changes && r.URL.Query().Get("refresh") != "off" {
		p.Refresh = int(refreshAfter.Seconds())
	}
	return p
}

// frontPage is what billdrop does now, and what it did last.
type frontPage struct {
	page
	Feeds    []feedLine
	Shared   bool              // several workers may share the ledger
	Workers  []describe.Worker // that are alive, if Shared
	UnderWay []movingLine
	Held     []describe.File
	Payments []paymentLine
	Days     []daysPicture
	MoreDays int // currencies that have no picture
	Latest   []describe.File
	Troubled int  // feeds whose latest poll failed
	More     int  // files under way or held that are not shown
	Most     bool // and these are not all
	Older    bool // older files exist than are shown
}

// feedLine is a feed.
type feedLine struct {
	watch.State
	Ready     bool
	Elsewhere bool   // another worker polls it
	Why       string // of Ready
	Merchant  string
	Mode      string
	LastFile  time.Time
	More      []moreRemarks // remarks that are not shown, by kind
}

// moreRemarks are remarks of one kind that are not shown.
type moreRemarks struct {
	Kind  string
	Count int
}

// shorten leaves at most mostLines remarks of each kind, and counts the others.
func (l *feedLine) shorten() {
	seen := make(map[string]int)
	var shown []watch.Remark
	for _, r := range l.Remarks {
		if seen[r.Kind]++; seen[r.Kind] <= mostLines {
			r.Text = cut(r.Text)
			shown = append(shown, r)
		}
	}
	l.Remarks = shown
	for _, kind := range slices.Sorted(maps.Keys(seen)) {
		if n := seen[kind] - mostLines; n > 0 {
			l.More = append(l.More, moreRemarks{kind, n})
		}
	}
}

// cut returns the beginning of a long text.
func cut(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + " …"
}

// movingLine is a file under way.
type movingLine struct {
	*ledger.File
	Step     string // in words, while no rows are sent
	Sending  bool
	Progress advance
	Pace     *pacePicture // nil if it is not drawn
}

// overview shows the front page.
func (v *view) overview(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p := &frontPage{page: v.newPage(r, "billdrop", true)}
	for i, s := range v.Worker.Inboxes() {
		line := feedLine{State: s, LastFile: v.files.lastOf(s.Feed)}
		line.Ready, line.Why = v.ready(s)
		line.Elsewhere = v.elsewhere(s)
		line.shorten()
		line.Merchant, line.Mode = v.Feeds[i].Lane.Scope().Merchant, v.Feeds[i].Lane.Scope().Mode
		if !line.Ready && !s.Polled.IsZero() {
			p.Troubled++
		}
		p.Feeds = append(p.Feeds, line)
	}
	p.Shared = v.shared != nil
	var err error
	if p.Workers, err = describe.ReadWorkers(ctx, v.Ledger); err == nil {
		err = p.readFiles(ctx, v)
	}
	if err == nil {
		p.Payments, err = v.paymentLines(ctx)
	}
	if err == nil {
		p.Days, p.MoreDays, err = v.daysPictures(ctx, p.Now)
	}
	if err != nil {
		v.sorry(w, r, err)
		return
	}
	p.Title = p.headline()
	v.show(w, http.StatusOK, "front", p)
}

// readFiles reads the files that are shown.
func (p *frontPage) readFiles(ctx context.Context, v *view) error {
	unfinished, err := v.Ledger.Files(ctx, ledger.Query{Unfinished: true, Limit: mostCounted})
	if err != nil {
		return err
	}
	p.Most = len(unfinished) == mostCounted
	if p.More = max(0, len(unfinished)-mostLines); p.More > 0 {
		unfinished = unfinished[:mostLines]
	}
	for _, f := range unfinished {
		if f.State == ledger.Held {
			held, err := v.read(ctx, f)
			if err != nil {
				return err
			}
			p.Held = append(p.Held, held)
			continue
		}
		line := movingLine{File: f, Step: describe.Step(f.State)}
		if line.Progress, line.Sending, err = v.advanceOf(ctx, f, p.Now); err != nil {
			return err
		}
		if line.Sending && len(p.UnderWay) < mostPaces {
			line.Pace = v.paceOf(f, p.Now)
		}
		p.UnderWay = append(p.UnderWay, line)
	}
	newest, err := v.Ledger.Files(ctx, ledger.Query{ExcludeDropped: true, Limit: newestFiles + len(unfinished) + 1})
	if err != nil {
		return err
	}
	newest = slices.DeleteFunc(newest, func(f *ledger.File) bool { return !f.State.Finished() })
	if p.Older = len(newest) > newestFiles; p.Older {
		newest = newest[:newestFiles]
	}
	for _, f := range newest {
		told, err := v.read(ctx, f)
		if err != nil {
			return err
		}
		p.Latest = append(p.Latest, told)
	}
	return nil
}

// headline is the page's title. It puts first what needs attention.
func (p *frontPage) headline() string {
	var parts []string
	if p.Troubled > 0 {
		parts = append(parts, fmt.Sprintf("%d in trouble", p.Troubled))
	}
	if n := len(p.Held); n > 0 {
		parts = append(parts, fmt.Sprintf("%d held", n))
	}
	if n := len(p.UnderWay); n > 0 {
		parts = append(parts, fmt.Sprintf("%d under way", n))
	}
	return strings.Join(append(parts, "billdrop"), " · ")
}

// show writes a page, whole or not at all.
func (v *view) show(w http.ResponseWriter, code int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		v.Log.Warn("the status page cannot be drawn", "error", err)
		http.Error(w, "this page cannot be drawn; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, visible(b.String())) // the client may have gone
}

// visible replaces the control and bidirectional characters of names and of texts of others.
func visible(page string) string {
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		lines[i] = report.Visible(line)
	}
	return strings.Join(lines, "\n")
}

// sorryPage says why there is nothing to show.
type sorryPage struct {
	page
	Why string
}

// sorry reports that the ledger cannot be read, or that a file is not in it.
func (v *view) sorry(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ledger.ErrNotFound) {
		v.show(w, http.StatusNotFound, "sorry", sorryPage{v.newPage(r, "No such file · billdrop", false), "There is no file of that id in the ledger."})
		return
	}
	if r.Context().Err() != nil {
		return // the client has gone
	}
	v.Log.Warn("the status page cannot read the ledger", "error", err)
	v.show(w, http.StatusServiceUnavailable, "sorry", sorryPage{v.newPage(r, "Ledger out of reach · billdrop", true), "The ledger cannot be read; the log says why."})
}
