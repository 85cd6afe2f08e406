// Package demo shows a run from end to end, on a sandbox.
package demo

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/fixtures"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Demo is what to show, and where.
type Demo struct {
	Box *sandbox.Sandbox
	Out io.Writer
	// Run does what `billdrop run --once` does, with the sandbox's configuration.
	Run func(context.Context) ([]describe.Finished, error)
	// Receive does what `billdrop receive` does, until stop is called.
	Receive func(context.Context) (stop func() error, err error)
}

func (d *Demo) printf(format string, args ...any) { fmt.Fprintf(d.Out, format, args...) }

// Show drops files into the inbox, runs, shows what became of them, and drops one of them
// again. It fails if a part does not end as described.
func (d *Demo) Show(ctx context.Context) error {
	files := fixtures.Demo()
	if err := d.drop(files); err != nil {
		return err
	}
	done, err := d.run(ctx)
	if err != nil {
		return err
	}
	if len(done) != len(files) {
		return fmt.Errorf("the demo dropped %d files and %d were finished", len(files), len(done))
	}
	requests := d.Box.Requests()
	d.outcomes(done, requests)
	if err := d.problems(done); err != nil {
		return err
	}
	if err := d.again(ctx, files[0], requests); err != nil {
		return err
	}
	if err := d.paid(ctx, done); err != nil {
		return err
	}
	// The reports of a file with problem rows, if there is one.
	open := done[max(0, slices.IndexFunc(done, func(f describe.Finished) bool { return f.Rows.Attention() > 0 }))]
	open.Dir = d.Box.Path("results")
	d.printf("\nReports to open:\n  %s\n", strings.Join(open.Reports(), "\n  "))
	d.printf("\nEverything is in %s; delete it when you are done: rm -r %s\n", d.Box.Dir, config.ShellWord(d.Box.Dir))
	return nil
}

// drop puts files into the inbox, as a biller would.
func (d *Demo) drop(files []fixtures.Fixture) error {
	d.printf("%s in the inbox of an SFTP server at %s:\n\n", describe.Count(len(files), "bill file"), d.Box.SFTP.Addr())
	t := describe.NewTable()
	for _, f := range files {
		b := f.Bytes()
		if err := sandbox.WritePrivate(d.Box.Path("inbox/"+f.Name), string(b)); err != nil {
			return err
		}
		t.AppendRow([]any{f.Name, describe.Count(len(b), "byte")})
	}
	d.printf("%s\n\n", t.Render())
	return nil
}

// run runs once and returns the files by name.
func (d *Demo) run(ctx context.Context) ([]describe.Finished, error) {
	files, err := d.Run(ctx)
	slices.SortFunc(files, func(a, b describe.Finished) int { return strings.Compare(a.File, b.File) })
	return files, err
}

// outcomes shows what became of each file, and of all rows together.
func (d *Demo) outcomes(files []describe.Finished, requests int64) {
	d.printf("billdrop run --once picked them up, and raised the bills at %s with %s:\n\n", d.Box.APIURL, describe.Count(int(requests), "request"))
	t := describe.NewTable("outcome")
	t.AppendHeader([]any{"file", "rows", "created", "problems", "outcome"})
	all := report.Summary{Rows: report.Rows{By: map[ledger.Status]int{}}, Amounts: report.Amounts{}}
	for _, f := range files {
		t.AppendRow([]any{
			f.File, describe.Number(f.Rows.Total), describe.Number(f.Rows.By[ledger.Created]),
			describe.Number(f.Rows.Attention()), describe.Outcome(f.Outcome, f.Code),
		})
		add(&all, f.Summary)
	}
	d.printf("%s\n\nAll rows by status, in major units:\n\n%s\n", t.Render(), describe.StatusTable(all))
}

// add adds the rows and amounts of one file to those of all.
func add(all *report.Summary, s report.Summary) {
	all.Rows.Total += s.Rows.Total
	for status, n := range s.Rows.By {
		all.Rows.By[status] += n
	}
	for currency, sums := range s.Amounts {
		if all.Amounts[currency] == nil {
			all.Amounts[currency] = map[ledger.Status]int64{}
		}
		for status, sum := range sums {
			all.Amounts[currency][status] += sum
		}
	}
}

// shownProblems is how many problem rows are shown.
const shownProblems = 3

// problems shows the first row of each code, as the reports have it.
func (d *Demo) problems(files []describe.Finished) error {
	seen := map[string]bool{}
	for _, f := range files {
		if f.Rows.Attention() == 0 || len(seen) == shownProblems {
			continue
		}
		rows, err := readResults(d.Box.Path("results/" + report.NamesOf(f.Stem).Results))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if len(seen) == shownProblems || row["code"] == "" || seen[row["code"]] || !ledger.Status(row["status"]).NeedsAttention() {
				continue
			}
			if len(seen) == 0 {
				d.printf("\nReports say what is wrong with a row and how to correct it; three of them:\n\n")
			}
			seen[row["code"]] = true
			d.printf("  %s, line %s: %s %s\n    %s\n", f.File, row["line"], row["status"], row["code"], row["detail"])
		}
	}
	if len(seen) == 0 {
		return errors.New("the demo's reports show no problem row, and should")
	}
	return nil
}

// readResults reads a results report into maps by column.
func readResults(path string) ([]map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open a report: %w", err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err == nil && len(records) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read the report %s: %w", path, err)
	}
	rows := make([]map[string]string, 0, len(records)-1)
	for _, record := range records[1:] {
		row := make(map[string]string, len(record))
		for i, name := range records[0] {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// again drops a file a second time, which must send nothing.
func (d *Demo) again(ctx context.Context, f fixtures.Fixture, before int64) error {
	if err := sandbox.WritePrivate(d.Box.Path("inbox/"+f.Name), string(f.Bytes())); err != nil {
		return err
	}
	files, err := d.run(ctx)
	if err != nil {
		return err
	}
	requests := d.Box.Requests() - before
	if len(files) != 1 || requests != 0 || files[0].Rows.By[ledger.Existing] != files[0].Rows.Total {
		return fmt.Errorf("the same file again should have sent nothing, and sent %d requests", requests)
	}
	d.printf("\nThe same %s again: %s, all of them existing; 0 requests sent. Nothing is billed twice.\n", f.Name, describe.Count(files[0].Rows.Total, "row"))
	return nil
}
