package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"billdrop/ingest/billfile"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// held is why a file waits for a person.
type held struct{ code, detail string }

// HoldAdvice is how the Detail of a held file ends: what to do about it.
func HoldAdvice(id string) string {
	return fmt.Sprintf("; check the file, then run: billdrop approve %s (it is sent), or billdrop reject %s (it is given up)", id, id)
}

// overLimit finds the limit that the file is over, or the control total that it misses.
func (j *job) overLimit(ctx context.Context) (*held, error) {
	if over := j.feed.Hold.Exceeded(j.survey); len(over) > 0 {
		return &held{"over_limit", strings.Join(over, "; ") + HoldAdvice(j.file.ID)}, nil
	}
	return j.controlMismatch(ctx)
}

// Exceeded names the limits that a file is over.
func (limits Hold) Exceeded(s *billfile.Survey) []string {
	var over []string
	if percent := limits.MaxInvalidPercent; percent < 100 && s.Rows > 0 && s.Invalid*100 > percent*s.Rows {
		over = append(over, fmt.Sprintf("%d of %d rows are invalid, more than hold.max_invalid_percent (%d)", s.Invalid, s.Rows, percent))
	}
	if limits.MaxRows > 0 && s.Rows > limits.MaxRows {
		over = append(over, fmt.Sprintf("it has %d rows, more than hold.max_rows (%d)", s.Rows, limits.MaxRows))
	}
	for _, currency := range slices.Sorted(maps.Keys(limits.MaxTotal)) {
		if sum := s.Amounts[currency]; sum > limits.MaxTotal[currency] {
			over = append(over, fmt.Sprintf("its valid rows sum up to %s %d, more than hold.max_total (%d, minor units)", currency, sum, limits.MaxTotal[currency]))
		}
	}
	return over
}

// controlMismatch compares the file with its control totals, if it has any.
func (j *job) controlMismatch(ctx context.Context) (*held, error) {
	raw, err := j.place.Companion(ctx, atRest(j.file), transfer.ControlSuffix)
	if raw == nil || err != nil {
		return nil, err
	}
	want, err := readControl(raw)
	if err != nil {
		return &held{"control_total_mismatch", `the control file cannot be read: it has to look like {"rows": 1000, "amounts": {"ZAR": 123456}}` + HoldAdvice(j.file.ID)}, nil
	}
	sums := make(map[string]int64)
	err = j.eachRecord(ctx, func(rec *billfile.Record) error {
		if rec.Bill.Currency != "" {
			sums[rec.Bill.Currency] += rec.Bill.Amount
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if wrong := want.mismatches(j.survey.Rows, sums); len(wrong) > 0 {
		return &held{"control_total_mismatch", strings.Join(wrong, "; ") + HoldAdvice(j.file.ID)}, nil
	}
	return nil, nil
}

// hold says in a summary why the file waits, and has it wait. It stays in processing/.
func (j *job) hold(ctx context.Context, why *held) error {
	j.file.Outcome, j.file.Code, j.file.Detail = ledger.FileHeld, why.code, why.detail
	j.file.RunID, j.file.Version = j.runID, j.Version
	s := j.heldSummary()
	if err := j.place.Publish(ctx, report.NamesOf(j.file.Stem).Summary, bytes.NewReader(s.Bytes())); err != nil {
		return err
	}
	j.log.Warn("file held", "code", why.code, "detail", why.detail)
	if err := j.advance(ctx, ledger.Held); err != nil {
		return err
	}
	if j.Finished != nil {
		j.Finished(s)
	}
	return nil
}

func (j *job) heldSummary() report.Summary {
	return report.Summarize(j.file, report.Unsent(j.survey.Rows, j.survey.Invalid, j.survey.Amounts))
}

// rest leaves a held file where it is: it still needs attention.
func (j *job) rest(ctx context.Context) error {
	if err := j.takeSurvey(ctx); err != nil {
		return err
	}
	s := j.heldSummary()
	j.summary = &s
	return nil
}

// givenUp reports whether a held file was rejected by a person and has still to be brought to its end.
func givenUp(f *ledger.File) bool { return f.State == ledger.Held && f.Outcome == ledger.FileRejected }

// resting reports whether a file waits for a person: nothing is done about it.
func resting(f *ledger.File) bool { return f.State == ledger.Held && !f.Approved && !givenUp(f) }

// giveUp makes durable that a held file is rejected. From then on it cannot be approved: some of its rows may have
// their outcome already.
func (j *job) giveUp(ctx context.Context) error {
	if givenUp(j.file) {
		return nil
	}
	f := *j.file
	f.Outcome, f.Approved = ledger.FileRejected, false
	f.Detail = strings.TrimSuffix(f.Detail, HoldAdvice(f.ID)) + "; it was rejected by hand: correct it and deliver it again, if it is still wanted"
	f.Format = "" // none of its rows has an outcome yet, so it may be read by today's
	if err := j.Ledger.SaveFile(context.WithoutCancel(ctx), &f); err != nil {
		return fmt.Errorf("reject %s: %w", f.Name, err)
	}
	j.file = &f
	return nil
}

// refuseHeld gives the rows of a file that was given up their outcomes, and settles it. Where they cannot be read any
// more, its reports do not list them: nothing was sent in any case.
func (j *job) refuseHeld(ctx context.Context) error {
	why := "the copy of it is gone, and so is the file"
	var unreadable *billfile.FileError
	err := j.takeSurvey(ctx)
	if errors.As(err, &unreadable) {
		why = "by the feed's format of today it is refused: " + unreadable.Code
	}
	if unreadable != nil || errors.Is(err, fs.ErrNotExist) {
		j.log.Warn("the rows of a rejected file cannot be read any more, so its reports do not list them", "why", why)
		j.file.Rows, j.file.Lines, j.file.RowsRead = 0, ledger.Lines{}, false
		return j.settle(ctx, ledger.FileRejected)
	}
	if err != nil {
		return err
	}
	j.file.Rows, j.file.Lines, j.file.RowsRead = j.survey.Rows, ledger.Lines(j.survey.Lines), true
	j.file.Format = j.feed.Format.Fingerprint()
	if err := j.advance(ctx, ledger.Held); err != nil { // so that no crash leaves outcomes by two formats
		return err
	}
	if err := j.recordUnsent(ctx); err != nil {
		return err
	}
	return j.settle(ctx, ledger.FileRejected)
}

// lost reports whether an attempt to copy a file again failed because it is not there any more.
func lost(err error) bool {
	return errors.Is(err, inbox.ErrNotExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, transfer.ErrNoSource) || errors.Is(err, errAnother)
}
