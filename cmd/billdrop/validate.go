package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/input"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest/preview"
)

const (
	// defaultProblems bounds the list of problems without --max-problems.
	defaultProblems = 1000
	// screenful is the number of problems above which a terminal gets, without
	// --max-problems, only the first few of each code.
	screenful = 50
)

type validateCmd struct {
	Files       []string `arg:"" name:"FILE" help:"Bill files; - is standard input."`
	Feed        string   `placeholder:"NAME" help:"Feed whose format applies (default: the only one)."`
	Amounts     string   `enum:"minor,major," default:"" help:"How amount_due is written: minor (2000 = R20.00) or major (20.00 = R20.00). Needed without a configuration file."`
	Preset      string   `placeholder:"NAME" help:"A known format in place of a feed's: moment-daily (Moment's own daily file). It needs no --amounts."`
	Currency    string   `placeholder:"CUR" help:"Currency of rows that name none, such as ZAR."`
	Out         string   `placeholder:"DIR" help:"Directory for results, rejects and summary, made if missing (default: none are written)."`
	MaxProblems *int     `placeholder:"N" help:"Problems listed at most; 0 = all (default: 1000; as text, if there are more than 50, the first 5 of each code)."`
}

func (validateCmd) Help() string {
	return `Uses neither network nor ledger. Every problem of every row is named with its line and column. Exits 0 if every row may be sent, 1 if not.

Example: billdrop validate november.csv --amounts minor --currency ZAR`
}

// errMaxProblems is the usage error of validate and plan.
var errMaxProblems = usagef("--max-problems is negative").Hint("write how many to list at most, or 0 for all")

// Run checks one file after the other.
func (c *validateCmd) Run(ctx context.Context, s *session) error {
	most := defaultProblems
	if c.MaxProblems != nil {
		most = *c.MaxProblems
	}
	if most < 0 {
		return errMaxProblems
	}
	if err := input.CheckFiles(c.Files); err != nil {
		return describe.Misused(err)
	}
	feed, err := c.feed(s)
	if err != nil {
		return err
	}
	found := make([]preview.Validation, 0, len(c.Files))
	for _, path := range c.Files {
		v, err := preview.Validate(ctx, preview.Check{
			Path: path, In: input.Reader(ctx, s.stdin, path), Format: wiring.Format(feed), RejectInvalid: feed.OnInvalid == "reject",
			Out: c.Out, MaxProblems: most, Version: buildVersion(),
		})
		if err != nil {
			return err
		}
		found = append(found, v)
	}
	if err := s.print(map[string]any{"files": found}, func() string { return describe.Each(found, c.text) }); err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(v preview.Validation) bool { return v.Outcome != preview.OutcomeValid }) {
		return errAttention
	}
	return nil
}

func (c *validateCmd) text(v preview.Validation) string {
	text := describe.Validation(&v, c.MaxProblems == nil && v.ProblemsTotal > screenful)
	if v.Stem != "" {
		text += fmt.Sprintf("  reports: %s/%s.*\n", strings.TrimSuffix(c.Out, "/"), v.Stem)
	}
	return text
}

// feed returns the feed of the configuration, or a default feed if there is none, as the
// flags change it.
func (c *validateCmd) feed(s *session) (*config.Feed, error) {
	conf, err := loadConfig(s, config.Needs{})
	var feed config.Feed
	switch {
	case err == nil:
		i, err := chooseFeed(conf, c.Feed)
		if err != nil {
			return nil, err
		}
		feed = conf.Feeds[i]
	case !errors.Is(err, config.ErrNone):
		return nil, err
	case c.Feed != "":
		return nil, usagef("--feed names a feed of a configuration file, and there is none").Hint("name one with --config FILE")
	case c.Amounts == "" && c.Preset == "":
		return nil, usagef("no configuration file says how amounts are written").
			Hint("add --amounts minor if 2000 means R20.00, or --amounts major if 20.00 does (or --preset moment-daily for Moment's daily file)")
	default:
		feed = config.DefaultFeed()
		feed.MaxRows = 0 // a limit of what is sent, and there is no feed to send it
	}
	flags := wiring.Override{Preset: c.Preset, Amounts: c.Amounts, Currency: c.Currency}
	if err := flags.Apply(&feed); err != nil {
		return nil, describe.Misused(err)
	}
	return &feed, nil
}
