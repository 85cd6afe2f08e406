package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// publish puts the reports in place, the summary last.
func (j *job) publish(ctx context.Context) error {
	// The ledger counts requests in its record of the file, not in this copy of it.
	f, err := j.Ledger.File(ctx, j.file.ID)
	if err != nil {
		return err
	}
	j.file = f
	names := report.NamesOf(f.Stem)
	var totals ledger.Totals
	var reports []outgoing
	if f.RowsRead || flooded(f) {
		if totals, err = j.balance(ctx); err != nil {
			return err
		}
		for _, r := range []outgoing{
			{kind: "results", name: names.Results, sum: j.sums.Results, field: resultsField},
			{kind: "rejects", name: names.Rejects, sum: j.sums.Rejects, field: rejectsField},
		} {
			if r.sum != "" {
				file, err := os.Open(j.spool.report(f.ID, r.kind))
				if err != nil {
					return fmt.Errorf("read report: %w", err)
				}
				defer file.Close()
				r.content = file
			}
			reports = append(reports, r)
		}
	}
	s := report.Summarize(f, totals)
	if j.survey != nil {
		s.Warnings = append(s.Warnings, j.survey.Warnings...)
	}
	if err := j.put(ctx, append(reports, inMemory(names.Summary, s.Bytes(), summaryField))...); err != nil {
		return err
	}
	j.summary = &s
	return j.advance(ctx, ledger.Published)
}

// balance checks that results and rejects agree with the ledger's sums and with the lines of
// the file, and returns the sums.
func (j *job) balance(ctx context.Context) (ledger.Totals, error) {
	totals, err := ledger.SumsOf(ctx, j.Ledger, j.file)
	if err != nil {
		return totals, err
	}
	if j.tally == nil { // an earlier run has settled the file
		if err := j.composeAgain(ctx); err != nil {
			return totals, err
		}
	}
	if flooded(j.file) { // not all of its rows are in the reports
		return totals, nil
	}
	if err := report.Balance(*j.tally, totals, j.file.Rows, j.file.Lines); err != nil {
		return totals, fmt.Errorf("report of %s: %w", j.file.Name, err)
	}
	return totals, nil
}

// compose writes results and rejects beside the spooled copy. All rows have their outcome.
func (j *job) compose(ctx context.Context) error {
	results, err := j.spool.create(j.file.ID, "results")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	defer results.Close()
	rejects, err := j.spool.create(j.file.ID, "rejects")
	if err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	defer rejects.Close()
	resultsSum, rejectsSum := sha256.New(), sha256.New()
	out := report.Output{Results: io.MultiWriter(results, resultsSum), Rejects: io.MultiWriter(rejects, rejectsSum), Links: j.feed.Present != nil}
	ahead := report.Ahead{Fetch: func(from int) ([]ledger.Outcome, error) {
		page, err := j.Ledger.Outcomes(ctx, j.file.ID, from, outcomesPage)
		if err == nil && out.Links {
			err = j.addLinks(ctx, page)
		}
		return page, err
	}}
	defer ahead.Wait()
	var tally report.Tally
	if fromLedger(j.file) {
		tally, err = report.ComposeOutcomes(out, report.Pages(ahead.Page))
	} else {
		err = j.decode(ctx, func(recs *billfile.Decoder) error {
			out.Layout = j.survey.Layout
			if flooded(j.file) {
				tally, err = report.Excerpt(out, recs, max(j.feed.MaxInvalidRows, 1))
			} else {
				tally, err = report.Compose(out, recs, report.Pages(ahead.Page))
			}
			return err
		})
	}
	if err = errors.Join(err, results.Close(), rejects.Close()); err != nil {
		return fmt.Errorf("report of %s: %w", j.file.Name, err)
	}
	j.tally = &tally
	j.sums = ledger.Reports{Results: hex.EncodeToString(resultsSum.Sum(nil))}
	if tally.Attention > 0 && !fromLedger(j.file) { // rejects hold the bytes of the file
		j.sums.Rejects = hex.EncodeToString(rejectsSum.Sum(nil))
	}
	return nil
}

// addLinks adds their payment requests to the outcomes of bills that the file created.
func (j *job) addLinks(ctx context.Context, page []ledger.Outcome) error {
	var refs []string
	for i := range page {
		if page[i].Status == ledger.Created {
			refs = append(refs, page[i].Reference)
		}
	}
	links, err := j.Ledger.Links(ctx, j.feed.Lane.Scope(), refs)
	for i := range page {
		o := &page[i]
		if l := links[o.Reference]; o.Status == ledger.Created && l.State == ledger.LinkMade && l.BillID == o.BillID {
			o.PaymentLink, o.PaymentRequestID = l.URL, l.RequestID
		}
	}
	return err
}

// composeAgain composes the reports of a file that an earlier run has settled. Those of a
// rejected file whose rows cannot be read any more list what the ledger holds.
func (j *job) composeAgain(ctx context.Context) error {
	if givenUp(j.file) && !fromLedger(j.file) {
		why, err := j.unreadable(ctx)
		if err != nil {
			return err
		}
		if why != "" {
			j.log.Warn("the rows of a rejected file cannot be read any more, so it gets no rejects", "why", why)
			j.file.Lines = ledger.Lines{}
			if err := j.advance(ctx, ledger.Settled); err != nil {
				return err
			}
		}
	}
	return j.compose(ctx)
}

// outcomesPage is how many outcomes are read from the ledger at a time.
const outcomesPage = 1024
