package main

import (
	"context"
	"errors"
	"fmt"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/input"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest/ledger"
)

type forgetCmd struct {
	CustomerReference string `arg:"" name:"CUSTOMER_REFERENCE" help:"Reference of the customer, as in bill files; - reads references from standard input, one a line, which keeps them out of the shell's history."`
	Feed              string `placeholder:"NAME" help:"Only the merchant of this feed (default: the merchants of all feeds)."`
}

func (forgetCmd) Help() string {
	return `Removes from the ledger what links the customer's reference, and the references of the accounts that its bills are on, to Moment's ids. The ledger holds references only as digests. Bills stay, because without them one could be raised twice; a bill's record holds its own reference, ids and an amount. The biller's own rows are in the bill files, in archive/ on the server, and in rejects files: remove them there. If a later file names the customer again, its id is looked up again. Exits 2 if the ledger does not know the customer.

Example: billdrop forget CUST-000101`
}

// Run forgets one customer, or those that standard input names.
func (c *forgetCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	scopes := wiring.Scopes(conf)
	if c.Feed != "" {
		i, err := chooseFeed(conf, c.Feed)
		if err != nil {
			return err
		}
		merchant := conf.Feeds[i].Merchant
		scopes = []ledger.Scope{{Merchant: merchant, Mode: "test"}, {Merchant: merchant, Mode: "live"}}
	}
	references := []string{c.CustomerReference}
	if c.CustomerReference == input.Stdin {
		if references, err = input.Lines(s.stdin); err != nil {
			return err
		}
		if len(references) == 0 {
			return usagef("standard input names no customer").Hint("write one reference a line")
		}
	}
	l, err := openLedger(ctx, s, conf)
	if err != nil {
		return err
	}
	customers, parties, err := forget(ctx, l, scopes, references)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	const spelling = "check the spelling, capital letters included"
	if customers == 0 {
		return usagef("the ledger knows none of these customers (%d); nothing was changed", len(references)).Hint("%s, and --feed", spelling)
	}
	doc := map[string]int{"asked": len(references), "customers": customers, "parties": parties}
	err = s.print(doc, func() string {
		return fmt.Sprintf("forgotten: %d of %s, %s of customers and accounts in all\n", customers,
			describe.Count(len(references), "customer"), describe.Count(parties, "reference"))
	})
	if unknown := len(references) - customers; err == nil && unknown > 0 {
		s.screen.Warnf("the ledger does not know %d of the customers; %s", unknown, spelling)
		return errAttention
	}
	return err
}

// forget removes each reference from every scope that knows it.
func forget(ctx context.Context, l ledger.Ledger, scopes []ledger.Scope, references []string) (customers, parties int, err error) {
	for _, reference := range references {
		known := false
		for _, scope := range scopes {
			n, err := l.Forget(ctx, scope, reference)
			if errors.Is(err, ledger.ErrNotFound) {
				continue
			}
			if err != nil {
				return customers, parties, err
			}
			known = true
			parties += n
		}
		if known {
			customers++
		}
	}
	return customers, parties, nil
}
