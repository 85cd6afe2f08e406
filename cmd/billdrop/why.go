package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest/ledger"
)

type whyCmd struct {
	BillReference string `arg:"" name:"BILL_REFERENCE" help:"Reference of the bill, as in the bill file."`
}

func (whyCmd) Help() string {
	return `Shows every file and line that names the bill, every request that was sent for it with its idempotency key and answer, and what became of it. It looks for the merchants of all feeds, in test and in live mode. It only reads the ledger, so it may be used while a worker runs. Exits 2 if the ledger does not know the bill.

Example: billdrop why RATES-000101`
}

// Run looks for the reference in every scope that the configuration may have written to.
func (c *whyCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	led, err := readLedger(ctx, s, conf)
	if err != nil {
		return err
	}
	scopes := wiring.Scopes(conf)
	bills, err := describe.ReadBills(ctx, led, scopes, c.BillReference)
	if err = errors.Join(err, led.Close()); err != nil {
		return err
	}
	if err := addPayments(ctx, s, conf, bills, c.BillReference); err != nil {
		return err
	}
	if len(bills) == 0 {
		var merchants []string
		for _, scope := range scopes {
			if !slices.Contains(merchants, scope.Merchant) {
				merchants = append(merchants, scope.Merchant)
			}
		}
		return usagef("no such bill in this ledger: %s, for %s, in test or live mode", describe.Reference(c.BillReference), strings.Join(merchants, ", ")).
			Hint("check the spelling, capital letters included; while a file is under way, its bills enter the ledger one by one (billdrop status)")
	}
	doc := bills[0]
	doc.Also = bills[1:]
	return s.print(doc, func() string { return describe.Each(bills, (*describe.Bill).Text) })
}

// addPayments adds to each bill the payments that were matched with it.
func addPayments(ctx context.Context, s *session, conf *config.Config, bills []*describe.Bill, reference string) error {
	payments, err := wiring.ReadPayments(ctx, conf, s.log, ledger.PaymentQuery{Reference: reference})
	for _, p := range payments {
		for _, b := range bills {
			if b.Merchant == p.Merchant && b.Mode == p.Mode {
				b.Payments = append(b.Payments, p)
			}
		}
	}
	return err
}
