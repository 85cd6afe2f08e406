package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// judge validates the whole file and decides whether it is sent, held or refused. Nothing
// is sent before.
func (j *job) judge(ctx context.Context) error {
	j.file.Outcome, j.file.Code, j.file.Detail, j.file.Line = "", "", "", 0 // of a judgement that was cut short
	if err := j.acknowledge(ctx); err != nil {
		return err
	}
	refusal, err := j.refusal(ctx)
	if err != nil {
		return err
	}
	if refusal != nil {
		j.file.Code, j.file.Detail, j.file.Line = refusal.Code, refusal.Detail, refusal.Line
		return j.settle(ctx, ledger.FileRejected)
	}
	j.recordRead()
	if most := j.feed.MaxInvalidRows; most > 0 && j.survey.Invalid > most && j.survey.Invalid > j.survey.Rows/2 {
		return j.refuseFlood(ctx)
	}
	if j.feed.RejectInvalid && j.survey.Invalid > 0 {
		return j.refuseInvalid(ctx)
	}
	reason, err := j.holdReason(ctx)
	if err != nil {
		return err
	}
	if reason != nil && !j.file.Approved {
		return j.hold(ctx, reason)
	}
	return j.advance(ctx, ledger.Sending)
}

// recordRead notes in the file's record what its survey found, and by which format.
func (j *job) recordRead() {
	j.file.Rows, j.file.Lines, j.file.RowsRead = j.survey.Rows, ledger.Lines(j.survey.Lines), true
	j.file.Format = j.feed.Format.Fingerprint()
}

// refusal returns what is wrong with the file as a whole, and takes the survey; nil when it
// can be read.
func (j *job) refusal(ctx context.Context) (*billfile.FileError, error) {
	if limit := j.feed.Format.MaxFileSize; j.file.SHA256 == "" || limit > 0 && j.file.Size > limit {
		return &billfile.FileError{Code: billfile.CodeFileTooLarge, Detail: fmt.Sprintf(
			"the file has %d bytes or more, the limit is %d: split it, or raise max_file_size of the feed", j.file.Size, limit)}, nil
	}
	companion, unusable, err := j.companion(ctx, transfer.ChecksumSuffix)
	if err != nil {
		return nil, err
	}
	if _, err := readChecksum(j.file.Name, companion); companion != nil && err != nil {
		unusable = j.unreadableCompanion(transfer.ChecksumSuffix, err)
	}
	j.noChecksum = unusable
	if wrong := ChecksumMismatch(j.file.Name, j.file.SHA256, companion); wrong != nil {
		return wrong, nil
	}
	if own, err := j.ownRejects(ctx); own != nil || err != nil {
		return own, err
	}
	err = j.takeSurvey(ctx)
	if refusal, ok := errors.AsType[*billfile.FileError](err); ok {
		return refusal, nil
	}
	return nil, err
}

// takeSurvey reads the spooled copy through, once in the life of a job.
func (j *job) takeSurvey(ctx context.Context) error {
	if j.survey != nil {
		return nil
	}
	open := func() (io.ReadCloser, error) { return j.spool.open(j.file) }
	survey, err := billfile.TakeSurvey(ctx, open, j.feed.Format, nil)
	if err != nil {
		return fmt.Errorf("validate %s: %w", j.file.Name, err)
	}
	j.survey = survey
	return nil
}

// refuseInvalid settles a file that is refused because of its invalid rows.
func (j *job) refuseInvalid(ctx context.Context) error {
	if err := j.recordUnsent(ctx); err != nil {
		return err
	}
	j.file.Code = ledger.CodeInvalidRows
	j.file.Detail = fmt.Sprintf("%d of %d rows are invalid, and the feed sends all rows of a file or none: correct them and deliver the whole file again", j.survey.Invalid, j.survey.Rows)
	return j.settle(ctx, ledger.FileRejected)
}

// flooded reports whether a file was refused because of its many invalid rows.
func flooded(f *ledger.File) bool { return f.Code == ledger.CodeTooManyInvalidRows }

// refuseFlood settles a file of which too many rows are invalid. Not one of them gets an outcome in
// the ledger, so that a flood of them fills neither the ledger nor the reports; all are counted.
func (j *job) refuseFlood(ctx context.Context) error {
	j.file.RowsRead = false
	j.file.Code = ledger.CodeTooManyInvalidRows
	j.file.Detail = fmt.Sprintf("%d of %d rows are invalid, more than max_invalid_rows (%d) and more than half of the file, so nothing was sent; the reports have the first %d of them: see whether the file is the right one and the feed's format fits it",
		j.survey.Invalid, j.survey.Rows, j.feed.MaxInvalidRows, j.feed.MaxInvalidRows)
	return j.settle(ctx, ledger.FileRejected)
}

// recordUnsent records the outcome of every row of a file of which nothing is sent.
func (j *job) recordUnsent(ctx context.Context) error {
	return j.eachRecord(ctx, func(rec *billfile.Record) error {
		o := report.OfRecord(rec)
		if o.Status == report.Valid {
			o.Status = ledger.NotSent
		}
		return j.Ledger.Record(ctx, ledger.Entry{File: j.file.ID, Outcome: &o})
	})
}

// eachRecord reads the records of the spooled copy.
func (j *job) eachRecord(ctx context.Context, do func(*billfile.Record) error) error {
	return j.decode(ctx, func(recs *billfile.Decoder) error {
		for {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			rec, err := recs.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := do(rec); err != nil {
				return err
			}
		}
	})
}

// decode opens the spooled copy for another reading.
func (j *job) decode(ctx context.Context, use func(*billfile.Decoder) error) error {
	if err := j.takeSurvey(ctx); err != nil {
		return err
	}
	f, err := j.spool.open(j.file)
	if err != nil {
		return fmt.Errorf("read spooled %s: %w", j.file.Name, err)
	}
	defer f.Close()
	recs, err := j.survey.Decode(f)
	if err != nil {
		return fmt.Errorf("read spooled %s: %w", j.file.Name, err)
	}
	return use(recs)
}

// ownRejects returns the refusal of a file that is the rejects of an earlier file, unchanged;
// nil if it is not. The headers of the other reports are known to billfile.
func (j *job) ownRejects(ctx context.Context) (*billfile.FileError, error) {
	of, err := j.Ledger.Files(ctx, ledger.Query{Rejects: j.file.SHA256, Limit: 1})
	if err != nil || len(of) == 0 {
		return nil, err
	}
	return &billfile.FileError{Code: billfile.CodeOwnReport, Detail: fmt.Sprintf(
		"the file is the rejects file of %s (%s), and nothing in it was changed: correct its rows first; if they only failed, run: billdrop retry %s",
		of[0].Name, of[0].ID, of[0].ID)}, nil
}

// ownReport returns the refusal of a file that is a report of billdrop's; nil if it is not.
func (j *job) ownReport(ctx context.Context) (*billfile.FileError, error) {
	if own, err := j.ownRejects(ctx); own != nil || err != nil {
		return own, err
	}
	f, err := j.spool.open(j.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return billfile.OwnReport(f)
}
