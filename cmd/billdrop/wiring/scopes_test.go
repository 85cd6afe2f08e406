package wiring

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/ledger"
)

// TestScopes: the scopes of the feeds as configured now come first, each once.
func TestScopes(t *testing.T) {
	feed := func(merchant string, live bool) config.Feed {
		return config.Feed{Merchant: merchant, API: config.API{Live: live}}
	}
	got := Scopes(&config.Config{Feeds: []config.Feed{feed("acme", true), feed("acme", true), feed("loans", false), feed("acme", false)}})
	want := []ledger.Scope{{Merchant: "acme", Mode: "live"}, {Merchant: "loans", Mode: "test"}, {Merchant: "acme", Mode: "test"}, {Merchant: "loans", Mode: "live"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(- want, + got)\n%s", diff)
	}
}
