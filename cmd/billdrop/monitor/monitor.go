// Package monitor shows how a worker is: health for a supervisor, metrics for Prometheus, a page for people. It
// reads, and changes nothing.
//
// What it shows are counts, sums, file names, bill references, states and codes. Details of rows and of refused files may
// quote what a biller wrote into the wrong column, so they stay in the reports.
package monitor

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/watch"
)

// Monitor counts what a worker does, from before the worker is there. It may be used concurrently. A nil Monitor
// counts nothing and stands in nobody's way.
type Monitor struct {
	metrics *metrics
	files   *files // nil until Progress
}

// New makes a monitor of a billdrop of that version.
func New(version string) *Monitor { return &Monitor{metrics: newMetrics(version)} }

// Teller puts what the ledger holds into words. `billdrop status` has them, so that the page says the same.
type Teller interface {
	// File sums a file up. It reads the outcomes through led.Totals alone.
	File(ctx context.Context, led ledger.Ledger, f *ledger.File) (File, error)
	// Number writes a number the way people do.
	Number(n int64) string
}

// File is a file as people read it.
type File struct {
	*ledger.File
	Words     string // how far it has come, or what came of it
	Attention bool   // somebody has to look at it, or at a row of it
	Rows      int    // records, those without an outcome included
	Needing   int    // rows that need attention
	ByStatus  map[ledger.Status]int
	Billed    string // sums of the rows that have their bill: "ZAR 12,345.67"
	Sums      Sums
	ToDo      []ToDo
	Reports   []string // paths of its reports, the one that needs work first
}

// Created is how many of its rows made their bill.
func (f File) Created() int { return f.ByStatus[ledger.Created] }

// Existing is how many of its rows found their bill there.
func (f File) Existing() int { return f.ByStatus[ledger.Existing] }

// Why is why it is held, without what to do about it, which stands beside.
func (f File) Why() string {
	return strings.TrimSuffix(f.Detail, ingest.HoldAdvice(f.ID))
}

// GivenUp reports whether a held file was rejected, and waits for the next poll to say so.
func (f File) GivenUp() bool { return f.State == ledger.Held && f.Outcome == ledger.FileRejected }

// Sums are the rows and amounts of a file by status.
type Sums struct {
	Currencies []string
	Lines      []SumLine // statuses that occur, then the total
}

// SumLine is one status.
type SumLine struct {
	Status  string
	Rows    int
	Amounts []string // in major units, in the order of Sums.Currencies
}

// ToDo are rows of a file about which the same is to be done.
type ToDo struct {
	Do       string // in one word, for addresses
	Title    string
	Advice   string
	Statuses []ledger.Status
	Count    int
}

// Site is what is shown.
type Site struct {
	Worker  Worker
	Ledger  ledger.Ledger
	Feeds   []*ingest.Feed
	Teller  Teller
	Version string
	Log     *slog.Logger
	// Loopback: it is reached from this machine alone, so requests that name another host are refused (see guard).
	Loopback bool
}

// Worker is the part of *ingest.Worker that is shown.
type Worker interface {
	Inboxes() []watch.State
}

// view is a site with what its handlers remember.
type view struct {
	Site
	*Monitor
	over atomic.Bool // the worker has ended
	good *goodPolls
}

// errUnwired is a mistake of the program, not of its user.
var errUnwired = errors.New("the monitor follows no worker: Progress comes before Serve")
