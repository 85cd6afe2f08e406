package wiring

import (
	"context"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/watch"
)

// MissingFile is an expected file that did not come, in the JSON of `billdrop status`.
type MissingFile struct {
	Feed    string           `json:"feed"`
	Pattern string           `json:"pattern"`
	Due     report.Timestamp `json:"due"`
	Text    string           `json:"-"` // in words
}

// Missing returns the expected files that have not come, of one feed or, if feed is "", of all.
func Missing(ctx context.Context, led ledger.Ledger, c *config.Config, feed string) ([]MissingFile, error) {
	list := []MissingFile{}
	for i := range c.Feeds {
		f := &c.Feeds[i]
		if feed != "" && feed != f.Name {
			continue
		}
		m, err := watch.FindOverdue(ctx, led, f.Name, Expect(f), time.Now())
		if err != nil {
			return nil, err
		}
		if m != nil {
			list = append(list, MissingFile{m.Feed, m.Pattern, report.At(m.Due), m.Text()})
		}
	}
	return list, nil
}
