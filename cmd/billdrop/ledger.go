package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest"
)

// ledgerCmd are the commands about the ledger as a whole.
type ledgerCmd struct {
	Rebind rebindCmd       `cmd:"" help:"Say that api.base_url is the same API at a new address."`
	Copy   copyCmd         `cmd:"" help:"Copy a ledger from SQLite into PostgreSQL, or back."`
	Verify ledgerVerifyCmd `cmd:"" help:"Find rows of the ledger that were changed or removed by hand."`
}

type rebindCmd struct{}

func (rebindCmd) Help() string {
	return `The ledger records at which api.base_url the bills of a merchant are, and every run with another one exits with 2: at another API none of them exists, and each would be raised again or reported as existing where it is not. If the API has only moved, this command records the addresses of the configuration. It sends nothing.

Example: billdrop ledger rebind`
}

// rebound is the JSON of one change.
type rebound struct {
	Merchant string `json:"merchant"`
	Mode     string `json:"mode"`
	From     string `json:"from"`
	To       string `json:"to"`
}

// Run records the addresses of the configuration.
func (c *rebindCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{Key: true})
	if err != nil {
		return err
	}
	lanes, err := s.kit().Lanes(conf)
	if err != nil {
		return describe.Misused(err)
	}
	feeds := make([]*ingest.Feed, len(lanes))
	for i := range conf.Feeds {
		feeds[i] = wiring.Feed(&conf.Feeds[i], lanes[i])
	}
	l, err := openLedger(ctx, s, conf)
	if err != nil {
		return err
	}
	changed, err := ingest.Rebind(ctx, l, feeds)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	docs := make([]rebound, len(changed))
	for i, r := range changed {
		docs[i] = rebound{r.Scope.Merchant, r.Scope.Mode, r.From, r.To}
	}
	return s.print(map[string]any{"rebound": docs}, func() string {
		if len(docs) == 0 {
			return "nothing to change: the bills of every merchant are where api.base_url says\n"
		}
		var b strings.Builder
		for _, r := range docs {
			fmt.Fprintf(&b, "the bills of merchant %s in %s mode are at %s now (before: %s)\n", r.Merchant, r.Mode, r.To, r.From)
		}
		return b.String()
	})
}
