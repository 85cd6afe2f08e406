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

// columns are the columns of the results file, in order.
var columns = [...]string{
	"line", "bill_reference", "status", "code", "detail", "bill_id", "customer_id", "account_id",
	"currency", "amount_due", "attempts", "idempotency_key",
}

// linkColumns follow them where the feed presents its bills.
var linkColumns = [...]string{"payment_link", "payment_request_id"}

// lines writes a report: UTF-8, RFC 4180, lines end in LF. Once a write has failed, the later
// ones and Close return its error.
type lines struct{ csv *csv.Writer }

// newLines writes the header.
func newLines(w io.Writer, header []string) lines {
	l := lines{csv.NewWriter(w)}
	_ = l.csv.Write(header)
	return l
}

// Close writes what is buffered. It does not close the writer beneath.
func (l lines) Close() error {
	l.csv.Flush()
	return l.csv.Error()
}

// results writes the results file.
type results struct {
	lines
	cells [len(columns) + len(linkColumns)]string
	shown int // cells of a line
}

func newResults(w io.Writer, links bool) *results {
	header := columns[:]
	if links {
		header = append(header, linkColumns[:]...)
	}
	return &results{lines: newLines(w, header), shown: len(header)}
}

// row writes one line. amount_due is empty if it is 0, which no bill has: then it could not be
// read.
func (r *results) row(o *ledger.Outcome) error {
	amount := ""
	if o.Amount != 0 {
		amount = strconv.FormatInt(o.Amount, 10)
	}
	r.cells = [...]string{
		strconv.Itoa(o.Line), cell(o.Reference), cell(string(o.Status)), cell(o.Code), cell(o.Detail),
		cell(o.BillID), cell(o.CustomerID), cell(o.AccountID), cell(o.Currency),
		amount, strconv.Itoa(o.Attempts), cell(o.Key), cell(o.PaymentLink), cell(o.PaymentRequestID),
	}
	return r.csv.Write(r.cells[:r.shown])
}

// cell returns a text that is safe to show. A ' goes before a first character that makes
// spreadsheets run the cell as a formula (OWASP, "CSV Injection"), and hidden characters are
// replaced.
func cell(s string) string {
	if s != "" && strings.IndexByte("=+-@\t\r", s[0]) >= 0 {
		return "'" + Visible(s)
	}
	return Visible(s)
}

// Visible replaces hidden characters by U+FFFD, so that a record of a report is one physical
// line without invisible text.
func Visible(s string) string {
	for _, r := range s {
		if (r < ' ' || r > '~') && Hidden(r) { // most cells are ASCII, and need no call
			return strings.Map(func(r rune) rune {
				if Hidden(r) {
					return utf8.RuneError
				}
				return r
			}, s)
		}
	}
	return s
}

// Hidden reports whether r is a control, format (bidirectional or zero-width) or line
// separating character, or comes from bytes that are not UTF-8. The tab is not hidden: it
// breaks nothing.
func Hidden(r rune) bool {
	return r != '\t' && (r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp))
}
