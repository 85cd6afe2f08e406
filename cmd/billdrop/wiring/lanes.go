// Package wiring turns a configuration into the parts that a worker is made of: feeds with the
// format of their files, and lanes to the Billing API with their keys.
package wiring

import (
	"errors"
	"fmt"
	"log/slog"

	"billdrop/client"
	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/monitor"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// Kit is what workers and their lanes need besides the configuration.
type Kit struct {
	Env     func(string) (string, bool)
	Log     *slog.Logger
	Monitor *monitor.Monitor // counts requests; nil if nothing is counted
	Version string           // of this billdrop
	// Screen and NoProgress are for Assemble alone.
	Screen     *console.Console
	NoProgress bool // no progress bar is shown
}

// Lanes makes a lane for each merchant account and returns the lane of each feed. It
// returns the errors of all keys at once.
func (k Kit) Lanes(c *config.Config) ([]*delivery.Lane, error) {
	shared := make(map[ledger.Scope]*delivery.Lane)
	lanes := make([]*delivery.Lane, len(c.Feeds))
	var wrong []error
	for i := range c.Feeds {
		f := &c.Feeds[i]
		if _, built := shared[f.Scope()]; !built {
			lane, _, err := k.Lane(c, f)
			wrong = append(wrong, err)
			shared[f.Scope()] = lane // also if it failed, so that each error is returned once
		}
		lanes[i] = shared[f.Scope()]
	}
	return lanes, errors.Join(wrong...)
}

// Lane returns the lane of a feed's bills, and where its API key comes from.
func (k Kit) Lane(c *config.Config, f *config.Feed) (lane *delivery.Lane, from string, err error) {
	key, from, err := k.readKey(c, f)
	if err != nil {
		return nil, from, err
	}
	if live := key.Mode() == "live"; live && !f.API.Live {
		return nil, from, describe.Advise(fmt.Errorf("%s holds a live key, which moves money, and api.live is false", from),
			"use a test key (sk_test_…), or set api.live: true")
	} else if !live && f.API.Live {
		return nil, from, describe.Advise(fmt.Errorf("%s holds a test key, and api.live is true", from),
			"use the live key, or set api.live: false")
	}
	conf, err := f.API.Network()
	if err != nil {
		return nil, from, err
	}
	conf.BaseURL, conf.Key, conf.Timeout, conf.MaxConns = f.API.BaseURL, key, f.API.Timeout, f.API.Concurrency
	conf.UserAgent = "billdrop/" + k.Version
	api, err := client.New(conf)
	if err != nil {
		return nil, from, fmt.Errorf("api: %w", err)
	}
	policy := delivery.Policy{
		Concurrency: f.API.Concurrency, RateLimit: f.API.RateLimit, MaxAttempts: f.API.MaxAttempts,
		BackoffMin: f.API.BackoffMin, BackoffMax: f.API.BackoffMax, LookupSettle: f.API.LookupSettle, Timeout: f.API.Timeout,
		GiveUpAfter: f.API.GiveUpAfter,
	}
	lane = delivery.NewLane(f.Scope(), k.Monitor.API(f.Scope(), api), policy)
	lane.Warn = func(reason string) {
		k.Log.Warn("waiting for the API", "merchant", f.Merchant, "reason", reason)
	}
	return lane, from, nil
}

// readKey returns a feed's API key and where it was found: in the feed's own file, else
// in the environment, else in the top-level file.
func (k Kit) readKey(c *config.Config, f *config.Feed) (key client.Key, from string, err error) {
	secret, _ := k.Env(config.EnvAPIKey)
	if own := f.API.KeyFile != "" && f.API.KeyFile != c.API.KeyFile; own || secret == "" {
		from = "api.key_file"
		if secret, err = config.ReadSecret(from, f.API.KeyFile); err != nil {
			return "", from, err
		}
	} else {
		from = config.EnvAPIKey
	}
	if key, err = client.ParseKey(secret); err != nil {
		return "", from, fmt.Errorf("%s: %w", from, err)
	}
	return key, from, nil
}
