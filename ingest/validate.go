package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Outcomes of an offline validation.
const (
	OutcomeValid    = "valid"    // every row may be sent
	OutcomeInvalid  = "invalid"  // some rows are invalid; a run would create the others
	OutcomeRejected = "rejected" // a run would send nothing of the file
)

// Check is what to validate, and how.
type Check struct {
	Path          string    // of the bill file; only its base name is reported. Ignored with In
	In            io.Reader // nil = the file at Path; else standard input, named "stdin"
	Format        billfile.Format
	RejectInvalid bool   // on_invalid: reject
	Out           string // directory for the reports, made where missing; "" = none are written
	MaxProblems   int    // problems listed at most; 0 = all of them, in memory
	Version       string // for the summary
}

// Validation is what an offline validation found. Its JSON is pinned; keys may be added at any time.
type Validation struct {
	File          string           `json:"file"`
	SHA256        string           `json:"sha256"`  // hex; "" of standard input over the size limit
	Outcome       string           `json:"outcome"` // OutcomeValid, OutcomeInvalid or OutcomeRejected
	Code          string           `json:"code"`    // file-level; "" when the file as a whole is fine
	Detail        string           `json:"detail"`  // of Code
	Line          int              `json:"line"`    // physical line that Code is about; 0 = the file as a whole
	Lines         ledger.Lines     `json:"lines"`
	Rows          RowCounts        `json:"rows"`
	Amounts       map[string]int64 `json:"amounts"` // currency → minor units of the valid rows
	ProblemsTotal int              `json:"problems_total"`
	Problems      []FoundProblem   `json:"problems"` // in file order, MaxProblems at most
	ByCode        map[string]int   `json:"by_code"`  // problems by code, all of them
	Stem          string           `json:"stem"`     // of the reports; "" when none were written
	// First are the first few problems of each code, however many there are of the others.
	First map[string][]FoundProblem `json:"-"`
}

// FirstOfEach is how many problems of a code Validation.First has at most.
const FirstOfEach = 5

// RowCounts counts records; Total = Valid + Invalid.
type RowCounts struct {
	Total   int `json:"total"`
	Valid   int `json:"valid"`
	Invalid int `json:"invalid"`
}

// FoundProblem is one thing wrong with one row.
type FoundProblem struct {
	Line          int    `json:"line"`
	Row           int    `json:"row"`
	Column        string `json:"column"`
	Code          string `json:"code"`
	Detail        string `json:"detail"`
	BillReference string `json:"bill_reference"` // the cell as it was read
}

// Validate checks a bill file offline: no network, no ledger, and nothing is written but for reports, if c.Out asks
// for them. (Standard input is copied to a temporary file for the time being, for it has to be read twice.) What is
// wrong with the file is in the Validation; an error means that it could not be read or reported. Memory does not grow
// with the file, but for the problems listed.
func Validate(ctx context.Context, c Check) (Validation, error) {
	src, err := openSource(c)
	if err != nil {
		return Validation{}, err
	}
	defer src.close()
	v, _, err := validate(ctx, c, src)
	return v, err
}

// validate is Validate of an open file. The survey is nil where the file is refused unread.
func validate(ctx context.Context, c Check, src *source) (Validation, *billfile.Survey, error) {
	v := Validation{
		File: src.name, Outcome: OutcomeValid, Amounts: map[string]int64{}, Problems: []FoundProblem{}, ByCode: map[string]int{}, First: map[string][]FoundProblem{},
	}
	survey, refusal, err := src.survey(ctx, c, &v)
	if err != nil {
		return Validation{}, nil, err
	}
	if refusal != nil {
		v.forget()
		v.Outcome, v.Code, v.Detail, v.Line = OutcomeRejected, refusal.Code, refusal.Detail, refusal.Line
		if c.Out == "" {
			return v, nil, nil
		}
		err := writeValidation(c, &v, report.Tally{})
		return v, nil, err
	}
	v.Lines = ledger.Lines(survey.Lines)
	v.Rows = RowCounts{Total: survey.Rows, Valid: survey.Rows - survey.Invalid, Invalid: survey.Invalid}
	for currency, sum := range survey.Amounts {
		v.Amounts[currency] = sum
	}
	if survey.Invalid > 0 {
		v.Outcome = OutcomeInvalid
		if c.RejectInvalid {
			v.Outcome, v.Code = OutcomeRejected, "invalid_rows"
			v.Detail = fmt.Sprintf("%d of %d rows are invalid, and the feed sends all rows of a file or none: correct them", survey.Invalid, survey.Rows)
		}
	}
	if c.Out == "" {
		return v, survey, nil
	}
	v.forget()
	w := &validationWalk{check: c, src: src, survey: survey, v: &v}
	err = w.run(ctx)
	return v, survey, err
}

// forget takes back what was listed: a second reading will tell all of it, or the file is of no use as a whole.
func (v *Validation) forget() {
	v.ProblemsTotal, v.Problems = 0, v.Problems[:0]
	clear(v.ByCode)
	clear(v.First)
}

// list notes what is wrong with a record, most problems at most (0 = all of them).
func (v *Validation) list(rec *billfile.Record, most int) {
	for _, p := range rec.Problems {
		v.ProblemsTotal++
		v.ByCode[p.Code]++
		few := v.First[p.Code]
		listed := most == 0 || len(v.Problems) < most
		if !listed && len(few) == FirstOfEach {
			continue
		}
		// The reference is part of a longer text, which goes with the record.
		found := FoundProblem{Line: p.Line, Row: p.Row, Column: p.Column, Code: p.Code, Detail: p.Detail, BillReference: strings.Clone(rec.Bill.Reference)}
		if len(few) < FirstOfEach {
			v.First[p.Code] = append(few, found)
		}
		if listed {
			v.Problems = append(v.Problems, found)
		}
	}
}

// source is a bill file that can be opened again and again.
type source struct {
	name string
	path string
	sum  string // known from the start of standard input
	temp string // to be removed
	over bool   // standard input went over the size limit and was cut there
}

func openSource(c Check) (*source, error) {
	if c.In == nil {
		return &source{name: filepath.Base(c.Path), path: c.Path}, nil
	}
	f, err := os.CreateTemp("", "billdrop-stdin-*.csv") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("copy standard input: %w", err)
	}
	s := &source{name: "stdin", path: f.Name(), temp: f.Name()}
	in := c.In
	if limit := c.Format.MaxFileSize; limit > 0 {
		in = io.LimitReader(in, limit+1)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), in)
	if err = errors.Join(err, f.Close()); err != nil {
		s.close()
		return nil, fmt.Errorf("copy standard input: %w", err)
	}
	if s.over = c.Format.MaxFileSize > 0 && n > c.Format.MaxFileSize; !s.over {
		s.sum = hex.EncodeToString(sum.Sum(nil))
	}
	return s, nil
}

func (s *source) open() (io.ReadCloser, error) { return os.Open(s.path) }

func (s *source) close() {
	if s.temp != "" {
		os.Remove(s.temp)
	}
}

// survey reads the file through, lists the problems of its rows, and hashes the file at the same time. What
// is wrong with the file as a whole is the second result; it is what a run would say.
func (s *source) survey(ctx context.Context, c Check, v *Validation) (*billfile.Survey, *billfile.FileError, error) {
	var survey *billfile.Survey
	var refusal *billfile.FileError
	g, gctx := errgroup.WithContext(ctx)
	if s.temp == "" {
		g.Go(func() (err error) {
			s.sum, err = s.hash(gctx)
			return err
		})
	}
	g.Go(func() (err error) {
		survey, err = billfile.TakeSurvey(gctx, s.open, c.Format, func(rec *billfile.Record) error {
			if rec.Row == 1 { // perhaps not the first time: rows that had to be compared come again with all their problems
				v.forget()
			}
			v.list(rec, c.MaxProblems)
			return nil
		})
		if errors.As(err, &refusal) {
			return nil
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, nil, fmt.Errorf("validate %s: %w", s.name, err)
	}
	v.SHA256 = s.sum
	if s.temp == "" {
		file := &ledger.File{Name: s.name, Path: s.path, SHA256: s.sum}
		j := &job{file: file, place: &localPlace{file: file}}
		if wrong, err := j.checksumMismatch(ctx); wrong != nil || err != nil {
			return nil, wrong, err
		}
	}
	return survey, refusal, nil
}

func (s *source) hash(ctx context.Context) (string, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() }) // the other reader has failed, or somebody has had enough
	defer stop()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// validationWalk is the second reading: it lists the problems and writes the reports.
type validationWalk struct {
	check  Check
	src    *source
	survey *billfile.Survey
	v      *Validation
}

func (w *validationWalk) run(ctx context.Context) error {
	var out report.Output
	var results, rejects *os.File
	if w.check.Out != "" {
		var err error
		if results, rejects, err = w.drafts(); err != nil {
			return err
		}
		defer discard(results)
		defer discard(rejects)
		out = report.Output{Results: results, Layout: layoutOf(w.survey)}
		if w.v.Code == "" {
			out.Rejects = rejects
		}
	}
	var tally report.Tally
	err := w.read(func(recs *billfile.Decoder) (err error) {
		list := func(rec *billfile.Record) { w.v.list(rec, w.check.MaxProblems) }
		tally, err = report.Validate(out, &listener{recs: recs, ctx: ctx, hear: list})
		return err
	})
	if err != nil {
		return fmt.Errorf("validate %s: %w", w.src.name, err)
	}
	if tally.Records != w.survey.Rows || tally.Rows[ledger.Invalid] != w.survey.Invalid {
		return fmt.Errorf("validate %s: the file changed while it was read; try again when nobody writes to it", w.src.name)
	}
	if w.check.Out == "" {
		return nil
	}
	if w.v.Code != "" {
		if err := w.rejectAll(ctx, rejects); err != nil {
			return err
		}
	}
	stem, err := freeStem(w.check.Out, w.v)
	if err != nil {
		return err
	}
	names := report.NamesOf(stem)
	w.v.Stem = stem
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

// rejectAll fills the rejects of a file that is refused for its invalid rows: all of them, so that the fixed file is
// the whole job.
func (w *validationWalk) rejectAll(ctx context.Context, rejects io.Writer) error {
	err := w.read(func(recs *billfile.Decoder) error {
		return w.read(func(twin *billfile.Decoder) error {
			_, err := report.Compose(report.Output{Rejects: rejects, Layout: layoutOf(w.survey)}, &listener{recs: recs, ctx: ctx}, unsent(twin))
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("validate %s: %w", w.src.name, err)
	}
	return nil
}

// unsent gives each record the outcome that it has in a file that is refused for its invalid rows.
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

// read opens the file for another reading.
func (w *validationWalk) read(use func(*billfile.Decoder) error) error {
	return w.src.read(w.survey, use)
}

// read opens a surveyed file for another reading.
func (s *source) read(survey *billfile.Survey, use func(*billfile.Decoder) error) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	defer f.Close()
	recs, err := survey.Decode(f)
	if err != nil {
		return err
	}
	return use(recs)
}

// drafts are temporary files in the directory of the reports.
func (w *validationWalk) drafts() (results, rejects *os.File, err error) {
	if err := os.MkdirAll(w.check.Out, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the directory of the reports: %w", err)
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
	if err := PublishLocal(dir, name, draft); err != nil {
		return fmt.Errorf("publish report %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// writeValidation publishes the summary of a validation.
func writeValidation(c Check, v *Validation, t report.Tally) error {
	if v.Stem == "" {
		stem, err := freeStem(c.Out, v)
		if err != nil {
			return err
		}
		v.Stem = stem
	}
	s := report.Summarize(&ledger.File{
		Name: v.File, SHA256: v.SHA256, Stem: v.Stem, Code: v.Code, Detail: v.Detail, Line: v.Line, Lines: v.Lines, Version: c.Version,
		Outcome: map[string]string{
			OutcomeValid: ledger.Completed, OutcomeInvalid: ledger.CompletedWithErrors, OutcomeRejected: ledger.FileRejected,
		}[v.Outcome],
	}, t.Totals())
	if err := PublishLocal(c.Out, report.NamesOf(v.Stem).Summary, bytes.NewReader(s.Bytes())); err != nil {
		return fmt.Errorf("publish the summary: %w", err)
	}
	return nil
}

// freeStem finds a stem whose reports may be written: never over those of a file that was sent, but over those of
// an earlier validation.
func freeStem(dir string, v *Validation) (string, error) {
	for n := 1; ; n++ {
		stem := report.Stem(v.File, v.SHA256, n)
		names := report.NamesOf(stem)
		_, err := os.Lstat(filepath.Join(dir, names.Ack))
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for earlier reports: %w", err)
		}
		earlier, err := os.ReadFile(filepath.Join(dir, names.Summary))
		if errors.Is(err, fs.ErrNotExist) {
			return stem, nil
		}
		if err != nil {
			return "", fmt.Errorf("look for earlier reports: %w", err)
		}
		if s, err := report.Parse(earlier); err == nil && s.FileID == "" {
			return stem, nil
		}
	}
}

// listener passes records on and tells about each. It ends the walk when ctx is done.
type listener struct {
	recs *billfile.Decoder
	ctx  context.Context
	hear func(*billfile.Record)
}

func (l *listener) Next() (*billfile.Record, error) {
	if l.ctx.Err() != nil {
		return nil, context.Cause(l.ctx)
	}
	rec, err := l.recs.Next()
	if err == nil && l.hear != nil {
		l.hear(rec)
	}
	return rec, err
}
