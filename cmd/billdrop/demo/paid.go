package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// payTimeout bounds how long an event may take on this machine.
const payTimeout = 10 * time.Second

// paid has a customer pay a bill, and shows its line in the payment report.
func (d *Demo) paid(ctx context.Context, done []describe.Finished) (err error) {
	bill, err := d.someBill(done)
	if err != nil {
		return err
	}
	stop, err := d.Receive(ctx)
	if err != nil {
		return err
	}
	paying, cancel := context.WithTimeout(ctx, payTimeout)
	defer cancel()
	if err := errors.Join(d.Box.Pay(paying, bill), stop()); err != nil {
		return fmt.Errorf("pay a bill: %w", err)
	}
	if _, err := d.Run(ctx); err != nil {
		return err
	}
	reports, err := filepath.Glob(d.Box.Path("payments/payments-*.csv"))
	if err != nil || len(reports) != 1 {
		return fmt.Errorf("the demo should have one payment report, and has %v: %w", reports, err)
	}
	lines, err := readResults(reports[0])
	if err != nil {
		return err
	}
	if len(lines) != 1 || lines[0]["bill_reference"] != bill || lines[0]["bill_status"] != "paid" {
		return fmt.Errorf("the payment report should have the bill %s as paid: %v", bill, lines)
	}
	l := lines[0]
	amount, err := strconv.ParseInt(l["amount"], 10, 64)
	if err != nil {
		return fmt.Errorf("read the payment report: %w", err)
	}
	d.printf("\nThen a customer pays, and Moment says so by webhook. The next run reports it:\n  %s: %s %s, payment %s, matched by %s; the bill is %s now\n  in %s\n",
		bill, l["currency"], describe.Money(l["currency"], amount), l["payment_id"], l["matched_by"], l["bill_status"], reports[0])
	return nil
}

// someBill returns the first bill that was created on an account.
func (d *Demo) someBill(done []describe.Finished) (string, error) {
	for _, f := range done {
		if f.Rows.By[ledger.Created] == 0 {
			continue
		}
		rows, err := readResults(d.Box.Path("results/" + report.NamesOf(f.Stem).Results))
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(rows, func(r map[string]string) bool { return r["status"] == string(ledger.Created) && r["account_id"] != "" })
		if i >= 0 {
			return rows[i]["bill_reference"], nil
		}
	}
	return "", errors.New("the demo created no bill on an account, and should")
}
