package preview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// PlanOptions is what to plan, and with what.
type PlanOptions struct {
	Path        string          // of the bill file; ignored with In
	In          io.Reader       // nil = the file at Path; else standard input, named "stdin"
	Feed        *ingest.Feed    // whose format, limits and lane apply; it need not be connected
	Ledger      ledger.Ledger   // only read; nil = there is none yet
	MaxProblems int             // problems, and again conflicts, listed at most; 0 = all of them, in memory
	Progress    ingest.Progress // may be nil; ids of files are their names
}

// Planned is what a run would do with a file, so far as that can be known beforehand. Its
// JSON is pinned; keys may be added at any time.
type Planned struct {
	Validation                // what an offline validation finds; the next field hides its Rows
	Rows       PlannedRows    `json:"rows"`
	New        report.Parties `json:"new"` // that the rows to create would bring with them, each once
	// Conflicts are in file order, MaxProblems at most; Rows.Conflict counts all of them.
	Conflicts []FoundConflict `json:"conflicts"`
	// Totals are sums by currency and by what would become of the rows, in minor units.
	Totals     map[string]map[string]int64 `json:"totals"`
	OverLimits []string                    `json:"over_limits"` // why a run would hold the file; empty: it would not
	Gets       int                         `json:"gets"`        // look-ups that the plan took
	// ForeignAnswers: the API denied look-ups in another form than it documents, so it may
	// be another server.
	ForeignAnswers bool `json:"foreign_answers"`
}

// PlannedRows counts records by what would become of them; Total is the sum of the others.
type PlannedRows struct {
	Total    int `json:"total"`
	Create   int `json:"create"`
	Existing int `json:"existing"`
	Conflict int `json:"conflict"`
	Invalid  int `json:"invalid"`
	Rejected int `json:"rejected"` // an account or customer that does not exist and would not be created
	Unknown  int `json:"unknown"`  // the API gave no answer for them
	NotSent  int `json:"not_sent"` // valid, but the file is refused because of its invalid rows
}

// FoundConflict is a row whose bill exists with other content.
type FoundConflict struct {
	Line          int    `json:"line"`
	BillReference string `json:"bill_reference"`
	// Fields are the bill's value, then the row's: amounts in minor units, null for none,
	// "unknown" for a party of the row that the API does not have.
	Fields map[string][2]any `json:"fields"`
	// Detail is the same as a text.
	Detail string `json:"detail"`
}

// Attention reports whether a run would leave something that needs attention.
func (p *Planned) Attention() bool {
	return p.Outcome != OutcomeValid || p.Rows.Invalid+p.Rows.Conflict+p.Rows.Rejected+p.Rows.Unknown > 0 || len(p.OverLimits) > 0
}

// Plan returns what a run would do with a bill file now. It sends only GETs, and records
// nothing. It asks the ledger first, then the API for the bills, customers and accounts
// that are not in the ledger. It asks once for each, except after failures. Its requests
// pass the lane's gate, as a run's do.
//
// Errors are those of Validate, of the ledger, and of a run that has to stop
// (*delivery.Stop). Memory grows with the number of customers and accounts that the API is
// asked for.
func Plan(ctx context.Context, o PlanOptions) (Planned, error) {
	c := Check{Path: o.Path, In: o.In, Format: o.Feed.Format, RejectInvalid: o.Feed.RejectInvalid, MaxProblems: o.MaxProblems}
	src, err := openSource(c)
	if err != nil {
		return Planned{}, err
	}
	defer src.close()
	v, survey, err := validate(ctx, c, src)
	if err != nil {
		return Planned{}, err
	}
	planned := Planned{Validation: v, Conflicts: []FoundConflict{}, Totals: map[string]map[string]int64{}, OverLimits: []string{}}
	planned.Rows.Total, planned.Rows.Invalid = v.Rows.Total, v.Rows.Invalid
	if v.Code != "" { // a run would send nothing of it
		planned.Rows.NotSent = v.Rows.Valid
		return planned, nil
	}
	planned.OverLimits = append(planned.OverLimits, o.Feed.Hold.Exceeded(survey)...)
	p := &planner{PlanOptions: &o, planned: &planned, forecast: o.Feed.Lane.Forecast(o.Ledger)}
	defer p.forecast.Close()
	if err := src.read(survey, func(recs *billfile.Decoder) error { return p.run(ctx, recs) }); err != nil {
		return Planned{}, fmt.Errorf("plan %s: %w", v.File, err)
	}
	planned.Warnings = append(planned.Warnings, p.newParties.warning()...)
	planned.Gets, planned.ForeignAnswers = p.forecast.Gets(), p.forecast.Foreign()
	slices.SortStableFunc(planned.Problems, func(a, b FoundProblem) int { return a.Row - b.Row })
	return planned, nil
}

// planner adds to planned what a run would make of the rows of one file.
type planner struct {
	*PlanOptions
	planned    *Planned
	forecast   *delivery.Forecast
	newParties newParties
}

// plannedRow is one valid row.
type plannedRow struct {
	row, line int
	bill      billfile.Bill
}

// planChunk is how many rows are planned at a time.
const planChunk = 256

// run plans the valid records chunk by chunk, so that findings are in file order.
func (p *planner) run(ctx context.Context, recs *billfile.Decoder) error {
	var rowDone func()
	if p.Progress != nil {
		p.Progress.FileStarted(ingest.Started{ID: p.planned.File, Name: p.planned.File, Rows: p.planned.Validation.Rows.Valid})
		defer p.Progress.FileFinished(p.planned.File, report.Summary{})
		rowDone = func() { p.Progress.RowDone(p.planned.File, "") }
	}
	for done := false; !done; {
		chunk, err := p.read(ctx, recs)
		if done = errors.Is(err, io.EOF); err != nil && !done {
			return err
		}
		bills := make([]*billfile.Bill, len(chunk))
		for i := range chunk {
			bills[i] = &chunk[i].bill
		}
		prospects, err := p.forecast.Rows(ctx, bills, rowDone)
		if err != nil {
			return err
		}
		for i := range chunk {
			p.add(&chunk[i], prospects[i])
		}
		if p.Ledger != nil {
			if err := p.newParties.add(ctx, p.Ledger, p.Feed.Lane.Scope(), chunk, prospects); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads the next chunk of valid rows; io.EOF comes with the last.
func (p *planner) read(ctx context.Context, recs *billfile.Decoder) ([]plannedRow, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var chunk []plannedRow
	for range planChunk {
		rec, err := recs.Next()
		if err != nil {
			return chunk, err
		}
		if len(rec.Problems) == 0 {
			chunk = append(chunk, plannedRow{row: rec.Row, line: rec.Line, bill: rec.Bill})
		}
	}
	return chunk, nil
}

// add adds one row to the plan. One goroutine calls it, in file order.
func (p *planner) add(r *plannedRow, would delivery.Prospect) {
	n := &p.planned.Rows
	word := string(would.Status)
	switch would.Status {
	case ledger.Created:
		n.Create++
		word = "create"
		p.planned.New.Customers += would.Customers
		p.planned.New.Accounts += would.Accounts
	case ledger.Existing:
		n.Existing++
	case ledger.Conflict:
		n.Conflict++
		if p.MaxProblems == 0 || len(p.planned.Conflicts) < p.MaxProblems {
			p.planned.Conflicts = append(p.planned.Conflicts, FoundConflict{
				Line: r.line, BillReference: r.bill.Reference, Fields: would.Fields, Detail: would.Detail,
			})
		}
	case ledger.Invalid: // valid by itself, but not by what is known of its account
		n.Invalid++
		p.problem(r, FoundProblem{Column: would.Column, Code: would.Code, Detail: would.Detail})
	case ledger.Rejected:
		n.Rejected++
		p.problem(r, FoundProblem{Column: would.Column, Code: would.Code, Detail: would.Detail})
	default:
		n.Unknown++
		p.problem(r, FoundProblem{Code: ledger.CodeNoAnswer, Detail: "the API gave no answer for this row: plan again when it is up"})
	}
	sums := p.planned.Totals[r.bill.Currency]
	if sums == nil {
		sums = map[string]int64{}
		p.planned.Totals[r.bill.Currency] = sums
	}
	sums[word] += r.bill.Amount
}

// problem adds what is wrong with a row.
func (p *planner) problem(r *plannedRow, f FoundProblem) {
	f.Line, f.Row, f.BillReference = r.line, r.row, r.bill.Reference
	v := &p.planned.Validation
	v.ProblemsTotal++
	v.ByCode[f.Code]++
	if p.MaxProblems == 0 || len(v.Problems) < p.MaxProblems {
		v.Problems = append(v.Problems, f)
	}
}
