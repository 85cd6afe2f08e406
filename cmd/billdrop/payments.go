package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/input"
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
		return usagef("--limit is negative").hint("write how many to list at most, or 0 for all")
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
	list, err := readPayments(ctx, s, conf, q)
	if err != nil {
		return err
	}
	return s.print(map[string]any{"payments": list}, func() string {
		if len(list) == 0 {
			return "no payment was received\n"
		}
		return describe.PaymentTable(list) + "\n"
	})
}

// readPayments reads the payments of the merchants of all feeds, newest first; none if none was
// ever received.
func readPayments(ctx context.Context, s *session, conf *config.Config, q ledger.PaymentQuery) ([]describe.Payment, error) {
	list := []describe.Payment{}
	location, err := engine.Configured(conf, s.log)
	if err != nil {
		return nil, err
	}
	store, err := location.ReadPayments(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	for _, scope := range scopesOf(conf) {
		found, err := store.List(ctx, scope, q)
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
		for i := range found {
			list = append(list, describe.NewPayment(scope, &found[i]))
		}
	}
	slices.SortStableFunc(list, func(a, b describe.Payment) int { return b.ReceivedAt.Compare(a.ReceivedAt.Time) })
	if q.Limit > 0 {
		list = list[:min(len(list), q.Limit)]
	}
	return list, store.Close()
}
