package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// PlanOptions is what to plan, and with what.
type PlanOptions struct {
	Path        string        // of the bill file; ignored with In
	In          io.Reader     // nil = the file at Path; else standard input, named "stdin"
	Feed        *Feed         // whose format, limits and lane apply; it need not be connected
	Ledger      ledger.Ledger // only read; nil = there is none yet
	MaxProblems int           // problems, and again conflicts, listed at most; 0 = all of them, in memory
	Progress    Progress      // may be nil; the file is told by the name under which it is reported
}

// Planned is what a run would do with a file, as far as can be told without doing it. Its JSON is pinned; keys may
// be added at any time.
type Planned struct {
	Validation                // what an offline validation finds; its Rows are hidden by the next field
	Rows       PlannedRows    `json:"rows"`
	New        report.Parties `json:"new"` // that the rows to create would bring with them, each once
	// Conflicts are in file order, MaxProblems at most; Rows.Conflict counts all of them.
	Conflicts []FoundConflict `json:"conflicts"`
	// Totals are sums by currency and by what would become of the rows, in minor units.
	Totals     map[string]map[string]int64 `json:"totals"`
	OverLimits []string                    `json:"over_limits"` // why a run would hold the file; empty: it would not
	Gets       int                         `json:"gets"`        // look-ups that the plan took
	// ForeignAnswers: the API's answers to look-ups of what it does not have are not in the form that it documents: it
	// may be another server.
	ForeignAnswers bool `json:"foreign_answers"`
}

// PlannedRows counts records by what would become of them; Total is the sum of the others.
type PlannedRows struct {
	Total    int `json:"total"`
	Create   int `json:"create"`
	Existing int `json:"existing"`
	Conflict int `json:"conflict"`
	Invalid  int `json:"invalid"`
	Rejected int `json:"rejected"` // an account or customer that nobody knows and that would not be created either
	Unknown  int `json:"unknown"`  // the API gave no answer for them
	NotSent  int `json:"not_sent"` // valid, but in a file that is refused for its invalid rows
}

// FoundConflict is a row whose bill exists with other content.
type FoundConflict struct {
	Line          int    `json:"line"`
	BillReference string `json:"bill_reference"`
	// Fields are theirs, then yours: amounts in minor units, null for none, "unknown" for a party of yours that the
	// API does not know.
	Fields map[string][2]any `json:"fields"`
	// Detail says the same to a person.
	Detail string `json:"detail"`
}

// Attention reports whether a run would leave something that somebody has to look at.
func (p *Planned) Attention() bool {
	return p.Outcome != OutcomeValid || p.Rows.Conflict+p.Rows.Rejected+p.Rows.Unknown > 0 || len(p.OverLimits) > 0
}

// Plan tells what a run would do with a bill file now: nothing is sent but GETs, nothing is recorded. It asks the ledger
// first, and the API for the bills, customers and accounts that the ledger does not know, each at most once but for
// repetitions after failures. These pass the lane's gate, as a run's would.
//
// Errors are those of Validate, of the ledger, and of a run that had to stop (ErrStopped, ErrSetup). Memory grows with the
// number of customers and accounts that the API has to be asked for.
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
	planned.OverLimits = append(planned.OverLimits, o.Feed.Hold.exceeded(survey)...)
	p := newPlanner(&o, &planned)
	defer p.close()
	err = src.read(survey, func(recs *billfile.Decoder) error { return p.run(ctx, recs) })
	if err != nil {
		return Planned{}, fmt.Errorf("plan %s: %w", v.File, err)
	}
	planned.Gets, planned.ForeignAnswers = int(p.gets.Load()), p.foreign.Load()
	slices.SortStableFunc(planned.Problems, func(a, b FoundProblem) int { return a.Row - b.Row })
	return planned, nil
}

// run plans the valid records chunk by chunk, so that what is asked for waits for nothing but its own chunk, and what
// is found is told in file order.
func (p *planner) run(ctx context.Context, recs *billfile.Decoder) error {
	if p.Progress != nil {
		p.Progress.FileStarted(Started{ID: p.planned.File, Name: p.planned.File, Rows: p.planned.Validation.Rows.Valid})
		defer p.Progress.FileFinished(p.planned.File, report.Summary{})
	}
	for done := false; !done; {
		chunk, err := p.read(ctx, recs)
		if done = errors.Is(err, io.EOF); err != nil && !done {
			return err
		}
		if err := p.prepare(ctx, chunk); err != nil {
			return err
		}
		rows, rctx := errgroup.WithContext(ctx)
		for _, r := range chunk {
			rows.Go(func() error {
				err := p.judge(rctx, r)
				if p.Progress != nil {
					p.Progress.RowDone(p.planned.File, "")
				}
				return err
			})
		}
		if err := rows.Wait(); err != nil {
			if stopped := p.gate.err(); stopped != nil {
				return stopped // says it best
			}
			return err
		}
		for _, r := range chunk {
			p.tell(r)
		}
	}
	return nil
}

// read reads the next chunk of valid rows; io.EOF comes with the last.
func (p *planner) read(ctx context.Context, recs records) ([]*plannedRow, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var chunk []*plannedRow
	for range chunkRows {
		rec, err := recs.Next()
		if err != nil {
			return chunk, err
		}
		if len(rec.Problems) == 0 {
			chunk = append(chunk, &plannedRow{row: rec.Row, line: rec.Line, bill: rec.Bill})
		}
	}
	return chunk, nil
}

// tell enters what was found for a row into the plan. It is called in file order, by one goroutine.
func (p *planner) tell(r *plannedRow) {
	n := &p.planned.Rows
	word := ""
	switch r.fate {
	case fateCreate:
		n.Create++
		word = "create"
		for _, e := range r.brings {
			p.count(e)
		}
	case fateExisting:
		n.Existing++
		word = string(ledger.Existing)
	case fateConflict:
		n.Conflict++
		word = string(ledger.Conflict)
		p.conflict(r)
	case fateRejected:
		n.Rejected++
		word = string(ledger.Rejected)
		p.problem(r, r.lacks.wrong())
	default:
		n.Unknown++
		word = string(ledger.Unknown)
		p.problem(r, FoundProblem{Code: "no_answer", Detail: "the API gave no answer for this row: plan again when it is well"})
	}
	sums := p.planned.Totals[r.bill.Currency]
	if sums == nil {
		sums = map[string]int64{}
		p.planned.Totals[r.bill.Currency] = sums
	}
	sums[word] += r.bill.Amount
}

// count counts a party that would be created, once.
func (p *planner) count(e *plannedParty) {
	switch {
	case e.counted:
	case e.Kind == ledger.Account:
		p.planned.New.Accounts++
	default:
		p.planned.New.Customers++
	}
	e.counted = true
}

// wrong says what is wrong with a row for lack of this party.
func (n partyName) wrong() FoundProblem {
	switch {
	case !n.byID:
		return FoundProblem{Column: "account_reference", Code: codeUnknownAccount, Detail: unknownAccount}
	case n.Kind == ledger.Account:
		return FoundProblem{Column: "account_id", Code: codeUnknownAccount, Detail: "the API has no account of this id, or not of this merchant; correct it"}
	default:
		return FoundProblem{Column: "customer_id", Code: "unknown_customer", Detail: "the API has no customer of this id, or not of this merchant; correct it"}
	}
}

// problem enters what is wrong with a row.
func (p *planner) problem(r *plannedRow, f FoundProblem) {
	f.Line, f.Row, f.BillReference = r.line, r.row, r.bill.Reference
	v := &p.planned.Validation
	v.ProblemsTotal++
	v.ByCode[f.Code]++
	if p.MaxProblems == 0 || len(v.Problems) < p.MaxProblems {
		v.Problems = append(v.Problems, f)
	}
}

func (p *planner) conflict(r *plannedRow) {
	if p.MaxProblems > 0 && len(p.planned.Conflicts) >= p.MaxProblems {
		return
	}
	f := FoundConflict{Line: r.line, BillReference: r.bill.Reference, Fields: map[string][2]any{}, Detail: describe(r.diffs)}
	for _, d := range r.diffs {
		f.Fields[d.field] = d.values(&r.bill, &r.seen)
	}
	p.planned.Conflicts = append(p.planned.Conflicts, f)
}

// values are theirs and yours as JSON tells them.
func (d difference) values(b *billfile.Bill, s *ledger.Seen) [2]any {
	if d.field == fieldAmount {
		return [2]any{s.Amount, b.Amount}
	}
	pair := [2]any{d.theirs, d.yours}
	if d.theirs == "" {
		pair[0] = nil
	}
	switch d.yours {
	case "":
		pair[1] = "unknown"
	case noParty:
		pair[1] = nil
	}
	return pair
}
