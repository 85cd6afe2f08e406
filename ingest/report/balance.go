package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// match checks that o is an outcome of rec, and one that such a record can have: a row with problems is
// invalid and was never sent, a row without is not invalid, and a bill that is said to be there has an id.
func match(rec *billfile.Record, o *ledger.Outcome) error {
	differ := func(what string, record, outcome any) error {
		return fmt.Errorf("%w: row %d (line %d): %s: the file says %v, the outcome %v", ErrUnbalanced, rec.Row, rec.Line, what, record, outcome)
	}
	untrue := func(what string) error {
		return fmt.Errorf("%w: row %d (line %d) is said to be %s %s", ErrUnbalanced, rec.Row, rec.Line, o.Status, what)
	}
	switch valid := len(rec.Problems) == 0; {
	case o.Row != rec.Row:
		return differ("row", rec.Row, o.Row)
	case o.Line != rec.Line:
		return differ("line", rec.Line, o.Line)
	case !known(o.Status):
		return untrue("which is no status")
	case valid && o.Status == ledger.Invalid:
		return untrue("and has no problem")
	case !valid && o.Status != ledger.Invalid:
		return untrue("and has problems: " + rec.Problems[0].Code)
	case valid && o.Reference != rec.Bill.Reference:
		return differ("bill reference", rec.Bill.Reference, o.Reference)
	case valid && o.Currency != rec.Bill.Currency:
		return differ("currency", rec.Bill.Currency, o.Currency)
	case valid && o.Amount != rec.Bill.Amount:
		return differ("amount", rec.Bill.Amount, o.Amount)
	}
	switch o.Status {
	case ledger.Created:
		if o.BillID == "" || o.Attempts < 1 || o.Key == "" {
			return untrue("without a bill id, a send and its key")
		}
	case ledger.Existing:
		if o.BillID == "" {
			return untrue("without a bill id")
		}
	case ledger.Invalid, ledger.NotSent:
		if o.BillID != "" || o.Attempts != 0 || o.Key != "" {
			return untrue("and to have been sent")
		}
	}
	return nil
}

func known(s ledger.Status) bool { return slices.Contains(ledger.Statuses[:], s) }

// Balance checks what a walk counted against everything else that is known of the file: totals, the sums that
// the ledger made of the same outcomes; rows and lines, what the validation counted. An error wraps
// ErrUnbalanced and names the first thing that differs.
func Balance(t Tally, totals ledger.Totals, rows int, lines ledger.Lines) error {
	if sum := lines.Header + lines.Blank + lines.Data; lines.Total != sum {
		return fmt.Errorf("%w: %d physical lines, but header, blank and data lines make %d", ErrUnbalanced, lines.Total, sum)
	}
	for _, s := range slices.Sorted(maps.Keys(totals.Rows)) {
		if !known(s) && totals.Rows[s] != 0 {
			return fmt.Errorf("%w: the ledger counts rows of status %q, which is no status", ErrUnbalanced, s)
		}
	}
	counted := 0
	for _, n := range t.Rows {
		counted += n
	}
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"records, and validation counted", t.Records, rows},
		{"data lines, and validation counted", t.Lines, lines.Data},
		{"rows by status, and records are", counted, t.Records},
		{"sends, and the ledger counts", t.Attempts, totals.Attempts},
		{"repeated sends, and the ledger counts", t.Resends, totals.Resends},
	} {
		if c.got != c.want {
			return fmt.Errorf("%w: the report has %d %s %d", ErrUnbalanced, c.got, c.what, c.want)
		}
	}
	if s, ok := firstDifference(t.Rows, totals.Rows); ok {
		return fmt.Errorf("%w: the report has %d rows %s, and the ledger counts %d", ErrUnbalanced, t.Rows[s], s, totals.Rows[s])
	}
	for _, currency := range unionKeys(t.Amounts, totals.Amounts) {
		if s, ok := firstDifference(t.Amounts[currency], totals.Amounts[currency]); ok {
			return fmt.Errorf("%w: the report has %d minor units of %q %s, and the ledger counts %d",
				ErrUnbalanced, t.Amounts[currency][s], currency, s, totals.Amounts[currency][s])
		}
	}
	return nil
}

// firstDifference finds the first key, in order, whose values differ; a key that is missing has the value 0.
func firstDifference[K cmp.Ordered, V comparable](a, b map[K]V) (K, bool) {
	for _, k := range unionKeys(a, b) {
		if a[k] != b[k] {
			return k, true
		}
	}
	var none K
	return none, false
}

func unionKeys[K cmp.Ordered, V any](a, b map[K]V) []K {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
