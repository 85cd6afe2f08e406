// Package monitor shows the state of a worker: health for a supervisor, metrics for
// Prometheus, a page for people. It only reads.
//
// It shows counts, sums, file names, bill references, states and codes. The details of rows
// and of refused files may quote personal data from a wrong column, so they stay in the
// reports.
package monitor

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/watch"
)

// Monitor counts what a worker does, from before the worker exists. It may be used
// concurrently. A nil Monitor counts nothing.
type Monitor struct {
	metrics *metrics
	files   *files // nil until Progress
}

// New makes a monitor of a billdrop of that version.
func New(version string) *Monitor { return &Monitor{metrics: newMetrics(version)} }

// Site is what is shown.
type Site struct {
	Worker Worker
	Ledger ledger.Ledger
	// Payments is where received payments are; nil if none are received or reported.
	Payments ledger.Payments
	Feeds    []*ingest.Feed
	Version  string
	Log      *slog.Logger
	// Loopback: only this machine reaches it, so requests that name another host are refused
	// (see guard).
	Loopback bool
}

// Worker is the part of *ingest.Worker that is shown.
type Worker interface {
	Inboxes() []watch.State
}

// view is a site with the state of its handlers.
type view struct {
	Site
	*Monitor
	over   atomic.Bool // the worker has ended
	good   *goodPolls
	shared *shared // nil if the ledger is one machine's
	paid   paymentSums
	days   byDay
}

// errUnwired is a mistake in the program.
var errUnwired = errors.New("the monitor follows no worker: Progress comes before Serve")
