package main

import (
	"context"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/input"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest/ledger"
)

type paymentsCmd struct {
	BillReference string       `arg:"" optional:"" name:"BILL_REFERENCE" help:"List only the payments that were matched with this bill."`
	Since         *input.Since `placeholder:"24h" help:"List only what was received since then: hours (24h), days (7d) or weeks (2w) ago."`
	Limit         *int         `placeholder:"N" help:"Payments listed at most; 0 = all (default: 50 in a table, all with --output json)."`
}

func (paymentsCmd) Help() string {
	return `Lists the payments that Moment has reported by webhook, the newest first: which bill each was for, how that was found out, and in which report it is. It only reads, so it may be used while a worker runs.

Examples:
  billdrop payments --since 24h
  billdrop payments RATES-000101`
}

// defaultPayments bounds a table without --limit.
const defaultPayments = 50

// Run lists payments of the merchants of all feeds, in test and in live mode.
func (c *paymentsCmd) Run(ctx context.Context, s *session) error {
	q := ledger.PaymentQuery{Reference: c.BillReference}
	switch {
	case c.Limit != nil && *c.Limit < 0:
		return usagef("--limit is negative").Hint("write how many to list at most, or 0 for all")
	case c.Limit != nil:
		q.Limit = *c.Limit
	case !s.json():
		q.Limit = defaultPayments
	}
	if c.Since != nil {
		q.Since = time.Now().Add(-time.Duration(*c.Since))
	}
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	list, err := wiring.ReadPayments(ctx, conf, s.log, q)
	if err != nil {
		return err
	}
	return s.print(map[string]any{"payments": list}, func() string { return describe.Payments(list, c.BillReference) + "\n" })
}
