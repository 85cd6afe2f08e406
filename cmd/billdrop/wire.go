package main

import (
	"context"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest/ledger"
)

// loadConfig finds and reads the configuration. Each of its errors is a usage error.
func loadConfig(s *session, needs config.Needs) (*config.Config, error) {
	path, err := config.Find(s.Config)
	if err != nil {
		return nil, describe.Misused(err)
	}
	c, err := config.Load(path, s.env, needs)
	if err != nil {
		return nil, describe.Misused(err)
	}
	if err := config.CheckFileRights(path); err != nil {
		return nil, describe.Misused(err)
	}
	if key, _ := s.env(config.EnvAPIKey); key != "" && c.API.KeyFile != "" && needs.Key {
		s.screen.Warnf("%s is set and is used in place of api.key_file; unset one of the two", config.EnvAPIKey)
	}
	return c, nil
}

// openLedger opens the ledger for writing.
func openLedger(ctx context.Context, s *session, c *config.Config) (ledger.Ledger, error) {
	return engine.OpenConfigured(ctx, c, s.log)
}

// readLedger opens the ledger for reading, also while a worker uses it.
func readLedger(ctx context.Context, s *session, c *config.Config) (ledger.Ledger, error) {
	return engine.ReadConfigured(ctx, c, s.log)
}

// kit is what the session gives to workers and their lanes.
func (s *session) kit() wiring.Kit {
	return wiring.Kit{Env: s.env, Log: s.log, Monitor: s.monitor, Screen: s.screen, NoProgress: s.NoProgress, Version: buildVersion()}
}

// chooseFeed returns the index of the feed that --feed names, or of the only feed.
func chooseFeed(c *config.Config, name string) (int, error) {
	for i := range c.Feeds {
		if c.Feeds[i].Name == name || name == "" && len(c.Feeds) == 1 {
			return i, nil
		}
	}
	err := usagef("there is no feed of that name")
	if name == "" {
		err = usagef("there are several feeds")
	}
	return 0, err.Hint("name one with --feed: %s", strings.Join(c.FeedNames(), ", "))
}
