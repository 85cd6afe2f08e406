package preview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"billdrop/ingest/billfile"
	"billdrop/ingest/durable"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// secondReading lists the problems, also those between rows, and writes the reports.
type secondReading struct {
	check  Check
	src    *source
	survey *billfile.Survey
	v      *Validation
}

func (w *secondReading) run(ctx context.Context) error {
	var out report.Output
	var results, rejects *os.File
	if w.check.Out != "" {
		var err error
		if results, rejects, err = w.drafts(); err != nil {
			return err
		}
		defer discard(results)
		defer discard(rejects)
		out = report.Output{Results: results, Layout: w.survey.Layout}
		if w.v.Code == "" {
			out.Rejects = rejects
		}
	}
	var tally report.Tally
	err := w.src.read(w.survey, func(recs *billfile.Decoder) (err error) {
		list := func(rec *billfile.Record) { w.v.list(rec, w.check.MaxProblems) }
		tally, err = report.Validate(out, &records{recs: recs, ctx: ctx, each: list})
		return err
	})
	if err != nil {
		return fmt.Errorf("validate %s: %w", w.src.name, err)
	}
	if tally.Records != w.survey.Rows || tally.Rows[ledger.Invalid] != w.survey.Invalid {
		return fmt.Errorf("validate %s: the file changed while it was read; try again when no program writes to it", w.src.name)
	}
	if w.check.Out == "" {
		return nil
	}
	if w.v.Code != "" {
		if err := w.rejectAll(ctx, rejects); err != nil {
			return err
		}
	}
	if err := w.v.chooseStem(w.check.Out); err != nil {
		return err
	}
	names := report.NamesOf(w.v.Stem)
	if err := publishDraft(w.check.Out, names.Results, results); err != nil {
		return err
	}
	if tally.Attention > 0 {
		if err := publishDraft(w.check.Out, names.Rejects, rejects); err != nil {
			return err
		}
	} else if err := os.Remove(filepath.Join(w.check.Out, names.Rejects)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("withdraw the rejects of an earlier validation: %w", err)
	}
	return writeValidation(w.check, w.v, tally)
}

// rejectAll writes all rows of a file that is refused because of its invalid rows into the
// rejects, so that the corrected file completes the job.
func (w *secondReading) rejectAll(ctx context.Context, rejects io.Writer) error {
	err := w.src.read(w.survey, func(recs *billfile.Decoder) error {
		return w.src.read(w.survey, func(twin *billfile.Decoder) error {
			_, err := report.Compose(report.Output{Rejects: rejects, Layout: w.survey.Layout}, &records{recs: recs, ctx: ctx}, unsent(twin))
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("validate %s: %w", w.src.name, err)
	}
	return nil
}

// unsent returns the outcome of each record in a file that is refused because of its
// invalid rows.
func unsent(recs *billfile.Decoder) iter.Seq2[ledger.Outcome, error] {
	return func(yield func(ledger.Outcome, error) bool) {
		for {
			rec, err := recs.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			var o ledger.Outcome
			if err == nil {
				if o = report.OfRecord(rec); o.Status == report.Valid {
					o.Status = ledger.NotSent
				}
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// drafts are temporary files in the directory of the reports.
func (w *secondReading) drafts() (results, rejects *os.File, err error) {
	if err := os.MkdirAll(w.check.Out, 0o700); err != nil {
		return nil, nil, fmt.Errorf("create the directory of the reports: %w", err)
	}
	if results, err = os.CreateTemp(w.check.Out, ".results-*.part"); err != nil {
		return nil, nil, fmt.Errorf("write results: %w", err)
	}
	if rejects, err = os.CreateTemp(w.check.Out, ".rejects-*.part"); err != nil {
		discard(results)
		return nil, nil, fmt.Errorf("write rejects: %w", err)
	}
	return results, rejects, nil
}

func discard(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

func publishDraft(dir, name string, draft *os.File) error {
	if err := durable.Publish(dir, name, draft); err != nil {
		return fmt.Errorf("publish report %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// writeValidation publishes the summary of a validation.
func writeValidation(c Check, v *Validation, t report.Tally) error {
	s := report.Summarize(&ledger.File{
		Name: v.File, SHA256: v.SHA256, Stem: v.Stem, Code: v.Code, Detail: v.Detail, Line: v.Line, Lines: v.Lines, Version: c.Version,
		Outcome: map[string]string{
			OutcomeValid: ledger.Completed, OutcomeInvalid: ledger.CompletedWithErrors, OutcomeRejected: ledger.FileRejected,
		}[v.Outcome],
	}, t.Totals())
	s.Warnings = v.Warnings
	if err := durable.Publish(c.Out, report.NamesOf(v.Stem).Summary, bytes.NewReader(s.Bytes())); err != nil {
		return fmt.Errorf("publish the summary: %w", err)
	}
	return nil
}

// chooseStem sets the stem to one whose reports may be written. They may replace those of an
// earlier validation, but not those of a file that was sent.
func (v *Validation) chooseStem(dir string) error {
	for n := 1; ; n++ {
		v.Stem = report.Stem(v.File, v.SHA256, n)
		names := report.NamesOf(v.Stem)
		_, err := os.Lstat(filepath.Join(dir, names.Ack))
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for earlier reports: %w", err)
		}
		earlier, err := os.ReadFile(filepath.Join(dir, names.Summary))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for earlier reports: %w", err)
		}
		if s, err := report.Parse(earlier); err == nil && s.FileID == "" {
			return nil
		}
	}
}

// records are those of a decoder, until ctx is cancelled.
type records struct {
	recs *billfile.Decoder
	ctx  context.Context
	each func(*billfile.Record) // called for each record; may be nil
}

func (l *records) Next() (*billfile.Record, error) {
	if l.ctx.Err() != nil {
		return nil, context.Cause(l.ctx)
	}
	rec, err := l.recs.Next()
	if err == nil && l.each != nil {
		l.each(rec)
	}
	return rec, err
}
