package ingest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"billdrop/ingest/billfile"
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

// holdReason returns the limits that the file exceeds, what is wrong with its companions, or
// the control totals that it misses; nil when it may be sent.
func (j *job) holdReason(ctx context.Context) (*holdReason, error) {
	if exceeded := j.feed.Hold.Exceeded(j.survey); len(exceeded) > 0 {
		return &holdReason{ledger.CodeOverLimit, strings.Join(exceeded, "; ") + HoldAdvice(j.file.ID)}, nil
	}
	if j.noChecksum != nil {
		return j.noChecksum, nil
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
	raw, unusable, err := j.companion(ctx, transfer.ControlSuffix)
	if raw == nil || err != nil {
		return unusable, err
	}
	want, err := readControl(raw)
	if err != nil {
		return &holdReason{ledger.CodeControlTotalMismatch, "the control file cannot be read: " + err.Error() + HoldAdvice(j.file.ID)}, nil
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
	if err := j.put(ctx, inMemory(report.NamesOf(j.file.Stem).Summary, s.Bytes(), summaryField)); err != nil {
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
	s := report.Summarize(j.file, report.Unsent(j.survey.Rows, j.survey.Invalid, j.survey.Amounts, j.survey.InvalidAmounts))
	s.Warnings = append(s.Warnings, j.survey.Warnings...)
	return s
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

// resting reports whether a file waits for the operator, so that nothing is done about it.
func resting(f *ledger.File) bool {
	return f.State == ledger.Held && !f.Approved && !RejectedByHand(f)
}
