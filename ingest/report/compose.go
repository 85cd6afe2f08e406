package report

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// Valid is the status of a row without problems in an offline validation. It is not a status of
// the ledger: nothing was sent, and nothing is known of the bill.
const Valid ledger.Status = "valid"

// ErrUnbalanced: records, outcomes, counts or sums do not agree, so the report would be untrue
// and must not be published. The text names the difference.
var ErrUnbalanced = errors.New("report does not balance")

// Records returns the records of a bill file in file order, and io.EOF after the last one.
// *billfile.Decoder implements it. A record is valid until the next call.
type Records interface {
	Next() (*billfile.Record, error)
}

// Output is where a walk writes to. A nil writer gets nothing.
type Output struct {
	Results io.Writer
	// Rejects gets the rows that need attention. It gets no byte if there are none; then no
	// rejects file is published (see Tally.Attention).
	Rejects io.Writer
	// Links: Results end in the columns of payment requests.
	Links bool
	// Layout of the bill file, which the rejects file shares. Required with Rejects.
	Layout billfile.Layout
}

// Tally holds the counts and sums of a walk.
type Tally struct {
	Records   int // records, each with its outcome
	Lines     int // physical lines of these records
	Attention int // rows that need attention: the rows of the rejects file
	Attempts  int // sends, over all rows
	Resends   int // sends after a row's first
	Rows      map[ledger.Status]int
	Amounts   map[string]map[ledger.Status]int64 // currency → status → minor units; rows without a currency under ""
}

// Compose walks the records of a bill file and their outcomes side by side, once, and writes
// results and rejects. Both come in row order. Each record must have exactly one outcome, of
// the same row and line, and one that such a record can have. Anything else is ErrUnbalanced,
// and the bytes written so far are of no use. Memory does not grow with the file.
func Compose(out Output, recs Records, outcomes iter.Seq2[ledger.Outcome, error]) (Tally, error) {
	w, err := newWalk(out)
	if err != nil {
		return Tally{}, err
	}
	for o, err := range outcomes {
		if err != nil {
			return Tally{}, fmt.Errorf("read outcomes: %w", err)
		}
		rec, err := recs.Next()
		if err == io.EOF {
			return Tally{}, fmt.Errorf("%w: the outcome of row %d (line %d) has no record", ErrUnbalanced, o.Row, o.Line)
		}
		if err != nil {
			return Tally{}, fmt.Errorf("read bill file: %w", err)
		}
		if err := match(rec, &o); err != nil {
			return Tally{}, err
		}
		if err := w.row(rec, &o); err != nil {
			return Tally{}, err
		}
	}
	rec, err := recs.Next()
	if err == nil {
		return Tally{}, fmt.Errorf("%w: row %d (line %d) has no outcome", ErrUnbalanced, rec.Row, rec.Line)
	}
	if err != io.EOF {
		return Tally{}, fmt.Errorf("read bill file: %w", err)
	}
	return w.close()
}

// ComposeOutcomes writes results from outcomes alone, for a file whose records cannot be read
// any more. The tally counts no lines.
func ComposeOutcomes(out Output, outcomes iter.Seq2[ledger.Outcome, error]) (Tally, error) {
	w, err := newWalk(Output{Results: out.Results, Links: out.Links})
	if err != nil {
		return Tally{}, err
	}
	for o, err := range outcomes {
		if err != nil {
			return Tally{}, fmt.Errorf("read outcomes: %w", err)
		}
		if err := w.row(&billfile.Record{}, &o); err != nil {
			return Tally{}, err
		}
	}
	return w.close()
}

// Validate writes the reports of an offline validation: every row is Valid or invalid. Memory
// does not grow with the file.
func Validate(out Output, recs Records) (Tally, error) {
	w, err := newWalk(out)
	if err != nil {
		return Tally{}, err
	}
	w.tally.Rows[Valid] = 0 // the summary names valid rows even if there are none
	return w.alone(recs, math.MaxInt, true)
}

// Excerpt writes the first invalid rows of a file, most of them, and reads no further.
func Excerpt(out Output, recs Records, most int) (Tally, error) {
	w, err := newWalk(out)
	if err != nil {
		return Tally{}, err
	}
	return w.alone(recs, most, false)
}

// alone writes at most so many records, each with the outcome that it has by itself; valid
// ones only if they are wanted.
func (w *walk) alone(recs Records, most int, valid bool) (Tally, error) {
	for w.tally.Records < most {
		rec, err := recs.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Tally{}, fmt.Errorf("read bill file: %w", err)
		}
		if len(rec.Problems) == 0 && !valid {
			continue
		}
		o := OfRecord(rec)
		if err := w.row(rec, &o); err != nil {
			return Tally{}, err
		}
	}
	return w.close()
}

// OfRecord returns the outcome that a record has by itself: Valid, or invalid with the code of
// the first problem and the details of all.
func OfRecord(rec *billfile.Record) ledger.Outcome {
	o := ledger.Outcome{
		Row:       rec.Row,
		Line:      rec.Line,
		Reference: rec.Bill.Reference,
		Status:    Valid,
		Currency:  rec.Bill.Currency,
		Amount:    rec.Bill.Amount,
	}
	if len(rec.Problems) > 0 {
		o.Status, o.Code, o.Detail = ledger.Invalid, rec.Problems[0].Code, details(rec.Problems)
	}
	return o
}

// details returns the details of all problems of a record. Each part names its column. From the
// second on it also names its code, which is nowhere else in the report.
func details(problems []billfile.Problem) string {
	if len(problems) == 1 {
		return detail(problems[0])
	}
	var text strings.Builder
	for i, p := range problems {
		if i > 0 {
			text.WriteString("; " + p.Code + ": ")
		}
		text.WriteString(detail(p))
	}
	return text.String()
}

func detail(p billfile.Problem) string {
	if p.Column == "" || strings.Contains(p.Detail, p.Column) {
		return p.Detail
	}
	return p.Column + ": " + p.Detail
}

// walk writes rows and counts them.
type walk struct {
	results *results
	rejects *rejects
	tally   Tally
}

func newWalk(out Output) (*walk, error) {
	w := &walk{tally: Tally{Rows: map[ledger.Status]int{}, Amounts: map[string]map[ledger.Status]int64{}}}
	if out.Results != nil {
		w.results = newResults(out.Results, out.Links)
	}
	if out.Rejects != nil {
		var err error
		if w.rejects, err = newRejects(out.Rejects, out.Layout); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *walk) row(rec *billfile.Record, o *ledger.Outcome) error {
	w.tally.count(rec, o)
	if w.results != nil {
		if err := w.results.row(o); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	if w.rejects != nil && needsAttention(o.Status) {
		if err := w.rejects.row(rec, o); err != nil {
			return fmt.Errorf("write rejects: %w", err)
		}
	}
	return nil
}

func (w *walk) close() (Tally, error) {
	if w.results != nil {
		if err := w.results.Close(); err != nil {
			return Tally{}, fmt.Errorf("write results: %w", err)
		}
	}
	if w.rejects != nil {
		if err := w.rejects.close(); err != nil {
			return Tally{}, fmt.Errorf("write rejects: %w", err)
		}
	}
	return w.tally, nil
}

func (t *Tally) count(rec *billfile.Record, o *ledger.Outcome) {
	t.Records++
	t.Lines += rec.Span
	t.Attempts += o.Attempts
	t.Resends += max(0, o.Attempts-1)
	t.Rows[o.Status]++
	if needsAttention(o.Status) {
		t.Attention++
	}
	sums := t.Amounts[o.Currency]
	if sums == nil {
		sums = map[ledger.Status]int64{}
		t.Amounts[o.Currency] = sums
	}
	sums[o.Status] += o.Amount
}

// Totals returns the tally in the form of the ledger's totals, for the summary of an offline
// validation, which has no ledger.
func (t Tally) Totals() ledger.Totals {
	return ledger.Totals{Rows: t.Rows, Amounts: t.Amounts, Attempts: t.Attempts, Resends: t.Resends}
}

func needsAttention(s ledger.Status) bool { return s != Valid && s.NeedsAttention() }
