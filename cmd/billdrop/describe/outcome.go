// Package describe puts into words what the ledger and the worker report: what became of
// a file, a row or a bill, what it means, and what to do about it. The command line and
// the status page both take their words from here.
package describe

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Outcome writes what became of a file, with its code if it has one.
func Outcome(outcome, code string) string {
	words := strings.ReplaceAll(outcome, "_", " ")
	if code != "" {
		words += " (" + code + ")"
	}
	return words
}

// Finished is a file that a run has finished or holds.
type Finished struct {
	report.Summary
	Dir string // where its reports are, as a person finds it
	// Known are the paths of the reports that exist, if that is known; nil: by the summary.
	Known []string
}

// Reports are the paths of the reports worth opening, the one that needs work first.
func (f Finished) Reports() []string {
	if f.Known != nil || f.Stem == "" {
		return f.Known
	}
	names := report.NamesOf(f.Stem)
	var paths []string
	if f.Rows.Attention() > 0 && f.Lines.Total > 0 { // without lines, its rows could not be read any more
		paths = append(paths, names.Rejects)
	}
	if f.Rows.Total > 0 {
		paths = append(paths, names.Results)
	}
	paths = append(paths, names.Summary)
	for i := range paths {
		paths[i] = inDir(f.Dir, paths[i])
	}
	return paths
}

// inDir joins a remote or local directory and a name.
func inDir(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

// Text describes the file in a few lines.
func (f Finished) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.File, Outcome(f.Outcome, f.Code))
	took := f.FinishedAt.Sub(f.StartedAt.Time)
	if f.Rows.Total > 0 && !f.StartedAt.IsZero() && !f.FinishedAt.IsZero() {
		fmt.Fprintf(&b, ", in %s", took.Round(time.Millisecond))
	}
	b.WriteByte('\n')
	if f.Detail != "" {
		fmt.Fprintf(&b, "  %s%s\n", atLine(f.Line), f.Detail)
	}
	if f.Rows.Total > 0 {
		fmt.Fprintf(&b, "%s\n  %s sent, %s", StatusTable(f.Summary),
			Count(f.Requests.Posts, "request"), Count(f.Requests.Gets, "look-up"))
		if c, a := f.Parties.Customers, f.Parties.Accounts; c+a > 0 {
			fmt.Fprintf(&b, "; new: %s, %s", Count(c, "customer"), Count(a, "account"))
		}
		b.WriteByte('\n')
	}
	switch {
	case f.Outcome == ledger.FileHeld:
		fmt.Fprintf(&b, "  nothing is sent until file %s is approved\n", f.FileID)
	case len(f.Reports()) > 0:
		fmt.Fprintf(&b, "  reports: %s\n", strings.Join(f.Reports(), " "))
	}
	return b.String()
}

// atLine is where in a file something is; "" for the file as a whole.
func atLine(line int) string {
	if line == 0 {
		return ""
	}
	return "line " + strconv.Itoa(line) + ": "
}

// rowStatus writes what became of a row: "invalid (missing_field): customer_name …".
func rowStatus(status ledger.Status, code, detail string) string {
	words := string(status)
	if code != "" {
		words += " (" + code + ")"
	}
	if detail != "" {
		words += ": " + detail
	}
	return words
}

// Reference is a bill reference as a terminal may show it. That of an invalid row may
// hold anything, control characters included.
func Reference(r string) string {
	if strings.ContainsFunc(r, func(c rune) bool {
		return c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) {
		return strconv.QuoteToASCII(r)
	}
	return r
}
