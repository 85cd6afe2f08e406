package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
)

// match checks that o is an outcome of rec, and one that such a record can have: a row with
// problems is invalid, and a row without is not, unless its account was seen to be another
// customer's. The outcome of a row without problems is about the row's bill. An invalid
// row and a row that was not sent have no trace of a send. A row whose bill exists by this file or
// an earlier one has a bill id.
func match(rec *billfile.Record, o *ledger.Outcome) error {
	b, valid := &rec.Bill, len(rec.Problems) == 0
	switch {
	case o.Row != rec.Row:
		return differs(rec, "row", rec.Row, o.Row)
	case o.Line != rec.Line:
		return differs(rec, "line", rec.Line, o.Line)
	case !known(o.Status):
		return untrue(o, "which is not a status")
	case !valid && o.Status != ledger.Invalid:
		return untrue(o, "but has a problem: "+rec.Problems[0].Code)
	case valid && o.Status == ledger.Invalid && o.Code != ledger.CodePartyMismatch:
		return untrue(o, "but has no problem")
	case valid && o.Reference != b.Reference:
		return differs(rec, "bill reference", b.Reference, o.Reference)
	case valid && o.Currency != b.Currency:
		return differs(rec, "currency", b.Currency, o.Currency)
	case valid && o.Amount != b.Amount:
		return differs(rec, "amount", b.Amount, o.Amount)
	}
	switch o.Status {
	case ledger.Invalid, ledger.NotSent:
		if o.BillID != "" || o.Attempts != 0 || o.Key != "" {
			return untrue(o, "but has a bill id, a send or a key")
		}
	case ledger.Created, ledger.Existing:
		if o.BillID == "" {
			return untrue(o, "but has no bill id")
		}
	}
	if o.Status == ledger.Created && (o.Attempts < 1 || o.Key == "") {
		return untrue(o, "but has no send or no key")
	}
	return nil
}

func differs(rec *billfile.Record, what string, record, outcome any) error {
	return fmt.Errorf("%w: row %d (line %d): %s: the file has %v, the outcome %v", ErrUnbalanced, rec.Row, rec.Line, what, record, outcome)
}

func untrue(o *ledger.Outcome, why string) error {
	return fmt.Errorf("%w: row %d (line %d) is recorded as %q, %s", ErrUnbalanced, o.Row, o.Line, o.Status, why)
}

func known(s ledger.Status) bool { return slices.Contains(ledger.Statuses[:], s) }

// Balance checks the counts and sums of a walk against the other two counts of the same file:
// totals are the ledger's own sums over its outcomes, rows and lines are from the validation.
// An error wraps ErrUnbalanced and names the first difference.
func Balance(t Tally, totals ledger.Totals, rows int, lines ledger.Lines) error {
	counted := 0
	for _, s := range unionKeys(t.Rows, totals.Rows) {
		if !known(s) && (t.Rows[s] != 0 || totals.Rows[s] != 0) {
			return fmt.Errorf("%w: rows are counted under %q, which is not a status", ErrUnbalanced, s)
		}
		counted += t.Rows[s]
	}
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"physical lines; header, blank and data lines are", lines.Total, lines.Header + lines.Blank + lines.Data},
		{"records; the validation counted", t.Records, rows},
		{"data lines; the validation counted", t.Lines, lines.Data},
		{"rows by status; its records are", counted, t.Records},
		{"sends; the ledger counts", t.Attempts, totals.Attempts},
		{"repeated sends; the ledger counts", t.Resends, totals.Resends},
	} {
		if c.got != c.want {
			return fmt.Errorf("%w: the report has %d %s %d", ErrUnbalanced, c.got, c.what, c.want)
		}
	}
	if s, ok := firstDifference(t.Rows, totals.Rows); ok {
		return fmt.Errorf("%w: the report has %d rows %s; the ledger counts %d", ErrUnbalanced, t.Rows[s], s, totals.Rows[s])
	}
	for _, currency := range unionKeys(t.Amounts, totals.Amounts) {
		if s, ok := firstDifference(t.Amounts[currency], totals.Amounts[currency]); ok {
			return fmt.Errorf("%w: the report has %d minor units of %q %s; the ledger counts %d",
				ErrUnbalanced, t.Amounts[currency][s], currency, s, totals.Amounts[currency][s])
		}
	}
	return nil
}

// firstDifference returns the first key, in order, whose values differ. A missing key has the
// value 0.
func firstDifference[K cmp.Ordered, V comparable](a, b map[K]V) (K, bool) {
	for _, k := range unionKeys(a, b) {
		if a[k] != b[k] {
			return k, true
		}
	}
	var none K
	return none, false
}

// unionKeys returns the keys of both maps, in order, each once.
func unionKeys[K cmp.Ordered, V any](a, b map[K]V) []K {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
