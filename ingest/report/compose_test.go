package report_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// recordList returns the records of a slice.
type recordList struct {
	recs []billfile.Record
	err  error // instead of io.EOF
}

func (l *recordList) Next() (*billfile.Record, error) {
	if len(l.recs) == 0 {
		if l.err != nil {
			return nil, l.err
		}
		return nil, io.EOF
	}
	rec := l.recs[0]
	l.recs = l.recs[1:]
	return &rec, nil
}

func seq(outcomes []ledger.Outcome) iter.Seq2[ledger.Outcome, error] {
	return func(yield func(ledger.Outcome, error) bool) {
		for _, o := range outcomes {
			if !yield(o, nil) {
				return
			}
		}
	}
}

var commas = layoutOf("bill_reference,amount_due\n", ',', "")

func TestComposeGolden(t *testing.T) {
	recs := []billfile.Record{
		{Row: 1, Line: 2, Span: 1, Raw: []byte("A-1,1000\n"), Bill: billfile.Bill{Reference: "A-1", Currency: "ZAR", Amount: 1000}},
		{Row: 2, Line: 3, Span: 1, Raw: []byte("=A2,12.50\n"), Bill: billfile.Bill{Reference: "=A2", Currency: "ZAR"}, Problems: []billfile.Problem{
			{Column: "bill_reference", Code: "invalid_reference", Detail: `bill_reference "=A2": only letters, digits, - and _`},
			{Column: "amount_due", Code: "amount_not_minor", Detail: `amount_due "12.50": write cents, 1250`},
		}},
		{Row: 3, Line: 5, Span: 1, Raw: []byte("A-3,300\n"), Bill: billfile.Bill{Reference: "A-3", Currency: "ZAR", Amount: 300}},
		{Row: 4, Line: 6, Span: 1, Raw: []byte("A-4,400\n"), Bill: billfile.Bill{Reference: "A-4", Currency: "USD", Amount: 400}},
	}
	outcomes := []ledger.Outcome{
		{Row: 1, Line: 2, Reference: "A-1", Status: ledger.Created, BillID: "bill_1", CustomerID: "bcus_1", AccountID: "bacc_1", Currency: "ZAR", Amount: 1000, Attempts: 2, Key: "k-1"},
		report.OfRecord(&recs[1]),
		{Row: 3, Line: 5, Reference: "A-3", Status: ledger.Conflict, Detail: "amount_due: theirs 200, yours 300", BillID: "bill_9", CustomerID: "bcus_1", Currency: "ZAR", Amount: 300},
		{Row: 4, Line: 6, Reference: "A-4", Status: ledger.Rejected, Code: "http_422", Detail: "Unprocessable: \"no\"\nnever", Currency: "USD", Amount: 400, Attempts: 1, Key: "k-4"},
	}
	var results, rejects bytes.Buffer
	tally, err := report.Compose(report.Output{Results: &results, Rejects: &rejects, Layout: commas}, &recordList{recs: recs}, seq(outcomes))
	if err != nil {
		t.Fatal(err)
	}
	wantResults := `line,bill_reference,status,code,detail,bill_id,customer_id,account_id,currency,amount_due,attempts,idempotency_key
2,A-1,created,,,bill_1,bcus_1,bacc_1,ZAR,1000,2,k-1
3,'=A2,invalid,invalid_reference,"bill_reference ""=A2"": only letters, digits, - and _; amount_not_minor: amount_due ""12.50"": write cents, 1250",,,,ZAR,,0,
5,A-3,conflict,,"amount_due: theirs 200, yours 300",bill_9,bcus_1,,ZAR,300,0,
6,A-4,rejected,http_422,"Unprocessable: ""no""` + "\uFFFD" + `never",,,,USD,400,1,k-4
`
	wantRejects := `bill_reference,amount_due,error_code,error_detail
=A2,12.50,invalid_reference,"bill_reference ""=A2"": only letters, digits, - and _; amount_not_minor: amount_due ""12.50"": write cents, 1250"
A-3,300,conflict,"amount_due: theirs 200, yours 300"
A-4,400,http_422,"Unprocessable: ""no""` + "\uFFFD" + `never"
`
	if diff := cmp.Diff(wantResults, results.String()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantRejects, rejects.String()); diff != "" {
		t.Errorf("rejects (-want +got):\n%s", diff)
	}
	want := report.Tally{
		Records: 4, Lines: 4, Attention: 3, Attempts: 3, Resends: 1,
		Rows: map[ledger.Status]int{ledger.Created: 1, ledger.Invalid: 1, ledger.Conflict: 1, ledger.Rejected: 1},
		Amounts: map[string]map[ledger.Status]int64{
			"ZAR": {ledger.Created: 1000, ledger.Invalid: 0, ledger.Conflict: 300},
			"USD": {ledger.Rejected: 400},
		},
	}
	if diff := cmp.Diff(want, tally); diff != "" {
		t.Errorf("tally (-want +got):\n%s", diff)
	}
}

func TestNoRejectsWithoutNeed(t *testing.T) {
	var results, rejects bytes.Buffer
	recs := []billfile.Record{{Row: 1, Line: 2, Span: 1, Raw: []byte("A-1,1000\n"), Bill: billfile.Bill{Reference: "A-1", Currency: "ZAR", Amount: 1000}}}
	tally, err := report.Compose(report.Output{Results: &results, Rejects: &rejects, Layout: commas}, &recordList{recs: recs},
		seq([]ledger.Outcome{{Row: 1, Line: 2, Reference: "A-1", Status: ledger.Existing, BillID: "bill_1", Currency: "ZAR", Amount: 1000}}))
	if err != nil {
		t.Fatal(err)
	}
	if tally.Attention != 0 || rejects.Len() != 0 {
		t.Errorf("attention %d, rejects %q; want none", tally.Attention, rejects.String())
	}
}

func TestHeaderAlone(t *testing.T) {
	var results bytes.Buffer
	tally, err := report.Compose(report.Output{Results: &results}, &recordList{}, seq(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := results.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "line,bill_reference,") {
		t.Errorf("results of a file without rows: %q", got)
	}
	if err := report.Balance(tally, ledger.Totals{}, 0, ledger.Lines{Total: 1, Header: 1}); err != nil {
		t.Error(err)
	}
}

func TestCells(t *testing.T) {
	for reference, want := range map[string]string{
		"=1+1":        "'=1+1",
		"+27":         "'+27",
		"-5":          "'-5",
		"@x":          "'@x",
		"\tx":         "'\tx",
		"\rx":         "'\uFFFDx",
		"a=b":         "a=b",
		"'=x":         "'=x",
		"a\nb":        "a\uFFFDb",
		"a\u202Eb":    "a\uFFFDb", // right-to-left override
		"a\u200Bb":    "a\uFFFDb", // zero width space
		"a\u2028b":    "a\uFFFDb",
		"a\xffb":      "a\uFFFDb",
		"Café, Müde":  "Café, Müde",
		`say "hello"`: `say "hello"`,
	} {
		rec := billfile.Record{Row: 1, Line: 2, Span: 1, Bill: billfile.Bill{Reference: reference}, Problems: []billfile.Problem{{Code: "invalid_reference"}}}
		var results bytes.Buffer
		if _, err := report.Validate(report.Output{Results: &results}, &recordList{recs: []billfile.Record{rec}}); err != nil {
			t.Fatal(err)
		}
		lines, err := csv.NewReader(&results).ReadAll()
		if err != nil {
			t.Fatalf("%q: %v", reference, err)
		}
		if got := lines[1][1]; got != want {
			t.Errorf("cell of %q: %q, want %q", reference, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	recs := []billfile.Record{
		{Row: 1, Line: 2, Span: 1, Raw: []byte("A-1,1000\n"), Bill: billfile.Bill{Reference: "A-1", Currency: "ZAR", Amount: 1000}},
		{Row: 2, Line: 3, Span: 1, Raw: []byte("A-2,x\n"), Bill: billfile.Bill{Reference: "A-2", Currency: "ZAR"},
			Problems: []billfile.Problem{{Column: "amount_due", Code: "invalid_amount", Detail: "not a number"}}},
	}
	var results, rejects bytes.Buffer
	tally, err := report.Validate(report.Output{Results: &results, Rejects: &rejects, Layout: commas}, &recordList{recs: recs})
	if err != nil {
		t.Fatal(err)
	}
	wantResults := `line,bill_reference,status,code,detail,bill_id,customer_id,account_id,currency,amount_due,attempts,idempotency_key
2,A-1,valid,,,,,,ZAR,1000,0,
3,A-2,invalid,invalid_amount,amount_due: not a number,,,,ZAR,,0,
`
	wantRejects := `bill_reference,amount_due,error_code,error_detail
A-2,x,invalid_amount,"amount_due: not a number"
`
	if diff := cmp.Diff(wantResults, results.String()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantRejects, rejects.String()); diff != "" {
		t.Errorf("rejects (-want +got):\n%s", diff)
	}
	s := report.Summarize(&ledger.File{Name: "a.csv", Outcome: report.OutcomeOf(tally.Rows)}, tally.Totals())
	if s.Outcome != ledger.CompletedWithErrors || s.Rows.Total != 2 || s.Rows.By[report.Valid] != 1 || s.Rows.By[ledger.Invalid] != 1 {
		t.Errorf("summary of an offline validation: %+v", s)
	}
	if b := string(s.Bytes()); !strings.Contains(b, `"total": 2,`+"\n    "+`"valid": 1,`) {
		t.Errorf("no count of valid rows in:\n%s", b)
	}
}

func TestErrorsOfSources(t *testing.T) {
	broken := errors.New("disk on fire")
	if _, err := report.Compose(report.Output{}, &recordList{err: broken}, seq(nil)); !errors.Is(err, broken) {
		t.Errorf("reader's error lost: %v", err)
	}
	if _, err := report.Validate(report.Output{}, &recordList{err: broken}); !errors.Is(err, broken) {
		t.Errorf("reader's error lost: %v", err)
	}
	failing := func(int) ([]ledger.Outcome, error) { return nil, broken }
	if _, err := report.Compose(report.Output{}, &recordList{}, report.Pages(failing)); !errors.Is(err, broken) || errors.Is(err, report.ErrUnbalanced) {
		t.Errorf("ledger's error lost: %v", err)
	}
	one := &recordList{recs: []billfile.Record{{Row: 1, Line: 2, Span: 1}}}
	if _, err := report.Validate(report.Output{Results: failingWriter{broken}}, one); !errors.Is(err, broken) {
		t.Errorf("writer's error lost: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, limit := rapid.IntRange(0, 40).Draw(t, "n"), rapid.IntRange(1, 7).Draw(t, "limit")
		fetch := func(from int) ([]ledger.Outcome, error) {
			var page []ledger.Outcome
			for row := from; row <= n && len(page) < limit; row++ {
				page = append(page, ledger.Outcome{Row: row})
			}
			return page, nil
		}
		next := 1
		for o, err := range report.Pages(fetch) {
			if err != nil || o.Row != next {
				t.Fatalf("got row %d, %v; want row %d", o.Row, err, next)
			}
			next++
		}
		if next != n+1 {
			t.Fatalf("%d outcomes, want %d", next-1, n)
		}
	})
}

func TestPagesThatStandStill(t *testing.T) {
	fetch := func(int) ([]ledger.Outcome, error) { return []ledger.Outcome{{Row: 1}}, nil }
	var last error
	for _, err := range report.Pages(fetch) {
		last = err
	}
	if !errors.Is(last, report.ErrUnbalanced) {
		t.Errorf("a ledger that repeats itself: %v", last)
	}
}

// settled is a file with its outcomes and its counts.
type settled struct {
	recs     []billfile.Record
	outcomes []ledger.Outcome
	totals   ledger.Totals
	lines    ledger.Lines
}

// drawSettled returns a file whose parts agree.
func drawSettled(t *rapid.T, least int) settled {
	var f settled
	f.totals = ledger.Totals{Rows: map[ledger.Status]int{}, Amounts: map[string]map[ledger.Status]int64{"ZAR": {}, "USD": {}}}
	f.lines = ledger.Lines{Header: rapid.IntRange(1, 2).Draw(t, "header")}
	line := 1 + f.lines.Header
	for row := range rapid.IntRange(least, 12).Draw(t, "rows") {
		blank := rapid.IntRange(0, 1).Draw(t, "blank")
		rec := billfile.Record{
			Row: row + 1, Line: line + blank, Span: rapid.IntRange(1, 3).Draw(t, "span"),
			Raw: []byte("x,y\n"),
			Bill: billfile.Bill{
				Reference: fmt.Sprintf("R-%d", row),
				Currency:  rapid.SampledFrom([]string{"ZAR", "USD"}).Draw(t, "currency"),
				Amount:    rapid.Int64Range(1, 99_999_999).Draw(t, "amount"),
			},
		}
		f.lines.Blank, f.lines.Data = f.lines.Blank+blank, f.lines.Data+rec.Span
		line = rec.Line + rec.Span
		o := report.OfRecord(&rec)
		o.Status = rapid.SampledFrom(ledger.Statuses[:]).Draw(t, "status")
		switch o.Status {
		case ledger.Invalid:
			rec.Problems = []billfile.Problem{{Code: "invalid_amount", Detail: "amount_due is none"}}
			rec.Bill.Amount = rapid.SampledFrom([]int64{0, rec.Bill.Amount}).Draw(t, "readable")
			o = report.OfRecord(&rec)
		case ledger.NotSent:
		default:
			o.Attempts, o.Key, o.BillID = rapid.IntRange(1, 4).Draw(t, "attempts"), "key", "bill_"+strconv.Itoa(row)
		}
		f.recs, f.outcomes = append(f.recs, rec), append(f.outcomes, o)
		f.totals.Rows[o.Status]++
		f.totals.Amounts[o.Currency][o.Status] += o.Amount
		f.totals.Attempts += o.Attempts
		f.totals.Resends += max(0, o.Attempts-1)
	}
	f.lines.Total = f.lines.Header + f.lines.Blank + f.lines.Data
	return f
}

// publish composes and balances, and returns the reports.
func (f settled) publish(rows int) (results, rejects string, tally report.Tally, err error) {
	var res, rej bytes.Buffer
	tally, err = report.Compose(report.Output{Results: &res, Rejects: &rej, Layout: commas}, &recordList{recs: f.recs}, seq(f.outcomes))
	if err == nil {
		err = report.Balance(tally, f.totals, rows, f.lines)
	}
	return res.String(), rej.String(), tally, err
}

func TestCountsAlwaysBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawSettled(t, 0)
		results, rejects, tally, err := f.publish(len(f.recs))
		if err != nil {
			t.Fatal(err)
		}
		again, rejectsAgain, _, err := f.publish(len(f.recs))
		if err != nil || again != results || rejectsAgain != rejects {
			t.Fatalf("the same inputs gave other bytes (%v)", err)
		}
		lines, err := csv.NewReader(strings.NewReader(results)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		s := report.Summarize(&ledger.File{}, f.totals)
		checkSums(t, lines, s)
		if s.Rows.Total != len(f.recs) || s.Rows.Attention() != tally.Attention {
			t.Fatalf("summary has %d rows, %d for attention; file has %d, report %d", s.Rows.Total, s.Rows.Attention(), len(f.recs), tally.Attention)
		}
		if want := tally.Attention + min(1, tally.Attention); strings.Count(rejects, "\n") != want {
			t.Fatalf("%d lines of rejects, want %d", strings.Count(rejects, "\n"), want)
		}
	})
}

// checkSums sums the results and compares with the summary.
func checkSums(t *rapid.T, lines [][]string, s report.Summary) {
	rows, amounts := map[ledger.Status]int{}, map[string]map[ledger.Status]int64{}
	for _, l := range lines[1:] {
		status, currency := ledger.Status(l[2]), l[8]
		rows[status]++
		if amounts[currency] == nil {
			amounts[currency] = map[ledger.Status]int64{}
		}
		if l[9] != "" {
			n, err := strconv.ParseInt(l[9], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			amounts[currency][status] += n
		}
	}
	for _, status := range ledger.Statuses {
		if rows[status] != s.Rows.By[status] {
			t.Fatalf("%d results %s, summary says %d", rows[status], status, s.Rows.By[status])
		}
		for _, currency := range []string{"ZAR", "USD"} {
			if amounts[currency][status] != s.Amounts[currency][status] {
				t.Fatalf("%d %s in results %s, summary says %d", amounts[currency][status], currency, status, s.Amounts[currency][status])
			}
		}
	}
}

// damages are ways in which file, outcomes and counts can disagree. Each returns whether it
// could change f.
var damages = map[string]func(t *rapid.T, f *settled, i int) bool{
	"outcome missing": func(_ *rapid.T, f *settled, i int) bool { f.outcomes = slices.Delete(f.outcomes, i, i+1); return true },
	"outcome twice": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes = slices.Insert(f.outcomes, i, f.outcomes[i])
		return true
	},
	"record missing": func(_ *rapid.T, f *settled, i int) bool { f.recs = slices.Delete(f.recs, i, i+1); return true },
	"no status":      func(_ *rapid.T, f *settled, i int) bool { f.outcomes[i].Status = ""; return true },
	"odd status":     func(_ *rapid.T, f *settled, i int) bool { f.outcomes[i].Status = report.Valid; return true },
	"other line":     func(_ *rapid.T, f *settled, i int) bool { f.outcomes[i].Line++; return true },
	"other row":      func(_ *rapid.T, f *settled, i int) bool { f.outcomes[i].Row++; return true },
	"other amount":   func(_ *rapid.T, f *settled, i int) bool { f.outcomes[i].Amount += 100; return true },
	"other currency": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes[i].Currency = map[string]string{"ZAR": "USD", "USD": "ZAR"}[f.outcomes[i].Currency]
		return f.outcomes[i].Amount != 0
	},
	"other reference": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes[i].Reference += "x"
		return f.outcomes[i].Status != ledger.Invalid
	},
	"problems, yet created": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes[i].Status, f.outcomes[i].Attempts, f.outcomes[i].Key, f.outcomes[i].BillID = ledger.Created, 1, "k", "bill_1"
		return len(f.recs[i].Problems) > 0
	},
	"no problem, yet invalid": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes[i] = ledger.Outcome{Row: f.outcomes[i].Row, Line: f.outcomes[i].Line, Reference: f.outcomes[i].Reference, Status: ledger.Invalid}
		return len(f.recs[i].Problems) == 0
	},
	"created without a bill": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes[i].BillID = ""
		return f.outcomes[i].Status == ledger.Created
	},
	"created without a send": func(_ *rapid.T, f *settled, i int) bool {
		f.totals.Attempts -= f.outcomes[i].Attempts
		f.totals.Resends -= f.outcomes[i].Attempts - 1
		f.outcomes[i].Attempts = 0
		return f.outcomes[i].Status == ledger.Created
	},
	"existing without a bill": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes[i].BillID = ""
		return f.outcomes[i].Status == ledger.Existing
	},
	"not sent, yet sent": func(_ *rapid.T, f *settled, i int) bool {
		f.outcomes[i].Attempts++
		f.totals.Attempts++
		return f.outcomes[i].Status == ledger.NotSent
	},
	"longer record": func(_ *rapid.T, f *settled, i int) bool { f.recs[i].Span++; return true },
	"ledger counts other rows": func(t *rapid.T, f *settled, _ int) bool {
		f.totals.Rows[rapid.SampledFrom(ledger.Statuses[:]).Draw(t, "status")]++
		return true
	},
	"ledger counts an odd status": func(_ *rapid.T, f *settled, _ int) bool { f.totals.Rows["valid"] = 1; return true },
	"ledger counts other money": func(t *rapid.T, f *settled, _ int) bool {
		f.totals.Amounts["ZAR"][rapid.SampledFrom(ledger.Statuses[:]).Draw(t, "status")]--
		return true
	},
	"ledger counts a currency more": func(_ *rapid.T, f *settled, _ int) bool {
		f.totals.Amounts["EUR"] = map[ledger.Status]int64{ledger.Created: 1}
		return true
	},
	"ledger counts other sends":   func(_ *rapid.T, f *settled, _ int) bool { f.totals.Attempts++; return true },
	"ledger counts other resends": func(_ *rapid.T, f *settled, _ int) bool { f.totals.Resends++; return true },
	"a blank line more":           func(_ *rapid.T, f *settled, _ int) bool { f.lines.Blank++; return true },
	"a data line more": func(_ *rapid.T, f *settled, _ int) bool {
		f.lines.Data, f.lines.Total = f.lines.Data+1, f.lines.Total+1
		return true
	},
}

func TestDisagreementIsRefused(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			done := 0
			rapid.Check(t, func(t *rapid.T) {
				f := drawSettled(t, 1)
				rows := len(f.recs)
				if !damage(t, &f, rapid.IntRange(0, rows-1).Draw(t, "i")) {
					return
				}
				done++
				if _, _, _, err := f.publish(rows); !errors.Is(err, report.ErrUnbalanced) {
					t.Fatalf("published with %v", err)
				}
			})
			if done == 0 {
				t.Fatal("no file could be damaged so")
			}
		})
	}
}

func TestRowCountOfValidation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawSettled(t, 0)
		if _, _, _, err := f.publish(len(f.recs) + 1); !errors.Is(err, report.ErrUnbalanced) {
			t.Fatalf("published with %v", err)
		}
	})
}
