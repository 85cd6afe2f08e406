// Package verify asks the API for every bill that a finished file says exists, and reports
// what is no longer so. It only reads: the ledger, and the API by one GET a bill.
//
// Memory does not grow with the file: outcomes are read page by page, and the report is
// written beside.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"billdrop/client"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Place is where the report goes: a part of transfer.Place.
type Place interface {
	// Publish puts a report in place: written under a temporary name, read back, compared,
	// renamed.
	Publish(ctx context.Context, name string, content io.ReadSeeker) error
}

// Options is what to verify, and with what.
type Options struct {
	Ledger ledger.Ledger // only read
	Lane   *delivery.Lane
	File   *ledger.File // Done, of the lane's scope
	Place  Place        // of its reports
	// Asked, if not nil, is called concurrently for each bill that was asked for.
	Asked func()
}

// Found is what became of one file.
type Found struct {
	Report string // name of the report
	Bills  int    // that the file says exist
	Gets   int    // requests that it took
	// By counts the bills by finding.
	By map[report.Finding]int
}

// Same reports whether every bill is still so.
func (f *Found) Same() bool { return f.By[report.Same] == f.Bills }

// pageSize is how many outcomes are read, and asked for, at a time.
const pageSize = 1024

// File verifies one file and publishes the report, which replaces that of an earlier
// verification. If the API is out of reach, the bills that were not asked for are unknown,
// the report is published all the same, and the error is the *delivery.Stop. If the set-up is
// wrong, nothing is published.
func File(ctx context.Context, o Options) (Found, error) {
	found := Found{Report: report.NamesOf(o.File.Stem).Verify, By: make(map[report.Finding]int)}
	if o.File.State != ledger.Done || o.File.Stem == "" {
		return found, fmt.Errorf("verify %s: %w", o.File.ID, ledger.ErrUnfinished)
	}
	draft, err := os.CreateTemp("", "billdrop-verify-*")
	if err != nil {
		return found, fmt.Errorf("verify %s: %w", o.File.ID, err)
	}
	defer os.Remove(draft.Name())
	defer draft.Close()
	out := report.NewVerifyWriter(draft)
	v := &verifier{Options: o, inquiry: o.Lane.Inquire(nil), found: &found, out: out}
	err = v.run(ctx)
	found.Gets = v.inquiry.Gets()
	v.inquiry.Close()
	if err == nil {
		if err = out.Close(); err == nil {
			err = o.Place.Publish(ctx, found.Report, draft)
		}
	}
	if err == nil {
		err = v.stopped
	}
	if err != nil {
		return found, fmt.Errorf("verify %s: %w", o.File.ID, err)
	}
	return found, nil
}

type verifier struct {
	Options
	inquiry *delivery.Inquiry
	found   *Found
	out     *report.VerifyWriter
	stopped error // why the API is not asked any more
}

// run verifies page by page, so that the lines are in file order.
func (v *verifier) run(ctx context.Context) error {
	for from := 0; ; {
		page, err := v.Ledger.Outcomes(ctx, v.File.ID, from, pageSize)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		from = page[len(page)-1].Row + 1
		if err := v.page(ctx, page); err != nil {
			return err
		}
	}
}

// page verifies one page of outcomes and writes its lines.
func (v *verifier) page(ctx context.Context, page []ledger.Outcome) error {
	rows := page[:0]
	for _, o := range page {
		if o.Status == ledger.Created || o.Status == ledger.Existing {
			rows = append(rows, o)
		}
	}
	refs := make([]string, len(rows))
	for i := range rows {
		refs[i] = rows[i].Reference
	}
	known, err := v.Ledger.Bills(ctx, v.File.Scope, refs)
	if err != nil {
		return err
	}
	lines := make([]report.Verified, len(rows))
	if err := v.ask(ctx, rows, known, lines); err != nil {
		return err
	}
	for _, line := range lines {
		v.found.Bills++
		v.found.By[line.Finding]++
		if err := v.out.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// ask fills in the lines of rows. It returns an error that ends the verification; that the
// API is out of reach does not.
func (v *verifier) ask(ctx context.Context, rows []ledger.Outcome, known map[string]*ledger.Bill, lines []report.Verified) error {
	asking, actx := errgroup.WithContext(ctx)
	asking.SetLimit(v.inquiry.Width())
	for i := range rows {
		lines[i] = unasked(&rows[i])
		if v.stopped != nil {
			continue
		}
		asking.Go(func() error {
			a, err := v.inquiry.Bill(actx, rows[i].Reference)
			if err != nil {
				return err
			}
			lines[i] = compare(&rows[i], known[rows[i].Reference], a)
			if v.Asked != nil {
				v.Asked()
			}
			return nil
		})
	}
	err := asking.Wait()
	if errors.Is(err, delivery.ErrStopped) && !errors.Is(err, delivery.ErrSetup) {
		v.stopped, err = err, nil
	}
	return err
}

// unasked is the line of a bill before the API was asked for it.
func unasked(o *ledger.Outcome) report.Verified {
	return report.Verified{Line: o.Line, BillReference: o.Reference, BillID: o.BillID, Finding: report.Unverified,
		Detail: "not asked: the API is out of reach"}
}

// compare returns the line of a bill that the API was asked for.
func compare(o *ledger.Outcome, known *ledger.Bill, a client.Answer) report.Verified {
	line := unasked(o)
	switch {
	case a.Kind == client.Absent && delivery.Documented(a):
		line.Finding, line.Detail = report.Missing, "the API has no bill with this reference"
	case a.Kind == client.Absent:
		line.Detail = "the API's 404 is not in its documented form, so another server may have answered: check api.base_url"
	case a.Kind != client.Found:
		line.Detail = "the API gave no usable answer (" + a.Label() + ")"
	default:
		b := a.Bill
		line.BillStatus, line.Due, line.Paid, line.Remaining = b.Status, &b.AmountDue, b.AmountPaid, b.AmountRemaining
		line.Finding, line.Detail = report.Same, differences(o, known, b)
		switch {
		case b.Status == statusVoided:
			line.Finding, line.Detail = report.Voided, cmp.Or(line.Detail, "the bill was voided at Moment")
		case line.Detail != "":
			line.Finding = report.Changed
		}
	}
	return line
}
