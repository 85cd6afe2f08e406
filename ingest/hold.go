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

// holdReason is why a file is held.
type holdReason struct{ code, detail string }

// HoldAdvice is the end of the Detail of a held file: what to do about it.
func HoldAdvice(id string) string {
	return fmt.Sprintf("; check the file, then run: billdrop approve %s (it is sent), or billdrop reject %s (it is given up)", id, id)
}

// holdReason returns the limits that the file exceeds, or the control totals that it
// misses; nil when it may be sent.
func (j *job) holdReason(ctx context.Context) (*holdReason, error) {
	if exceeded := j.feed.Hold.Exceeded(j.survey); len(exceeded) > 0 {
		return &holdReason{ledger.CodeOverLimit, strings.Join(exceeded, "; ") + HoldAdvice(j.file.ID)}, nil
	}
	return j.controlMismatch(ctx)
}

// Exceeded names the limits that a file exceeds.
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
func (j *job) controlMismatch(ctx context.Context) (*holdReason, error) {
	raw, err := j.place.Companion(ctx, placed(j.file), transfer.ControlSuffix)
	if raw == nil || err != nil {
		return nil, err
	}
	want, err := readControl(raw)
	if err != nil {
		return &holdReason{ledger.CodeControlTotalMismatch, `the control file cannot be read: it has to look like {"rows": 1000, "amounts": {"ZAR": 123456}}` + HoldAdvice(j.file.ID)}, nil
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
		return &holdReason{ledger.CodeControlTotalMismatch, strings.Join(wrong, "; ") + HoldAdvice(j.file.ID)}, nil
	}
	return nil, nil
}

// hold publishes a summary that says why the file is held, and records the state. The file
// stays in processing/.
func (j *job) hold(ctx context.Context, reason *holdReason) error {
	j.file.Outcome, j.file.Code, j.file.Detail = ledger.FileHeld, reason.code, reason.detail
	j.file.RunID, j.file.Version = j.runID, j.Version
	s := j.heldSummary()
	if err := j.place.Publish(ctx, report.NamesOf(j.file.Stem).Summary, bytes.NewReader(s.Bytes())); err != nil {
		return err
	}
	j.log.Warn("file held", "code", reason.code, "detail", reason.detail)
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

// rest leaves a held file where it is, and summarizes it, because it still needs attention.
func (j *job) rest(ctx context.Context) error {
	if err := j.takeSurvey(ctx); err != nil {
		return err
	}
	s := j.heldSummary()
	j.summary = &s
	return nil
}

// rejectedByHand reports whether a held file was rejected by the operator and is not
// settled yet.
func rejectedByHand(f *ledger.File) bool {
	return f.State == ledger.Held && f.Outcome == ledger.FileRejected
}

// resting reports whether a file waits for the operator, so that nothing is done about it.
func resting(f *ledger.File) bool {
	return f.State == ledger.Held && !f.Approved && !rejectedByHand(f)
}

// rejectHeld makes durable that a held file is rejected. It cannot be approved after that,
// because some of its rows may have their outcome.
func (j *job) rejectHeld(ctx context.Context) error {
	if rejectedByHand(j.file) {
		return nil
	}
	f := *j.file
	f.Outcome, f.Approved = ledger.FileRejected, false
	f.Detail = strings.TrimSuffix(f.Detail, HoldAdvice(f.ID)) + "; it was rejected by hand: correct it and deliver it again, if it is still wanted"
	f.Format = "" // none of its rows has an outcome yet, so today's format may read it
	if err := j.Ledger.SaveFile(context.WithoutCancel(ctx), &f); err != nil {
		return fmt.Errorf("reject %s: %w", f.Name, err)
	}
	j.file = &f
	return nil
}

// settleRejected records the outcomes of the rows of a file that was rejected by hand, and
// settles it. If the rows cannot be read any more, its reports do not list them; nothing
// was sent in either case.
func (j *job) settleRejected(ctx context.Context) error {
	why := "both the file and its copy are gone"
	var unreadable *billfile.FileError
	err := j.takeSurvey(ctx)
	if errors.As(err, &unreadable) {
		why = "the feed's present format refuses the file: " + unreadable.Code
	}
	if unreadable != nil || errors.Is(err, fs.ErrNotExist) {
		j.log.Warn("the rows of a rejected file cannot be read any more, so its reports do not list them", "why", why)
		j.file.Rows, j.file.Lines, j.file.RowsRead = 0, ledger.Lines{}, false
		return j.settle(ctx, ledger.FileRejected)
	}
	if err != nil {
		return err
	}
	j.recordRead()
	if err := j.advance(ctx, ledger.Held); err != nil { // so that no crash leaves outcomes by two formats
		return err
	}
	if err := j.recordUnsent(ctx); err != nil {
		return err
	}
	return j.settle(ctx, ledger.FileRejected)
}

// sourceGone reports whether a file could not be copied again because it is not there any
// more.
func sourceGone(err error) bool {
	return errors.Is(err, inbox.ErrNotExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, transfer.ErrNoSource) || errors.Is(err, errOtherFile)
}
