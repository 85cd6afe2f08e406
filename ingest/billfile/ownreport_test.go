package billfile

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf16"
)

const ownResults = "line,bill_reference,status,code,detail,bill_id,customer_id,account_id,currency,amount_due,attempts,idempotency_key"

// A report is known by its header, however a spreadsheet has saved it. A bill file that shares
// names with it is not one.
func TestOwnReport(t *testing.T) {
	utf16le := func(s string) string {
		b := []byte{0xff, 0xfe}
		for _, u := range utf16.Encode([]rune(s)) {
			b = append(b, byte(u), byte(u>>8))
		}
		return string(b)
	}
	for _, c := range []struct {
		name, content string
		own           bool
	}{
		{"results", ownResults + "\n", true},
		{"results with links", ownResults + ",payment_link,payment_request_id\n2,A,created,,,,,,ZAR,1,1,,,\n", true},
		{"verify", "line,bill_reference,bill_id,finding,detail,bill_status,amount_due,amount_paid,amount_remaining\n", true},
		{"payments", "received_at,event_id,type,payment_id,obligation_id,currency,amount,matched_by,bill_reference,bill_id,account_id,customer_id," +
			"bill_status,bill_amount_due,bill_amount_paid,bill_amount_remaining\n", true},
		{"Excel's own", "\xef\xbb\xbf" + strings.ReplaceAll(ownResults, ",", ";") + "\r\n", true},
		{"a sep= line", "sep=;\n" + strings.ReplaceAll(ownResults, ",", ";") + "\n", true},
		{"quoted", `"` + strings.ReplaceAll(ownResults, ",", `","`) + "\"\n", true},
		{"Unicode text", utf16le(strings.ReplaceAll(ownResults, ",", "\t") + "\r\n"), true},
		{"capitals", strings.ToUpper(ownResults) + "\n", true},

		{"a bill file", "bill_reference,amount_due,customer_reference\nA,1,C\n", false},
		{"a rejects file", "bill_reference,amount_due,customer_reference,error_code,error_detail\nA,1,C,,\n", false},
		{"some columns of results", "line,bill_reference,status,code,detail,amount_due,customer_reference\n", false},
		{"another order", "bill_reference,line,status,code,detail,bill_id,customer_id,account_id,currency,amount_due,attempts,idempotency_key\n", false},
		{"a longer name", ownResults + "s\n", false},
		{"nothing", "", false},
	} {
		if own, err := OwnReport(strings.NewReader(c.content)); err != nil || (own != nil) != c.own {
			t.Errorf("%s: %v, %v; want %v", c.name, own, err, c.own)
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(c.content)), nil }
		_, err := TakeSurvey(t.Context(), open, Format{Amounts: Minor, Currency: "ZAR"}, nil)
		var refused *FileError
		if is := errors.As(err, &refused) && refused.Code == CodeOwnReport; is != c.own {
			t.Errorf("%s: the survey returned %v", c.name, err)
		}
	}
	broken := errors.New("broken")
	if _, err := OwnReport(io.MultiReader(bytes.NewReader([]byte("a")), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }
