package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
	"billdrop/ingest/report"
	"billdrop/ingest/watch"
)

type statusCmd struct {
	FileID  string `arg:"" optional:"" name:"FILE_ID" help:"Id of a file, to see its rows that need attention."`
	Feed    string `placeholder:"NAME" help:"List the files of this feed alone."`
	Limit   *int   `placeholder:"N" help:"Files listed at most; 0 = all (default: 20 in a table, all with --output json)."`
	MaxRows int    `placeholder:"N" default:"20" help:"With FILE_ID: rows shown at most for each thing to do; 0 = all (default: 20)."`
}

func (statusCmd) Help() string {
	return `Only reads the ledger, so it may be used while a worker runs. Without FILE_ID it lists the newest files and exits 0. With FILE_ID it exits 1 when the file or one of its rows needs attention.

Examples:
  billdrop status
  billdrop status 20261123-053000-1f2e3d4c`
}

// Run lists files, or tells what to do about one.
func (c *statusCmd) Run(ctx context.Context, s *session) error {
	if c.Limit != nil && *c.Limit < 0 || c.MaxRows < 0 {
		return usagef("--limit and --max-rows must not be negative; write how many to show at most, or 0 for all")
	}
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	led, err := lookIntoLedger(ctx, conf)
	if err != nil {
		return err
	}
	if c.FileID != "" {
		err = c.one(ctx, s, led)
	} else {
		err = c.list(ctx, s, led, c.expectations(conf))
	}
	return errors.Join(err, led.Close())
}

// lookIntoLedger opens the ledger for reading, beside a worker or not.
func lookIntoLedger(ctx context.Context, conf *config.Config) (*sqlite.Ledger, error) {
	path := conf.LedgerPath()
	led, err := sqlite.OpenReadOnly(ctx, path)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, fmt.Errorf("%w: there is no ledger %s\nhint: the first run makes it; if there was one, mount or restore the disk that it is on", ledger.ErrUnusable, path)
	}
	if err != nil {
		return nil, err
	}
	return led, nil
}

// fileStatus is a file as `status` tells it. Keys may be added at any time.
type fileStatus struct {
	FileID   string         `json:"file_id"`
	File     string         `json:"file"`
	SHA256   string         `json:"sha256"` // "" until it was fetched
	Feed     string         `json:"feed"`
	Mode     string         `json:"mode"`
	State    string         `json:"state"`
	Outcome  string         `json:"outcome"` // "" while it is being worked on
	Code     string         `json:"code"`
	Detail   string         `json:"detail"`
	Approved bool           `json:"approved"`  // of a held file: the next run sends it
	Rows     report.Rows    `json:"rows"`      // by the outcomes so far; total is of the whole file, once it was read
	RowsOpen int            `json:"rows_open"` // that have no outcome yet
	Amounts  report.Amounts `json:"amounts"`
	Received time.Time      `json:"-"`
	// Times are null as long as there are none.
	ReceivedAt report.Timestamp `json:"received_at"`
	FinishedAt report.Timestamp `json:"finished_at"`
	Path       string           `json:"path"`    // where the file is now; "" for standard input
	Results    string           `json:"results"` // directory of its reports
	Stem       string           `json:"stem"`    // of its reports; "" until it was fetched

	// With FILE_ID alone.
	Attention *attention `json:"attention,omitempty"`
}

// readStatus sums a file up.
func readStatus(ctx context.Context, led ledger.Ledger, f *ledger.File) (*fileStatus, report.Summary, error) {
	totals, err := ledger.SumsOf(ctx, led, f)
	if err != nil {
		return nil, report.Summary{}, err
	}
	s := report.Summarize(f, totals)
	open := max(0, f.Rows-s.Rows.Total)
	if f.State.Finished() { // rows that were never read have no outcomes
		open = 0
	}
	s.Rows.Total += open
	return &fileStatus{
		FileID: f.ID, File: f.Name, SHA256: f.SHA256, Feed: f.Feed, Mode: f.Scope.Mode, State: string(f.State),
		Outcome: f.Outcome, Code: f.Code, Detail: f.Detail, Approved: f.Approved, Rows: s.Rows, RowsOpen: open, Amounts: s.Amounts,
		Received: f.Received, ReceivedAt: report.At(f.Received), FinishedAt: report.At(f.Finished), Path: f.Path, Results: f.Results, Stem: f.Stem,
	}, s, nil
}

// expectation is what one feed expects.
type expectation struct {
	feed string
	*watch.Expect
}

// expectations are those of the feeds that are asked for.
func (c *statusCmd) expectations(conf *config.Config) []expectation {
	var list []expectation
	for i := range conf.Feeds {
		f := &conf.Feeds[i]
		if e := buildExpect(f); e != nil && (c.Feed == "" || c.Feed == f.Name) {
			list = append(list, expectation{f.Name, e})
		}
	}
	return list
}

// missingFile is an expected file that has not come, as `status` tells it.
type missingFile struct {
	Feed    string           `json:"feed"`
	Pattern string           `json:"pattern"`
	Due     report.Timestamp `json:"due"`

	text string
}

func findMissing(ctx context.Context, led ledger.Ledger, expected []expectation) ([]missingFile, error) {
	list := []missingFile{}
	for _, e := range expected {
		m, err := watch.FindOverdue(ctx, led, e.feed, e.Expect, time.Now())
		if err != nil {
			return nil, err
		}
		if m != nil {
			list = append(list, missingFile{m.Feed, m.Pattern, report.At(m.Due), m.Text()})
		}
	}
	return list, nil
}

// defaultLimit is how many files a table shows that nobody has asked for a number of.
const defaultLimit = 20

// list shows the newest files, and warns of those that should be there.
func (c *statusCmd) list(ctx context.Context, s *session, led ledger.Ledger, expected []expectation) error {
	files, err := led.Files(ctx, ledger.Query{Feed: c.Feed, Ours: true})
	if err != nil {
		return err
	}
	limit := len(files)
	if c.Limit != nil && *c.Limit > 0 {
		limit = min(limit, *c.Limit)
	} else if c.Limit == nil && !s.json() {
		limit = min(limit, defaultLimit)
	}
	list := make([]*fileStatus, limit)
	for i, f := range files[:limit] {
		if list[i], _, err = readStatus(ctx, led, f); err != nil {
			return err
		}
	}
	missing, err := findMissing(ctx, led, expected)
	if err != nil {
		return err
	}
	if s.json() {
		err = writeJSON(s.stdout, map[string]any{"files": list, "older": len(files) - limit, "missing": missing})
	} else {
		for _, m := range missing {
			s.screen.warnf("feed %s: %s", m.Feed, m.text)
		}
		_, err = io.WriteString(s.stdout, listText(list, len(files)-limit))
	}
	if err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// listText is a table of files, newest first; older is how many more there are.
func listText(list []*fileStatus, older int) string {
	if len(list) == 0 {
		return "no files yet\n"
	}
	words := []string{"received", "state", "feed", "file id", "billed"}
	t := newTable(words...)
	t.AppendHeader(table.Row{"file", "received", "state", "rows", "created", "existing", "attention", "billed", "feed", "file id"})
	needed := ""
	for _, f := range list {
		if needed == "" && f.needsAttention() {
			needed = f.FileID
		}
		t.AppendRow(table.Row{
			f.File, f.Received.Local().Format("2006-01-02 15:04"), f.stateWords(), grouped(int64(f.Rows.Total)),
			grouped(int64(f.Rows.By[ledger.Created])), grouped(int64(f.Rows.By[ledger.Existing])), grouped(int64(f.Rows.Attention())),
			f.billed(), f.Feed, f.FileID,
		})
	}
	var b strings.Builder
	fmt.Fprintln(&b, t.Render())
	if older > 0 {
		fmt.Fprintf(&b, "  … and %s; --limit 0 lists all\n", count(older, "older file"))
	}
	if needed != "" {
		fmt.Fprintf(&b, "What to do about the rows of a file that need attention: billdrop status %s\n", needed)
	}
	return b.String()
}

// needsAttention reports whether somebody has to look at the file, or at a row of it.
func (f *fileStatus) needsAttention() bool {
	return f.Code != "" || f.Outcome == ledger.FileHeld || f.Rows.Attention() > 0
}

// stateWords is how far a file has come: what came of it, once that is known.
func (f *fileStatus) stateWords() string {
	switch state := ledger.FileState(f.State); {
	case state == ledger.Held && f.Approved:
		return "held, approved: the next run sends it"
	case state == ledger.Held && f.Outcome == ledger.FileRejected:
		return "rejected: the next run reports it so"
	case state == ledger.Done, state == ledger.Held:
		return outcomeWords(report.Summary{Outcome: f.Outcome, Code: f.Code})
	case state == ledger.Sending:
		return fmt.Sprintf("sending, %s of %s", grouped(int64(f.Rows.Total-f.RowsOpen)), count(f.Rows.Total, "row"))
	}
	return f.State
}

// billed sums up the rows that have their bill, in each currency.
func (f *fileStatus) billed() string {
	var sums []string
	for _, c := range slices.Sorted(maps.Keys(f.Amounts)) {
		sum := f.Amounts[c][ledger.Created] + f.Amounts[c][ledger.Existing]
		sums = append(sums, c+" "+majorUnits(c, sum))
	}
	return cmp.Or(strings.Join(sums, ", "), "–")
}
