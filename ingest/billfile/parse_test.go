package billfile

import (
	"io"
	"maps"
	"strings"
	"testing"
)

// Of a stray quotation mark's row, taken from a rejects file and mended, every row goes
// through: also those that it had swallowed, which lack the two cells that the rejects
// file added behind the last of them. A row that lacks cells of its own does not.
func TestMendedRows(t *testing.T) {
	const text = "bill_reference,amount_due,customer_reference,error_code,error_detail\n" +
		"A,1,C1\n" + // swallowed: mended
		"B,2,C2,bare_quote,\"customer_reference …\"\n" +
		"C,3,wrong_field_count,\"the row has …\"\n" + // lacks a cell of its own
		"D,4,C4,\n" // lacks one of the two
	rows := map[string]string{}
	survey, err := TakeSurvey(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
		Format{Amounts: Minor, Currency: "ZAR"}, func(r *Record) error {
			rows[r.Bill.Reference] = ""
			if len(r.Problems) > 0 {
				rows[r.Bill.Reference] = r.Problems[0].Code
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"A": "", "B": "", "C": CodeWrongFieldCount, "D": CodeWrongFieldCount}
	if !maps.Equal(rows, want) || survey.Rows != 4 {
		t.Errorf("rows: %v, want %v", rows, want)
	}
}
