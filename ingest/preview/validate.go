// Package preview previews a run: what is wrong with a bill file, offline (Validate), and
// what a run would do with its rows, by asking the ledger and the API (Plan). Neither sends
// a bill nor records anything.
package preview

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"

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
	Path          string    // of the bill file, whose base name is reported; ignored with In
	In            io.Reader // nil = the file at Path; else standard input, named "stdin"
	Format        billfile.Format
	RejectInvalid bool   // on_invalid: reject
	Out           string // directory for the reports, created where missing; "" = none are written
	MaxProblems   int    // problems listed at most; 0 = all of them, in memory
	Version       string // for the summary
}

// Validation is what an offline validation found. Its JSON is pinned; keys may be added at
// any time.
type Validation struct {
	File          string           `json:"file"`
	SHA256        string           `json:"sha256"`  // hex; "" of a file over the size limit
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
	// Warnings are what is not wrong with the file, but worth a look: one of each kind.
	Warnings []billfile.Warning `json:"warnings"`
	Stem     string             `json:"stem"` // of the reports; "" when none were written
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

// Validate checks a bill file offline: it uses neither network nor ledger, and writes only
// the reports that c.Out asks for. (Standard input has to be read twice, so it is copied to
// a temporary file meanwhile.) What is wrong with the file is in the Validation. An error
// means that the file could not be read or its reports not written. Memory grows with the
// problems listed, not with the file.
func Validate(ctx context.Context, c Check) (Validation, error) {
	src, err := openSource(c)
	if err != nil {
		return Validation{}, err
	}
	defer src.close()
	v, _, err := validate(ctx, c, src)
	return v, err
}

// validate is Validate of an open file. The survey is nil if the file is refused unread.
func validate(ctx context.Context, c Check, src *source) (Validation, *billfile.Survey, error) {
	v := Validation{
		File: src.name, Outcome: OutcomeValid, Amounts: map[string]int64{}, Problems: []FoundProblem{}, ByCode: map[string]int{}, First: map[string][]FoundProblem{}, Warnings: []billfile.Warning{},
	}
	survey, refusal, err := src.survey(ctx, c, &v)
	if err != nil {
		return Validation{}, nil, err
	}
	if refusal != nil {
		v.reset()
		v.Outcome, v.Code, v.Detail, v.Line = OutcomeRejected, refusal.Code, refusal.Detail, refusal.Line
		if c.Out == "" {
			return v, nil, nil
		}
		err := v.chooseStem(c.Out)
		if err == nil {
			err = writeValidation(c, &v, report.Tally{})
		}
		return v, nil, err
	}
	v.Lines = ledger.Lines(survey.Lines)
	v.Warnings = append(v.Warnings, survey.Warnings...)
	v.Rows = RowCounts{Total: survey.Rows, Valid: survey.Rows - survey.Invalid, Invalid: survey.Invalid}
	maps.Copy(v.Amounts, survey.Amounts)
	if survey.Invalid > 0 {
		v.Outcome = OutcomeInvalid
		if c.RejectInvalid {
			v.Outcome, v.Code = OutcomeRejected, ledger.CodeInvalidRows
			v.Detail = fmt.Sprintf("%d of %d rows are invalid, and the feed sends all rows of a file or none: correct them", survey.Invalid, survey.Rows)
		}
	}
	if c.Out == "" {
		return v, survey, nil
	}
	v.reset()
	second := &secondReading{check: c, src: src, survey: survey, v: &v}
	err = second.run(ctx)
	return v, survey, err
}

// reset removes what was listed, because a second reading lists all of it, or because the
// file is refused as a whole.
func (v *Validation) reset() {
	v.ProblemsTotal, v.Problems = 0, v.Problems[:0]
	clear(v.ByCode)
	clear(v.First)
}

// list adds the problems of a record, up to most problems in all (0 = no limit).
func (v *Validation) list(rec *billfile.Record, most int) {
	for _, p := range rec.Problems {
		v.ProblemsTotal++
		v.ByCode[p.Code]++
		few := v.First[p.Code]
		listed := most == 0 || len(v.Problems) < most
		if !listed && len(few) == FirstOfEach {
			continue
		}
		// The reference is part of a longer text that is used for the next record.
		found := FoundProblem{Line: p.Line, Row: p.Row, Column: p.Column, Code: p.Code, Detail: p.Detail, BillReference: strings.Clone(rec.Bill.Reference)}
		if len(few) < FirstOfEach {
			v.First[p.Code] = append(few, found)
		}
		if listed {
			v.Problems = append(v.Problems, found)
		}
	}
}
