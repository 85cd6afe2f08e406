package wiring

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/billfile"
)

// Override are flags that stand in place of keys of a feed; "" leaves the key as it is.
type Override struct{ Preset, Amounts, Currency string }

// Apply changes a feed, or returns what is wrong with the flags.
func (o Override) Apply(feed *config.Feed) error {
	if o.Preset != "" {
		feed.Preset, feed.Amounts = o.Preset, ""
	}
	feed.Amounts = cmp.Or(o.Amounts, feed.Amounts)
	if err := checkPreset(feed); err != nil {
		return err
	}
	if o.Currency != "" {
		feed.Currency = strings.ToUpper(o.Currency)
		if len(feed.Currencies) > 0 && !slices.Contains(feed.Currencies, feed.Currency) {
			return describe.Advise(errors.New("--currency is not among the feed's currencies"), "write one of %s", strings.Join(feed.Currencies, ", "))
		}
	}
	return nil
}

// checkPreset checks that the preset is known and agrees with the amounts.
func checkPreset(feed *config.Feed) error {
	var names []string
	for _, p := range billfile.Presets() {
		if p.Name == feed.Preset {
			if feed.Amounts != "" && Format(feed).Amounts != p.Amounts {
				return describe.Advise(fmt.Errorf("preset %s has its own way to write amounts", feed.Preset), "leave --amounts out")
			}
			return nil
		}
		names = append(names, p.Name)
	}
	if feed.Preset != "" {
		return describe.Advise(errors.New("--preset is not a known one"), "write one of %s", strings.Join(names, ", "))
	}
	return nil
}
