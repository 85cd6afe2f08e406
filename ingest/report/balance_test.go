package report_test

import (
	"errors"
	"maps"
	"testing"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// TestOutcomesThatFit: for each kind of record, the outcomes that it can have, and those that would
// make its report untrue.
func TestOutcomesThatFit(t *testing.T) {
	bill := billfile.Bill{Reference: "INV-1", Currency: "ZAR", Amount: 100}
	fine := billfile.Record{Row: 3, Line: 7, Span: 1, Raw: []byte("INV-1,100\n"), Bill: bill}
	bad := fine
	bad.Problems = []billfile.Problem{{Code: billfile.CodeInvalidAmount}}
	of := func(s ledger.Status, change func(*ledger.Outcome)) ledger.Outcome {
		o := ledger.Outcome{Row: 3, Line: 7, Reference: "INV-1", Currency: "ZAR", Amount: 100, Status: s}
		if change != nil {
			change(&o)
		}
		return o
	}
	sent := func(o *ledger.Outcome) { o.Attempts, o.Key, o.BillID = 1, "key", "bill_1" }
	but := func(change func(*ledger.Outcome)) func(*ledger.Outcome) {
		return func(o *ledger.Outcome) { sent(o); change(o) }
	}
	for _, c := range []struct {
		name    string
		rec     billfile.Record
		outcome ledger.Outcome
		fits    bool
	}{
		{"created", fine, of(ledger.Created, sent), true},
		{"created without a bill id", fine, of(ledger.Created, but(func(o *ledger.Outcome) { o.BillID = "" })), false},
		{"created without a send", fine, of(ledger.Created, but(func(o *ledger.Outcome) { o.Attempts = 0 })), false},
		{"created with fewer sends than none", fine, of(ledger.Created, but(func(o *ledger.Outcome) { o.Attempts = -1 })), false},
		{"created without a key", fine, of(ledger.Created, but(func(o *ledger.Outcome) { o.Key = "" })), false},
		{"existing", fine, of(ledger.Existing, func(o *ledger.Outcome) { o.BillID = "bill_1" }), true},
		{"existing, found after a send", fine, of(ledger.Existing, sent), true},
		{"existing without a bill id", fine, of(ledger.Existing, but(func(o *ledger.Outcome) { o.BillID = "" })), false},
		{"conflict", fine, of(ledger.Conflict, nil), true},
		{"rejected unsent", fine, of(ledger.Rejected, nil), true},
		{"rejected", fine, of(ledger.Rejected, sent), true},
		{"failed", fine, of(ledger.Failed, but(func(o *ledger.Outcome) { o.BillID = "" })), true},
		{"unknown", fine, of(ledger.Unknown, but(func(o *ledger.Outcome) { o.BillID = "" })), true},
		{"not sent", fine, of(ledger.NotSent, nil), true},
		{"not sent with a bill id", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.BillID = "bill_1" }), false},
		{"not sent with a send", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.Attempts = 1 }), false},
		{"not sent with a key", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.Key = "key" }), false},
		{"invalid without a problem", fine, of(ledger.Invalid, nil), false},
		{"invalid because of its account's owner", fine, of(ledger.Invalid, func(o *ledger.Outcome) { o.Code = ledger.CodePartyMismatch }), true},
		{"no status", fine, of("", nil), false},
		{"a status of validations alone", fine, of(report.Valid, nil), false},
		{"another row", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.Row++ }), false},
		{"another line", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.Line++ }), false},
		{"another reference", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.Reference = "INV-2" }), false},
		{"another currency", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.Currency = "USD" }), false},
		{"another amount", fine, of(ledger.NotSent, func(o *ledger.Outcome) { o.Amount++ }), false},

		{"a problem, invalid", bad, of(ledger.Invalid, nil), true},
		{"a problem, invalid, cells that could not be read", bad, of(ledger.Invalid, func(o *ledger.Outcome) { o.Amount, o.Currency, o.Reference = 0, "", "" }), true},
		{"a problem, invalid with a bill id", bad, of(ledger.Invalid, func(o *ledger.Outcome) { o.BillID = "bill_1" }), false},
		{"a problem, invalid with a send", bad, of(ledger.Invalid, func(o *ledger.Outcome) { o.Attempts = 1 }), false},
		{"a problem, invalid with a key", bad, of(ledger.Invalid, func(o *ledger.Outcome) { o.Key = "key" }), false},
		{"a problem, not sent", bad, of(ledger.NotSent, nil), false},
		{"a problem, created", bad, of(ledger.Created, sent), false},
	} {
		_, err := report.Compose(report.Output{}, &recordList{recs: []billfile.Record{c.rec}}, seq([]ledger.Outcome{c.outcome}))
		if c.fits && err != nil || !c.fits && !errors.Is(err, report.ErrUnbalanced) {
			t.Errorf("%s: %v, want fit: %v", c.name, err, c.fits)
		}
	}
}

// TestBalance changes one count or sum at a time. Whatever differs, the report is refused.
func TestBalance(t *testing.T) {
	type books struct {
		tally  report.Tally
		totals ledger.Totals
		rows   int
		lines  ledger.Lines
	}
	agreeing := func() books {
		rows := map[ledger.Status]int{ledger.Created: 2, ledger.Invalid: 1}
		amounts := map[string]map[ledger.Status]int64{"ZAR": {ledger.Created: 300, ledger.Invalid: 0}, "USD": {ledger.Created: 50}}
		return books{
			tally:  report.Tally{Records: 3, Lines: 4, Attempts: 3, Resends: 1, Rows: rows, Amounts: amounts},
			totals: ledger.Totals{Rows: maps.Clone(rows), Amounts: map[string]map[ledger.Status]int64{"ZAR": {ledger.Created: 300}, "USD": {ledger.Created: 50}}, Attempts: 3, Resends: 1},
			rows:   3,
			lines:  ledger.Lines{Total: 7, Header: 1, Blank: 2, Data: 4},
		}
	}
	for _, c := range []struct {
		name   string
		change func(*books)
		agrees bool
	}{
		{"nothing", func(*books) {}, true},
		{"a count of 0 under a word that is not a status", func(b *books) { b.totals.Rows["valid"], b.tally.Rows["valid"] = 0, 0 }, true},
		{"a sum of 0 in another currency", func(b *books) { b.totals.Amounts["EUR"] = map[ledger.Status]int64{ledger.Created: 0} }, true},

		{"both count a word that is not a status", func(b *books) {
			b.totals.Rows["valid"], b.totals.Rows[ledger.Created] = 1, 1
			b.tally.Rows["valid"], b.tally.Rows[ledger.Created] = 1, 1
		}, false},
		{"both count rows without a status", func(b *books) {
			b.totals.Rows[""], b.totals.Rows[ledger.Created] = 1, 1
			b.tally.Rows[""], b.tally.Rows[ledger.Created] = 1, 1
		}, false},
		{"the ledger counts a word that is not a status", func(b *books) { b.totals.Rows["valid"] = 1 }, false},
		{"the report counts a word that is not a status", func(b *books) { b.tally.Rows["valid"], b.tally.Rows[ledger.Created] = 1, 1 }, false},
		{"a line more", func(b *books) { b.lines.Total++ }, false},
		{"a header line more", func(b *books) { b.lines.Header++ }, false},
		{"a blank line less", func(b *books) { b.lines.Blank-- }, false},
		{"a data line more", func(b *books) { b.lines.Data++; b.lines.Total++ }, false},
		{"a record's line less", func(b *books) { b.tally.Lines-- }, false},
		{"a row more in the validation", func(b *books) { b.rows++ }, false},
		{"a row less in the validation", func(b *books) { b.rows-- }, false},
		{"a record more", func(b *books) { b.tally.Records++; b.rows++ }, false},
		{"a row less by status", func(b *books) { b.tally.Rows[ledger.Created]--; b.totals.Rows[ledger.Created]-- }, false},
		{"another status in the ledger", func(b *books) { b.totals.Rows[ledger.Created]--; b.totals.Rows[ledger.Existing]++ }, false},
		{"a row more in the ledger", func(b *books) { b.totals.Rows[ledger.Created]++ }, false},
		{"a send more in the ledger", func(b *books) { b.totals.Attempts++ }, false},
		{"a send less in the ledger", func(b *books) { b.totals.Attempts-- }, false},
		{"a repeated send more in the ledger", func(b *books) { b.totals.Resends++ }, false},
		{"money less in the ledger", func(b *books) { b.totals.Amounts["ZAR"][ledger.Created]-- }, false},
		{"money less in the report", func(b *books) { b.tally.Amounts["USD"][ledger.Created]-- }, false},
		{"money under another status", func(b *books) {
			b.totals.Amounts["ZAR"] = map[ledger.Status]int64{ledger.Existing: 300}
		}, false},
		{"money in another currency", func(b *books) { b.totals.Amounts["EUR"] = map[ledger.Status]int64{ledger.Created: 1} }, false},
		{"a currency less in the ledger", func(b *books) { delete(b.totals.Amounts, "USD") }, false},
	} {
		b := agreeing()
		c.change(&b)
		err := report.Balance(b.tally, b.totals, b.rows, b.lines)
		if c.agrees && err != nil || !c.agrees && !errors.Is(err, report.ErrUnbalanced) {
			t.Errorf("%s: %v, want agreement: %v", c.name, err, c.agrees)
		}
	}
}
