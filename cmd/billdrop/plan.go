package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/input"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest/ledger"
	"billdrop/ingest/preview"
)

type planCmd struct {
	Files       []string `arg:"" name:"FILE" help:"Bill files; - is standard input."`
	Feed        string   `placeholder:"NAME" help:"Feed whose format and merchant apply (default: the only one)."`
	MaxProblems int      `placeholder:"N" default:"1000" help:"Problems, and again conflicts, listed at most; 0 = all (default: 1000)."`
}

func (planCmd) Help() string {
	return `Reads the ledger, and looks up at the API the bills, customers and accounts that the ledger does not know. It sends and records nothing, and may be used while a worker runs. Each file is planned as if it came next. Exits 0 if a run would leave nothing that needs attention, 1 if it would.

Example: billdrop plan november.csv --feed bills`
}

// planPatience is how long a plan waits at most for an API that is down. A person waits
// for the plan.
const planPatience = time.Minute

// Run plans one file after the other.
func (c *planCmd) Run(ctx context.Context, s *session) error {
	if c.MaxProblems < 0 {
		return errMaxProblems
	}
	if err := input.CheckFiles(c.Files); err != nil {
		return describe.Misused(err)
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
	lane, _, err := s.kit().Lane(conf, feed)
	if err != nil {
		return describe.Misused(err)
	}
	o := preview.PlanOptions{Feed: wiring.Feed(feed, lane), MaxProblems: c.MaxProblems}
	location, err := engine.Configured(conf, s.log)
	if err != nil {
		return err
	}
	led, err := location.Read(ctx)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		s.screen.Warnf("there is no ledger %s yet, so everything is looked up at the API", location.Place)
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
	err = s.print(map[string]any{"files": planned}, func() string { return describe.Each(planned, describe.Plan) })
	if err == nil && slices.ContainsFunc(planned, func(p preview.Planned) bool { return p.Attention() }) {
		return errAttention
	}
	return err
}

func (c *planCmd) plan(ctx context.Context, s *session, o preview.PlanOptions) ([]preview.Planned, error) {
	bar := console.NewProgress(s.screen, s.log, !s.NoProgress)
	defer bar.Close()
	o.Progress = bar
	planned := make([]preview.Planned, 0, len(c.Files))
	for _, path := range c.Files {
		o.Path, o.In = path, input.Reader(ctx, s.stdin, path)
		p, err := preview.Plan(ctx, o)
		if err != nil {
			return nil, err
		}
		if p.ForeignAnswers {
			s.screen.Warnf("%s: the server at api.base_url does not answer like the Billing API about bills that do not exist; check the address: billdrop check", p.File)
		}
		planned = append(planned, p)
	}
	return planned, nil
}
