package describe

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// File is a file in any state, with its rows counted so far.
type File struct {
	*ledger.File
	Summary report.Summary // Rows.Total includes the rows without an outcome
	Open    int            // rows without an outcome
}

// ReadFile counts the rows of f. It reads their outcomes through led.Totals only.
func ReadFile(ctx context.Context, led ledger.Ledger, f *ledger.File) (File, error) {
	totals, err := ledger.SumsOf(ctx, led, f)
	if err != nil {
		return File{}, err
	}
	s := report.Summarize(f, totals)
	open := max(0, f.Rows-s.Rows.Total)
	if f.State.Finished() { // rows that were never read have no outcome
		open = 0
	}
	s.Rows.Total += open
	return File{File: f, Summary: s, Open: open}, nil
}

// Total is the number of rows, once the file has been read.
func (f File) Total() int { return f.Summary.Rows.Total }

// Created is the number of rows that created their bill.
func (f File) Created() int { return f.Summary.Rows.By[ledger.Created] }

// Existing is the number of rows whose bill existed before.
func (f File) Existing() int { return f.Summary.Rows.By[ledger.Existing] }

// Attention is the number of rows that need attention.
func (f File) Attention() int { return f.Summary.Rows.Attention() }

// NeedsAttention reports whether the file as a whole or one of its rows needs attention.
func (f File) NeedsAttention() bool {
	return f.Code != "" || f.Outcome == ledger.FileHeld || f.Outcome == ledger.CompletedWithErrors || f.Attention() > 0
}

// GivenUp reports whether the operator has rejected the file, and it is not settled yet. The
// next run finishes it.
func (f File) GivenUp() bool { return ingest.RejectedByHand(f.File) }

// Why is why the file is held or was refused, without the advice that ends the detail
// of a held file.
func (f File) Why() string { return strings.TrimSuffix(f.Detail, ingest.HoldAdvice(f.ID)) }

// Words say how far the file has come, or what became of it.
func (f File) Words() string {
	switch {
	case f.State == ledger.Held && f.Approved:
		return "held, approved: the next run sends it"
	case f.GivenUp():
		return "rejected: the next run reports it so"
	case f.State == ledger.Done, f.State == ledger.Held:
		return Outcome(f.Outcome, f.Code)
	case f.State == ledger.Sending:
		return fmt.Sprintf("sending, %s of %s", Number(f.Total()-f.Open), Count(f.Total(), "row"))
	}
	return string(f.State)
}

// Step is what is being done with a file in a state in which no rows are sent.
func Step(state ledger.FileState) string {
	return map[ledger.FileState]string{
		ledger.Claiming:  "being taken from the inbox",
		ledger.Claimed:   "being fetched",
		ledger.Spooled:   "being validated",
		ledger.Sending:   "about to be sent",
		ledger.Settled:   "reports being written",
		ledger.Published: "being put into the archive",
	}[state]
}

// Billed adds up the rows that have their bill, in each currency.
func (f File) Billed() string {
	billed := make(map[string]int64)
	for c, by := range f.Summary.Amounts {
		billed[c] = by[ledger.Created] + by[ledger.Existing]
	}
	return cmp.Or(strings.Join(Amounts(billed), ", "), "–")
}

// settled is the summary without the rows that have no outcome.
func (f File) settled() report.Summary {
	s := f.Summary
	s.Rows.Total -= f.Open
	return s
}

// Sums add up the rows that have an outcome.
func (f File) Sums() Sums {
	if s := f.settled(); s.Rows.Total > 0 {
		return sumsOf(s)
	}
	return Sums{}
}

// Reports are the paths of the reports worth opening, the one that needs work first. Reports
// that were not published, or that are gone from this machine, are not among them.
func (f File) Reports() []string {
	names := report.NamesOf(f.Stem)
	paths := []string{}
	for _, r := range []struct{ sum, name string }{
		{f.Published.Rejects, names.Rejects}, {f.Published.Results, names.Results}, {f.Published.Summary, names.Summary},
	} {
		if path := inDir(f.Results, r.name); r.sum != "" && f.there(path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// there reports whether a published report exists still, where that can be seen.
func (f File) there(path string) bool {
	if f.Origin != ledger.FromLocal {
		return true
	}
	_, err := os.Lstat(path)
	return err == nil
}

func (f File) result() Finished {
	return Finished{Summary: f.Summary, Dir: f.Results, Known: f.Reports()}
}

// Document is a file in the JSON of `billdrop status`. Keys may be added at any time.
type Document struct {
	FileID   string         `json:"file_id"`
	File     string         `json:"file"`
	SHA256   string         `json:"sha256"` // "" until it was fetched
	Feed     string         `json:"feed"`
	Mode     string         `json:"mode"`
	State    string         `json:"state"`
	Outcome  string         `json:"outcome"` // "" while the file is under way
	Code     string         `json:"code"`
	Detail   string         `json:"detail"`
	Approved bool           `json:"approved"`  // of a held file: the next run sends it
	Rows     report.Rows    `json:"rows"`      // by outcome; total includes rows without one
	RowsOpen int            `json:"rows_open"` // without an outcome
	Amounts  report.Amounts `json:"amounts"`
	// Times are null until they are known.
	ReceivedAt report.Timestamp `json:"received_at"`
	FinishedAt report.Timestamp `json:"finished_at"`
	Path       string           `json:"path"`    // where the file is now; "" for standard input
	Results    string           `json:"results"` // directory of its reports
	Stem       string           `json:"stem"`    // of its reports; "" until it was fetched
	Attention  *ToDo            `json:"attention,omitempty"`
}

// Document is the file in the JSON of `billdrop status`. todo may be nil.
func (f File) Document(todo *ToDo) Document {
	return Document{
		FileID: f.ID, File: f.Name, SHA256: f.SHA256, Feed: f.Feed, Mode: f.Scope.Mode,
		State: string(f.State), Outcome: f.Outcome, Code: f.Code, Detail: f.Detail, Approved: f.Approved,
		Rows: f.Summary.Rows, RowsOpen: f.Open, Amounts: f.Summary.Amounts,
		ReceivedAt: report.At(f.Received), FinishedAt: report.At(f.Finished),
		Path: f.Path, Results: f.Results, Stem: f.Stem, Attention: todo,
	}
}

// List is a table of files, newest first; older is how many more there are.
func List(files []File, older int) string {
	if len(files) == 0 {
		return "no files yet\n"
	}
	t := NewTable("received", "state", "feed", "file id", "billed")
	t.AppendHeader(table.Row{
		"file", "received", "state", "rows", "created", "existing", "attention", "billed", "feed", "file id",
	})
	needed := ""
	for _, f := range files {
		if needed == "" && f.NeedsAttention() {
			needed = f.ID
		}
		t.AppendRow(table.Row{
			f.Name, f.Received.Local().Format("2006-01-02 15:04"), f.Words(), Number(f.Total()),
			Number(f.Created()), Number(f.Existing()), Number(f.Attention()), f.Billed(), f.Feed, f.ID,
		})
	}
	text := t.Render() + "\n"
	text += more(older, "file", "--limit")
	if needed != "" {
		text += "What to do about the rows of a file that need attention: billdrop status " + needed + "\n"
	}
	return text
}

// Text describes the file, and what to do about it.
func (f File) Text(todo ToDo) string {
	var b strings.Builder
	switch f.State {
	case ledger.Done:
		b.WriteString(f.result().Text())
	case ledger.Held:
		fmt.Fprintf(&b, "%s: %s, %s\n  %s\n", f.Name, f.Words(), Count(f.File.Rows, "row"), f.Why())
	case ledger.Dropped:
		fmt.Fprintf(&b, "%s: dropped: it vanished before it was read, or another worker took it\n", f.Name)
	default:
		fmt.Fprintf(&b, "%s: %s; not finished: the current run, or the next one, finishes it; if that cannot be, end it: billdrop reject %s\n", f.Name, f.Words(), f.ID)
		if s := f.settled(); s.Rows.Total > 0 {
			fmt.Fprintln(&b, StatusTable(s))
		}
	}
	fmt.Fprintf(&b, "  file %s of feed %s, received %s", f.ID, f.Feed, f.Received.Local().Format(time.DateTime))
	if f.Path != "" {
		fmt.Fprintf(&b, ", now %s", f.Path)
	}
	b.WriteByte('\n')
	switch {
	case f.State == ledger.Held && f.Approved:
		b.WriteString("\nApproved: the next run sends it.\n")
	case f.GivenUp():
		b.WriteString("\nRejected: nothing more of it is sent, and the next run reports it so.\n")
	case f.State == ledger.Held:
		fmt.Fprintf(&b, "\nNothing is sent until it is approved: billdrop approve %s\nOr give it up: billdrop reject %s\n", f.ID, f.ID)
	case f.Outcome == ledger.FileRejected && len(todo.Groups) == 0:
		b.WriteString("\nThe file as a whole was refused: correct what is named above, and deliver the file again.\n")
	}
	for _, g := range todo.Groups {
		b.WriteString(g.text())
	}
	return b.String()
}
