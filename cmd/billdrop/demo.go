package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/config"
	"billdrop/fixtures"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

type demoCmd struct {
	Latency time.Duration `placeholder:"TIME" default:"120ms" help:"How long the local API takes to answer (default: 120ms)."`
}

func (demoCmd) Help() string {
	return `Starts a local SFTP server and a local Billing API, drops sample bill files into the inbox, does what "billdrop run --once" does, and shows what came of it. Nothing leaves this machine. The directory is kept; the output says how to delete it.

Example: billdrop demo`
}

// Run tells a story in four parts; it fails when any of it does not go as told.
func (c *demoCmd) Run(ctx context.Context, s *session) error {
	if s.json() {
		return usagef("demo has no JSON form, it is for reading; leave --output out")
	}
	dir, err := os.MkdirTemp("", "billdrop-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	box, err := openSandbox(ctx, sandboxOptions{
		dir: dir, sftpAddr: "127.0.0.1:0", apiAddr: "127.0.0.1:0", api: emulator.Config{Latency: c.Latency, Seed: 1},
	})
	if err != nil {
		return err
	}
	d := &demo{session: s.forDemo(box), box: box, out: s.stdout}
	return errors.Join(d.tell(ctx), box.close())
}

// forDemo is the session with which the demo does what `run --once` does: on the sandbox's configuration, without
// the environment, which may hold a real key, and with no more log lines than somebody asked for.
func (s *session) forDemo(box *sandbox) *session {
	quiet := *s
	quiet.Config = box.path("config.yaml")
	quiet.env = func(name string) (string, bool) {
		if name == config.EnvAPIKey {
			return "", false
		}
		return s.env(name)
	}
	if s.LogLevel == "info" {
		quiet.log = newLogger(s.screen, slog.LevelError.String(), s.LogFormat, s.env)
	}
	return &quiet
}

type demo struct {
	*session
	box *sandbox
	out io.Writer
}

func (d *demo) tell(ctx context.Context) error {
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
	requests := d.box.requests.Load()
	d.outcomes(done, requests)
	if err := d.problems(done); err != nil {
		return err
	}
	if err := d.again(ctx, files[0], requests); err != nil {
		return err
	}
	d.open(done)
	fmt.Fprintf(d.out, "\nEverything is in %s; delete it when you are done: rm -r %s\n", d.box.dir, shellWord(d.box.dir))
	return nil
}

// drop puts files into the inbox, as a biller would.
func (d *demo) drop(files []fixtures.Fixture) error {
	fmt.Fprintf(d.out, "%s in the inbox of an SFTP server at %s:\n\n", count(len(files), "bill file"), d.box.sftp.Addr())
	t := newTable()
	for _, f := range files {
		b := f.Bytes()
		if err := writePrivate(filepath.Join(d.box.path("inbox"), f.Name), string(b)); err != nil {
			return err
		}
		t.AppendRow([]any{f.Name, grouped(int64(len(b))) + " bytes"})
	}
	fmt.Fprintf(d.out, "%s\n\n", t.Render())
	return nil
}

// run does what `billdrop run --once` does.
func (d *demo) run(ctx context.Context) ([]finished, error) {
	conf, err := loadConfig(d.session, config.Needs{Key: true, SFTP: true})
	if err != nil {
		return nil, err
	}
	files, err := runOnce(ctx, d.session, conf)
	slices.SortFunc(files, func(a, b finished) int { return strings.Compare(a.File, b.File) })
	return files, err
}

// outcomes shows what became of each file, and of all rows together.
func (d *demo) outcomes(files []finished, requests int64) {
	fmt.Fprintf(d.out, "billdrop run --once picked them up, and raised the bills at %s with %s:\n\n", d.box.apiURL, count(int(requests), "request"))
	t := newTable("outcome")
	t.AppendHeader([]any{"file", "rows", "created", "problems", "outcome"})
	all := report.Summary{Rows: report.Rows{By: map[ledger.Status]int{}}, Amounts: report.Amounts{}}
	for _, f := range files {
		t.AppendRow([]any{
			f.File, grouped(int64(f.Rows.Total)), grouped(int64(f.Rows.By[ledger.Created])), grouped(int64(f.Rows.Attention())), outcomeWords(f.Summary),
		})
		add(&all, f.Summary)
	}
	fmt.Fprintf(d.out, "%s\n\nAll rows by status, in major units:\n\n%s\n", t.Render(), statusTable(all))
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

// shownProblems is how many problem rows the demo shows.
const shownProblems = 3

// problems shows rows as the reports have them: the first of each code.
func (d *demo) problems(files []finished) error {
	seen := map[string]bool{}
	for _, f := range files {
		if f.Rows.Attention() == 0 || len(seen) == shownProblems {
			continue
		}
		name := report.NamesOf(f.Stem).Results
		rows, err := readResults(d.box.path(filepath.Join("results", name)))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if len(seen) == shownProblems || row["code"] == "" || seen[row["code"]] || !ledger.Status(row["status"]).NeedsAttention() {
				continue
			}
			if len(seen) == 0 {
				fmt.Fprintf(d.out, "\nProblem rows are told so that somebody can fix them; three of them, as in the reports:\n\n")
			}
			seen[row["code"]] = true
			fmt.Fprintf(d.out, "  %s, line %s: %s %s\n    %s\n", f.File, row["line"], row["status"], row["code"], row["detail"])
		}
	}
	if len(seen) == 0 {
		return errors.New("the demo's reports show no problem row, and should")
	}
	return nil
}

// open says which reports to open: those of a file with problem rows, or of the first file if there is none.
func (d *demo) open(files []finished) {
	f := files[max(0, slices.IndexFunc(files, func(f finished) bool { return f.Rows.Attention() > 0 }))]
	f.where = d.box.path("results")
	fmt.Fprintf(d.out, "\nReports to open:\n  %s\n", strings.Join(reportPaths(f), "\n  "))
}

// readResults reads a results report into maps by column.
func readResults(path string) ([]map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open a report: %w", err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil || len(records) == 0 {
		return nil, fmt.Errorf("read the report %s: %w", path, errors.Join(err, io.ErrUnexpectedEOF))
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

// again drops a file that was dropped before, and holds the run to its promise.
func (d *demo) again(ctx context.Context, f fixtures.Fixture, before int64) error {
	if err := writePrivate(filepath.Join(d.box.path("inbox"), f.Name), string(f.Bytes())); err != nil {
		return err
	}
	files, err := d.run(ctx)
	if err != nil {
		return err
	}
	requests := d.box.requests.Load() - before
	if len(files) != 1 || requests != 0 || files[0].Rows.By[ledger.Existing] != files[0].Rows.Total {
		return fmt.Errorf("the same file again should have sent nothing, and sent %d requests", requests)
	}
	fmt.Fprintf(d.out, "\nThe same %s again: %s, all of them existing; 0 requests sent. Nothing is billed twice.\n", f.Name, count(files[0].Rows.Total, "row"))
	return nil
}
