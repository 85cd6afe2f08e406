package billfile

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// CodeOwnReport refuses a file that is a report of billdrop's.
const CodeOwnReport = "own_report"

// ownHeaders are the columns with which reports begin. Later versions may add some at the end.
// A rejects file has the columns of its bill file, so it is known by its content alone.
var ownHeaders = []struct{ report, columns string }{
	{"a results file", "line,bill_reference,status,code,detail,bill_id,customer_id,account_id,currency,amount_due,attempts,idempotency_key"},
	{"a verify file", "line,bill_reference,bill_id,finding,detail,bill_status,amount_due,amount_paid,amount_remaining"},
	{"a payments file", "received_at,event_id,type,payment_id,obligation_id,currency,amount,matched_by,bill_reference,bill_id,account_id,customer_id," +
		"bill_status,bill_amount_due,bill_amount_paid,bill_amount_remaining"},
}

// ownReport returns the refusal of a file with the header of a report; nil if it has another.
func ownReport(columns []string, line int) *FileError {
	header := strings.ToLower(strings.Join(columns, ","))
	for _, own := range ownHeaders {
		if rest, ok := strings.CutPrefix(header, own.columns); ok && (rest == "" || rest[0] == ',') {
			return &FileError{Code: CodeOwnReport, Line: line, Detail: "the file is " + own.report +
				" that billdrop wrote, not a bill file: deliver the bill file; rows to correct are in its rejects file"}
		}
	}
	return nil
}

// OwnReport returns the refusal of a file that begins with the header of a report, in any usual
// encoding and with any delimiter; nil if it does not. It reads the beginning of the file alone.
func OwnReport(r io.Reader) (*FileError, error) {
	b := make([]byte, 4096)
	n, err := io.ReadFull(r, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	// The headers are ASCII: without its marks and zeros, UTF-16 is the same.
	b = bytes.TrimPrefix(b[:n], []byte("\xef\xbb\xbf"))
	b = bytes.TrimLeft(b, "\xff\xfe")
	text := strings.ReplaceAll(string(b), "\x00", "")
	lines := strings.SplitN(text, "\n", 3)
	for i, line := range lines[:min(2, len(lines))] {
		for _, d := range delimiters {
			columns := strings.Split(strings.TrimSuffix(line, "\r"), string(d))
			for c := range columns {
				columns[c] = trimName(strings.Trim(columns[c], `"`))
			}
			if own := ownReport(columns, i+1); own != nil {
				return own, nil
			}
		}
	}
	return nil, nil
}
