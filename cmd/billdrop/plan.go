package main

import (
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
	"billdrop/ingest/preview"
)

type planCmd struct {
	Files       []string `arg:"" name:"FILE" help:"Bill files; - is standard input."`
	Feed        string   `placeholder:"NAME" help:"Feed whose format and merchant apply (default: the only one)."`
	MaxProblems int      `placeholder:"N" default:"1000" help:"Problems, and again conflicts, listed at most; 0 = all (default: 1000)."`
}

func (planCmd) Help() string {
	return `Reads the ledger and looks bills, customers and accounts up that it does not know; sends and records nothing. It may be used while a worker runs. Each file is planned as if it came next. Exits 0 when a run would leave nothing to look at, 1 when not.

Example: billdrop plan november.csv --feed bills`
}

// planPatience is how long a plan waits at most for an API that is down: somebody is waiting for the plan.
const planPatience = time.Minute

// Run plans one file after the other.
func (c *planCmd) Run(ctx context.Context, s *session) error {
	if c.MaxProblems < 0 {
		return usagef("--max-problems is negative; write how many to list at most, or 0 for all")
	}
	if err := checkFiles(c.Files); err != nil {
		return err
	}
	conf, err := loadConfig(s, config.Needs{Key: true})
	if err != nil {
		return err
	}
	i, err := chooseFeed(conf, c.Feed)
	if err != nil {
		return err
	}
	feed := &conf.Feeds[i]
	feed.API.GiveUpAfter = min(feed.API.GiveUpAfter, planPatience)
	lane, err := buildLane(s, conf, feed)
	if err != nil {
		return usageError{err}
	}
	o := preview.PlanOptions{Feed: buildFeed(feed, lane), MaxProblems: c.MaxProblems}
	led, err := sqlite.OpenReadOnly(ctx, conf.LedgerPath())
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		s.screen.warnf("there is no ledger %s yet, so the API is asked for everything", conf.LedgerPath())
	case err != nil:
		return err
	default:
		o.Ledger = led
	}
	planned, err := c.plan(ctx, s, o)
	if led != nil {
		err = errors.Join(err, led.Close())
	}
	if err != nil {
		return err
	}
	if err := showPlans(s, planned); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	if slices.ContainsFunc(planned, func(p preview.Planned) bool { return p.Attention() }) {
		return errAttention
	}
	return nil
}

func (c *planCmd) plan(ctx context.Context, s *session, o preview.PlanOptions) ([]preview.Planned, error) {
	bar := newProgress(s)
	defer bar.close()
	o.Progress = bar
	planned := make([]preview.Planned, 0, len(c.Files))
	for _, path := range c.Files {
		o.Path, o.In = path, nil
		if path == stdinName {
			o.In = s.stdin
		}
		p, err := preview.Plan(ctx, o)
		if err != nil {
			return nil, err
		}
		if p.ForeignAnswers {
			s.screen.warnf("%s: what answers at api.base_url denies bills in another form than the Billing API does; make sure that it is the right address: billdrop check", p.File)
		}
		planned = append(planned, p)
	}
	return planned, nil
}

func showPlans(s *session, planned []preview.Planned) error {
	if s.json() {
		return writeJSON(s.stdout, map[string]any{"files": planned})
	}
	var b strings.Builder
	for i := range planned {
		if i > 0 {
			b.WriteByte('\n')
		}
		showPlan(&b, &planned[i])
	}
	_, err := io.WriteString(s.stdout, b.String())
	return err
}

// showPlan tells a person what would become of a file: in sums, then what somebody has to look at.
func showPlan(b *strings.Builder, p *preview.Planned) {
	if p.Code != "" {
		at := ""
		if p.Line > 0 {
			at = fmt.Sprintf("line %d: ", p.Line)
		}
		fmt.Fprintf(b, "%s: would be rejected (%s)\n  %s%s\n", p.File, p.Code, at, p.Detail)
	} else {
		fmt.Fprintf(b, "%s: %s\n%s\n", p.File, count(p.Rows.Total, "row"), planTable(p))
		fmt.Fprintf(b, "  new: %s, %s; this took %s\n", count(p.New.Customers, "customer"), count(p.New.Accounts, "account"), count(p.Gets, "look-up"))
	}
	for _, over := range p.OverLimits {
		fmt.Fprintf(b, "  would be held: %s\n", over)
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(b, "  line %d, bill %s: conflict: %s\n", c.Line, c.BillReference, c.Detail)
	}
	if cut := p.Rows.Conflict - len(p.Conflicts); cut > 0 {
		fmt.Fprintf(b, "  … and %s more; --max-problems 0 lists all\n", count(cut, "conflict"))
	}
	showProblems(b, &p.Validation)
}

// planTable has a line for each thing that would become of rows and a column for each currency. Sums are of amounts that
// could be read, so invalid rows have none.
func planTable(p *preview.Planned) string {
	currencies := slices.Sorted(maps.Keys(p.Totals))
	t := newTable()
	header := table.Row{"would be", "rows"}
	for _, c := range currencies {
		header = append(header, c)
	}
	t.AppendHeader(header)
	for _, l := range []struct {
		what, key string
		rows      int
	}{
		{"created", "create", p.Rows.Create},
		{"existing", "existing", p.Rows.Existing},
		{"conflict", "conflict", p.Rows.Conflict},
		{"invalid", "invalid", p.Rows.Invalid},
		{"rejected", "rejected", p.Rows.Rejected},
		{"unknown", "unknown", p.Rows.Unknown},
	} {
		if l.rows == 0 && l.key != "create" {
			continue
		}
		row := table.Row{l.what, grouped(int64(l.rows))}
		for _, c := range currencies {
			sum := ""
			if l.key != "invalid" {
				sum = majorUnits(c, p.Totals[c][l.key])
			}
			row = append(row, sum)
		}
		t.AppendRow(row)
	}
	return t.Render()
}
