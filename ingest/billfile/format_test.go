package billfile

import (
	"strings"
	"testing"
)

func TestFormatValidate(t *testing.T) {
	bad := Format{Currency: "R", Currencies: []string{"zar"}, Delimiter: '#', Encoding: "latin1", DateFormat: "2006-01", PhoneRegion: "XX",
		Columns: map[string]string{"a": "bill", "A ": "amount_due"}, MaxAmountDue: -1, MaxFileSize: -1}
	err := bad.Validate()
	if err == nil {
		t.Fatal("a format of mistakes is valid")
	}
	for _, key := range []string{"amounts:", "currency:", "currencies:", "delimiter:", "encoding:", "date_format:", "phone_region:", "columns:", "max_amount_due:", "max_file_size:"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("nothing is said about %s", key)
		}
	}
	for _, layout := range []string{"2006-01-02", "02/01/2006", "2 Jan 2006", "20060102", "1/2/06"} {
		if err := checkDateFormat(layout); err != nil {
			t.Error(err)
		}
	}
}
