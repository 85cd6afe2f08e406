// Package ingest is the worker: it claims bill files, and takes each through its life in
// durable order, until every row has its outcome and the file rests with its reports.
//
// Below it, inbox is one SFTP account, and transfer moves files and reports by it. billfile
// reads bill files, delivery turns rows into bills, report writes what became of them, and
// ledger remembers all of it. watch finds what the operator should know of an inbox, and
// durable writes local files.
//
// Its files, in the order in which a bill file meets them: run.go starts the rounds of each
// feed, and round.go is one of them. bound.go checks that a feed still has the merchant,
// mode and API of its files. claim.go claims and fetches, and spool.go keeps the local copy.
// companion.go reads a file's companions: its checksum and its control totals. life.go takes
// the file through its states: judge.go and hold.go decide whether it is sent, and
// reports.go and publish.go put the reports in place. import.go begins with a file of this
// machine instead. orders.go, orderplace.go, reject.go and retry.go carry out what the
// operator decides. prune.go removes old files, and errors.go has the errors.
//
// Where several workers share the ledger, cluster.go says what each of them is,
// colleagues.go has their leases, parts.go divides the rows of a file, and partwork.go
// delivers the parts, which filecopies.go reads.
package ingest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// Hold are the limits above which a file waits for the operator. Zero fields: no limit
// (MaxInvalidPercent: 100).
type Hold struct {
	MaxInvalidPercent int
	MaxRows           int
	MaxTotal          map[string]int64 // currency → minor units
}

// Feed is one stream of bill files of one merchant.
type Feed struct {
	Name          string
	Lane          *delivery.Lane
	BaseURL       string                                         // of the lane's API, always in the same spelling
	Connect       func(context.Context) (transfer.Remote, error) // nil: the feed only imports
	Dirs          transfer.Dirs
	Watch         inbox.Watch // pattern, ignore, settle, marker
	Format        billfile.Format
	RejectInvalid bool // on_invalid: reject
	// MaxInvalidRows is how many rows may be invalid where they are more than half of a file;
	// 0 = no limit. A file with more is refused, and its reports have the first of them alone.
	MaxInvalidRows int
	Hold           Hold
	Expect         *watch.Expect // nil: no file is expected
	// Present: every bill that a file creates gets a payment request. nil: none does.
	Present *delivery.Presenting
}

// Progress is called as the rows of a file are done. Methods are called concurrently and
// must not block.
type Progress interface {
	FileStarted(Started)
	RowDone(id string, status ledger.Status)
	// FileLeft is called when the file is out of this worker's hand and not finished: another
	// of those that share the ledger goes on with it, or this one, after FileStarted.
	FileLeft(id string)
	FileFinished(id string, s report.Summary)
}

// Started is a file whose rows are about to be sent.
type Started struct {
	ID, Name, Feed string
	Rows           int
	Done           map[ledger.Status]int // rows that have their outcome from an earlier run; do not change it
}

// Options is what a Worker needs; Progress and Finished may be nil.
type Options struct {
	Ledger   ledger.Ledger
	Spool    string // local directory, 0700
	Feeds    []*Feed
	Log      *slog.Logger
	Progress Progress
	// Finished is called for each file that ends or is held, once its reports are in place.
	// s is its summary.json. After a crash at that moment it may not be called. It is
	// called concurrently and must not block.
	Finished func(s report.Summary)
	Version  string
	// Member is used if Ledger is a ledger.Shared: then the Worker is one of any number that
	// share the ledger, each with a spool of its own. Run, Poll, Import, Retry and Reject join
	// the others and leave them, so only one of them may be called at a time.
	Member Member
}

// Worker takes bill files through their lives. No other Worker may use its spool, or its
// ledger unless that is a ledger.Shared. Poll and Import may be called concurrently, but
// not on a ledger.Shared: see Options.Member.
type Worker struct {
	Options
	spool    spool
	orders   orders
	shared   ledger.Shared // Options.Ledger, if other workers use it too; else nil
	crew     *crew         // likewise
	named    bool          // the operator has chosen the worker's name
	runID    string
	settlers map[string]*inbox.Settler // by feed
	claims   sync.Mutex                // held while a name in processing/ is chosen and recorded
	inboxes  *watch.Board
}

// New makes a Worker. It reads and writes nothing yet.
func New(o Options) (*Worker, error) {
	if o.Ledger == nil || o.Spool == "" || o.Log == nil {
		return nil, errors.New("a worker needs a ledger, a spool directory and a log")
	}
	w := &Worker{Options: o, spool: spool{o.Spool}, orders: ordersOf(o.Ledger, o.Spool), runID: newID(time.Now()), settlers: make(map[string]*inbox.Settler)}
	names := make([]string, len(o.Feeds))
	for i, f := range o.Feeds {
		w.settlers[f.Name], names[i] = inbox.NewSettler(f.Watch), f.Name
	}
	w.inboxes = watch.NewBoard(o.Log, names)
	if shared, ok := o.Ledger.(ledger.Shared); ok {
		var err error
		w.named = o.Member.Name != ""
		if w.Member, err = o.Member.withDefaults(); err != nil {
			return nil, err
		}
		w.shared, w.crew = shared, newCrew(w)
	}
	return w, nil
}

// Inboxes returns what the latest look into each feed's inbox showed, in the order of
// Options.Feeds. It may be called concurrently with all other methods.
func (w *Worker) Inboxes() []watch.State {
	states := make([]watch.State, len(w.Feeds))
	for i, f := range w.Feeds {
		states[i] = w.inboxes.State(f.Name)
	}
	return states
}

// newID makes an id of a file or a run: sortable by time, short enough to be typed, and
// unique by 32 random bits.
func newID(now time.Time) string {
	var b [4]byte
	rand.Read(b[:])
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}
