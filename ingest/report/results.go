package report

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"billdrop/ingest/ledger"
)

// columns are the header of the results file, in order.
var columns = [...]string{
	"line", "bill_reference", "status", "code", "detail", "bill_id", "customer_id", "account_id",
	"currency", "amount_due", "attempts", "idempotency_key",
}

// results writes the results file: UTF-8, RFC 4180, lines end in LF.
type results struct {
	w     *csv.Writer
	cells [len(columns)]string
	err   error // of the header
}

func newResults(w io.Writer) *results {
	r := &results{w: csv.NewWriter(w)}
	r.err = r.w.Write(columns[:])
	return r
}

// row writes one line. amount_due is empty where there is no amount of money to name: 0 is never a bill's
// amount, and a number without a currency is none.
func (r *results) row(o *ledger.Outcome) error {
	if r.err != nil {
		return r.err
	}
	amount := ""
	if o.Amount != 0 && o.Currency != "" {
		amount = strconv.FormatInt(o.Amount, 10)
	}
	r.cells = [...]string{
		strconv.Itoa(o.Line), cell(o.Reference), cell(string(o.Status)), cell(o.Code), cell(o.Detail),
		cell(o.BillID), cell(o.CustomerID), cell(o.AccountID), cell(o.Currency),
		amount, strconv.Itoa(o.Attempts), cell(o.Key),
	}
	return r.w.Write(r.cells[:])
}

func (r *results) close() error {
	r.w.Flush()
	return r.w.Error()
}

// cell makes a text safe to show: a leading character that makes spreadsheets run the cell as a formula gets
// a ' before it, and what would break the line or not be seen on it is replaced by U+FFFD.
func cell(s string) string {
	if s != "" && strings.IndexByte("=+-@\t\r", s[0]) >= 0 {
		return "'" + visible(s)
	}
	return visible(s)
}

// visible replaces control, format (bidirectional and zero-width) and line separating characters by U+FFFD,
// so that a record of a report is one physical line and reads as it is. The tab stays: it breaks nothing.
func visible(s string) string {
	clean := true
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029') {
			return utf8.RuneError
		}
		return r
	}, s)
}
