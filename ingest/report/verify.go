package report

import (
	"io"
	"strconv"
)

// Finding is what a look at the API shows of a bill that a file says exists. Its zero value
// is not a finding.
type Finding string

const (
	Same    Finding = "same"    // it is there and says what the file says; payments change nothing
	Changed Finding = "changed" // it is there and says something else
	Voided  Finding = "voided"
	Missing Finding = "missing" // the API has no bill with this reference
	// Unverified: the API gave no usable answer.
	Unverified Finding = "unknown"
)

// Findings are all of them, in the order in which they are shown.
var Findings = [...]Finding{Same, Changed, Voided, Missing, Unverified}

// Verified is one line of a verify report.
type Verified struct {
	Line          int
	BillReference string
	BillID        string // as the file's results have it
	Finding       Finding
	Detail        string // why it is not same
	BillStatus    string // from here on as the API says it; "" and nil = not told
	Due           *int64 // minor units
	Paid          *int64
	Remaining     *int64
}

var verifyColumns = [...]string{
	"line", "bill_reference", "bill_id", "finding", "detail", "bill_status", "amount_due", "amount_paid", "amount_remaining",
}

// VerifyWriter writes the verify report of a file.
type VerifyWriter struct{ lines }

// NewVerifyWriter writes the header.
func NewVerifyWriter(w io.Writer) *VerifyWriter { return &VerifyWriter{newLines(w, verifyColumns[:])} }

// Write writes one line.
func (v *VerifyWriter) Write(r Verified) error {
	return v.csv.Write([]string{
		strconv.Itoa(r.Line), cell(r.BillReference), cell(r.BillID), string(r.Finding), cell(r.Detail), cell(r.BillStatus),
		minor(r.Due), minor(r.Paid), minor(r.Remaining),
	})
}

// minor returns an amount in minor units; "" if it is not known.
func minor(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}
