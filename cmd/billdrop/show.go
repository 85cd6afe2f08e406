package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"billdrop/cmd/billdrop/monitor"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// maxTableColumns is how many columns of a table are laid out as figures: there are not as many currencies.
const maxTableColumns = 32

// writeJSON writes the one document that standard output gets with --output json.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// finished is a file that a run has come to an end with, and where its reports are.
type finished struct {
	report.Summary
	where string // the directory of its reports, for a person
}

// filesDocument is the JSON of `run --once`, `import`, `retry` and `reject`. Error is there when the work could not be done; the
// files are those that were finished before. Ordered is there when it was left to the billdrop that has the ledger.
type filesDocument struct {
	Files   []report.Summary `json:"files"`
	Ordered *ordered         `json:"ordered,omitempty"`
	Error   string           `json:"error,omitempty"`
}

// showFiles tells what became of files, and returns errAttention when a person has to look at one. err is what
// ended the work early, if anything did; it is passed on.
func showFiles(s *session, files []finished, err error) error {
	if s.json() {
		doc := filesDocument{Files: make([]report.Summary, len(files))}
		for i, f := range files {
			doc.Files[i] = f.Summary
			if f.Amounts == nil {
				doc.Files[i].Amounts = report.Amounts{}
			}
		}
		if err != nil {
			doc.Error = err.Error()
		}
		if werr := writeJSON(s.stdout, doc); werr != nil && err == nil {
			return fmt.Errorf("write to standard output: %w", werr)
		}
	} else {
		for i, f := range files {
			if i > 0 {
				fmt.Fprintln(s.stdout)
			}
			showFile(s.stdout, f)
		}
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(files, func(f finished) bool { return f.Attention() }) {
		return errAttention
	}
	return nil
}

// showFile tells a person what became of one file.
func showFile(w io.Writer, f finished) {
	fmt.Fprintf(w, "%s: %s", f.File, outcomeWords(f.Summary))
	if took := f.FinishedAt.Sub(f.StartedAt.Time); f.Rows.Total > 0 && !f.StartedAt.IsZero() && !f.FinishedAt.IsZero() {
		fmt.Fprintf(w, ", in %s", took.Round(time.Millisecond))
	}
	fmt.Fprintln(w)
	if f.Detail != "" {
		at := ""
		if f.Line > 0 {
			at = "line " + strconv.Itoa(f.Line) + ": "
		}
		fmt.Fprintf(w, "  %s%s\n", at, f.Detail)
	}
	if f.Rows.Total > 0 {
		fmt.Fprintln(w, statusTable(f.Summary))
		fmt.Fprintf(w, "  %s sent, %s", count(f.Requests.Posts, "request"), count(f.Requests.Gets, "look-up"))
		if c, a := f.Parties.Customers, f.Parties.Accounts; c+a > 0 {
			fmt.Fprintf(w, "; new: %s, %s", count(c, "customer"), count(a, "account"))
		}
		fmt.Fprintln(w)
	}
	switch {
	case f.Outcome == ledger.FileHeld:
		fmt.Fprintf(w, "  nothing is sent until somebody approves file %s\n", f.FileID)
	case f.Stem != "":
		fmt.Fprintf(w, "  reports: %s\n", strings.Join(reportPaths(f), " "))
	}
}

func outcomeWords(s report.Summary) string {
	words := map[string]string{
		ledger.Completed:           "completed",
		ledger.CompletedWithErrors: "completed with errors",
		ledger.FileRejected:        "rejected",
		ledger.FileHeld:            "held",
	}[s.Outcome]
	if words == "" {
		words = s.Outcome
	}
	if s.Code != "" {
		words += " (" + s.Code + ")"
	}
	return words
}

// reportPaths are the reports worth opening, the one that needs work first.
func reportPaths(f finished) []string {
	names := report.NamesOf(f.Stem)
	var paths []string
	if f.Rows.Attention() > 0 {
		paths = append(paths, names.Rejects)
	}
	if f.Rows.Total > 0 {
		paths = append(paths, names.Results)
	}
	paths = append(paths, names.Summary)
	for i := range paths {
		paths[i] = strings.TrimSuffix(f.where, "/") + "/" + paths[i]
	}
	return paths
}

// statusTable has a line for each status that occurs and a column for each currency.
func statusTable(s report.Summary) string {
	sums := sumsOf(s)
	t := newTable()
	header := table.Row{"status", "rows"}
	for _, c := range sums.Currencies {
		header = append(header, c)
	}
	t.AppendHeader(header)
	for i, line := range sums.Lines {
		row := table.Row{line.Status, grouped(int64(line.Rows))}
		for _, amount := range line.Amounts {
			row = append(row, amount)
		}
		if i < len(sums.Lines)-1 {
			t.AppendRow(row)
		} else {
			t.AppendFooter(row)
		}
	}
	return t.Render()
}

// sumsOf adds the rows of a file up by status and currency; the last line is the total.
func sumsOf(s report.Summary) monitor.Sums {
	sums := monitor.Sums{Currencies: slices.Sorted(maps.Keys(s.Amounts))}
	totals := make(map[string]int64)
	for _, status := range ledger.Statuses {
		if s.Rows.By[status] == 0 {
			continue
		}
		line := monitor.SumLine{Status: string(status), Rows: s.Rows.By[status]}
		for _, c := range sums.Currencies {
			line.Amounts = append(line.Amounts, majorUnits(c, s.Amounts[c][status]))
			totals[c] += s.Amounts[c][status]
		}
		sums.Lines = append(sums.Lines, line)
	}
	total := monitor.SumLine{Status: "total", Rows: s.Rows.Total}
	for _, c := range sums.Currencies {
		total.Amounts = append(total.Amounts, majorUnits(c, totals[c]))
	}
	sums.Lines = append(sums.Lines, total)
	return sums
}

// newTable is a table without lines. Its columns are figures, to the right, but for the first and those whose
// header is among words.
func newTable(words ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "  ", ""
	style.Format.Header, style.Format.Footer = text.FormatUpper, text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	columns := make([]table.ColumnConfig, 0, maxTableColumns)
	for i := 2; i <= maxTableColumns; i++ {
		columns = append(columns, table.ColumnConfig{Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight})
	}
	for _, w := range words {
		columns = append(columns, table.ColumnConfig{Name: w, Align: text.AlignLeft, AlignHeader: text.AlignLeft})
	}
	t.SetColumnConfigs(columns)
	return t
}

// count says how many there are of a thing.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return grouped(int64(n)) + " " + thing
}

// grouped writes n with a comma between thousands.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// majorUnits writes an amount the way people do: 1234567 minor units of ZAR are 12,345.67.
func majorUnits(currency string, minor int64) string {
	decimals, known := billfile.MinorUnits(currency)
	if !known {
		return grouped(minor) // as it is, rather than by a guess
	}
	sign := ""
	if minor < 0 {
		sign, minor = "-", -minor
	}
	scale := int64(1)
	for range decimals {
		scale *= 10
	}
	whole := sign + grouped(minor/scale)
	if decimals == 0 {
		return whole
	}
	return fmt.Sprintf("%s.%0*d", whole, decimals, minor%scale)
}
