package describe

import (
	"context"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Worker is one of those that share a ledger, in the JSON of `billdrop status`. Keys may be
// added at any time.
type Worker struct {
	Name     string           `json:"name"`
	Machine  string           `json:"machine"`
	Since    report.Timestamp `json:"since"`
	HeardAt  report.Timestamp `json:"heard_at"`
	InFlight int              `json:"in_flight"` // requests
	Feeds    []string         `json:"feeds"`
}

// ReadWorkers returns the live workers of a ledger by name, without commands that use it for a
// moment. A ledger of one machine has none.
func ReadWorkers(ctx context.Context, led ledger.Ledger) ([]Worker, error) {
	workers := []Worker{}
	shared, ok := led.(ledger.Shared)
	if !ok {
		return workers, nil
	}
	live, err := shared.Workers(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range live {
		if c.Role != ingest.RoleRun {
			continue
		}
		feeds := c.Feeds
		if feeds == nil {
			feeds = []string{}
		}
		workers = append(workers, Worker{c.Name, c.Machine, report.At(c.Since), report.At(c.HeardAt), c.InFlight, feeds})
	}
	return workers, nil
}

// WorkerTable lists workers. Their times are the database's, so they are not compared with this
// machine's clock.
func WorkerTable(workers []Worker) string {
	if len(workers) == 0 {
		return "no worker runs now\n"
	}
	t := NewTable("machine", "since", "heard", "feeds")
	t.AppendHeader(table.Row{"worker", "machine", "since", "heard", "in flight", "feeds"})
	for _, w := range workers {
		t.AppendRow(table.Row{
			w.Name, w.Machine, w.Since.Local().Format("2006-01-02 15:04"), w.HeardAt.Local().Format(time.TimeOnly),
			Number(w.InFlight), strings.Join(w.Feeds, ", "),
		})
	}
	return t.Render() + "\n"
}
