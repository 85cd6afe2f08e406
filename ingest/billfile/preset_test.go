package billfile

import (
	"strings"
	"testing"
)

func TestMomentDaily(t *testing.T) {
	s, all := records(t, dailyHeader+" Ann , Bee ,,8002295123085,0821234567,ann@example.com,2026-11-30,240.5\n,Bee,A1234567,,,,2026-11-30,1\n", daily)
	if len(all) != 2 || s.Invalid != 0 {
		t.Fatalf("got %+v", all)
	}
	b := all[0].Bill
	if b.Reference != "8002295123085-2026-11-30" || b.CustomerReference != "8002295123085" || b.CustomerName != "Ann Bee" ||
		b.CustomerPhone != "+27821234567" || b.CustomerEmail != "ann@example.com" || b.DueDate != "2026-11-30" || b.Amount != 24050 || b.AccountReference != "" {
		t.Errorf("got %+v", b)
	}
	if b := all[1].Bill; b.Reference != "A1234567-2026-11-30" || b.CustomerName != "Bee" || b.CustomerReference != "A1234567" {
		t.Errorf("got %+v", b)
	}
}

func TestPresetRows(t *testing.T) {
	for _, tt := range []struct{ row, codes string }{
		{"A,B,A1,8002295123085,,,2026-11-30,1", "sa_identification_number:ambiguous_party"},
		{"A,B,,,,,2026-11-30,1", "passport_number:missing_party"},
		{"A,B,, \t ,,,2026-11-30,1", "passport_number:missing_party"},
		{"A,B,A 1,,,,2026-11-30,1", "passport_number:invalid_reference"},
		{"A,B,1.5E+9,,,,2026-11-30,1", "passport_number:spreadsheet_damage"},
		{"A,B,,8002295123086,,,2026-11-30,1", "sa_identification_number:invalid_reference"},
		{"A,B,,8002305123082,,,2026-11-30,1", "sa_identification_number:invalid_reference"},
		{"A,B,,800229512308,,,2026-11-30,1", "sa_identification_number:invalid_reference"},
		{"A,B,,107310044089,,,2026-11-30,1", "sa_identification_number:spreadsheet_damage"},
		{"A,B,,800229 5123 085,,,2026-11-30,1", "sa_identification_number:spreadsheet_damage"},
		{"A,B,,８002295123085,,,2026-11-30,1", "sa_identification_number:invalid_reference"},
		{"A,B,,8002295123085\u200b,,,2026-11-30,1", "sa_identification_number:control_character"},
		{"A,B,,\u200b,,,2026-11-30,1", "sa_identification_number:control_character"},
		{"A,B,,8002295123085,,,,1", "due_date:missing_field"},
		{"A,B,,8002295123085,,,30.11.2026,1", "due_date:invalid_date"},
		{"#N/A,B,,8002295123085,,,2026-11-30,1", "first_name:spreadsheet_damage"},
		{strings.Repeat("é", 200) + "," + strings.Repeat("é", 55) + ",A1,,,,2026-11-30,1", "last_name:field_too_long"},
		{strings.Repeat("é", 200) + "," + strings.Repeat("é", 54) + ",A1,,,,2026-11-30,1", ""},
		{"A,B," + strings.Repeat("P", 255) + ",,,,2026-11-30,1", ":reference_too_long"},
		{"A,B," + strings.Repeat("P", 70000) + ",,,,2026-11-30,1", "passport_number:row_too_large"},
	} {
		_, all := records(t, dailyHeader+tt.row+"\n", daily)
		if got := codes(all[0]); got != tt.codes {
			t.Errorf("%.60s: got %q, want %q", tt.row, got, tt.codes)
		}
		for _, p := range all[0].Problems {
			for _, private := range []string{"8002", "800", "10731", "P", "A1", "A 1", "1.5E"} {
				if strings.Contains(p.Detail, private) && !strings.Contains(p.Detail, "YYMMDD") {
					t.Errorf("%.60s: the detail quotes it: %s", tt.row, p.Detail)
				}
			}
		}
	}
}

func TestPresetHeaders(t *testing.T) {
	mapped := daily
	mapped.Columns = map[string]string{"Surname": "last_name", "ID": "sa_identification_number", "Cell": "customer_phone"}
	for _, tt := range []struct {
		format       Format
		header, code string
	}{
		{daily, dailyHeader, ""},
		{daily, strings.ToUpper(dailyHeader), ""},
		{daily, "first_name,last_name,passport_number,due_date,amount_due\n", ""},
		{daily, "first_name,last_name,sa_identification_number,due_date,amount_due,currency,bill_date,metadata.branch\n", ""},
		{daily, "customer_name,sa_identification_number,due_date,amount_due\n", ""},
		{daily, "customer_name,sa_identification_number,amount_due,bill_reference\n", ""},
		{mapped, "first_name,surname,id,cell,due_date,amount_due\n", ""},
		{daily, "first_name,passport_number,due_date,amount_due\n", CodeMissingColumn},
		{daily, "first_name,last_name,due_date,amount_due\n", CodeMissingColumn},
		{daily, "first_name,last_name,passport_number,amount_due\n", CodeMissingColumn},
		{daily, "first_name,last_name,passport_number,due_date\n", CodeMissingColumn},
		{daily, "first_name,last_name,customer_name,passport_number,due_date,amount_due\n", CodeDuplicateColumn},
		{daily, "first_name,last_name,passport_number,Passport_Number,due_date,amount_due\n", CodeDuplicateColumn},
		{daily, "email,customer_email,first_name,last_name,passport_number,due_date,amount_due\n", CodeDuplicateColumn},
		{daily, "first_name,last_name,passport_number,due_date,amount_due,mobile\n", CodeUnknownColumn},
		{zar, "first_name,last_name,passport_number,due_date,amount_due\n", CodeMissingColumn},
	} {
		if tt.code == "" {
			survey(t, tt.header, tt.format)
		} else if got := refusal(t, tt.header, tt.format); got.Code != tt.code {
			t.Errorf("%s: got %v, want %s", tt.header, got, tt.code)
		}
	}
}

// The preset knows how its files write amounts, and nobody may say otherwise.
func TestPresetFormat(t *testing.T) {
	minor, major, unknown, broken := daily, daily, daily, daily
	minor.Amounts, major.Amounts = Minor, Major
	unknown.Preset = "moment-weekly"
	broken.BillReference = "{nothing}"
	for name, f := range map[string]Format{"amounts:": minor, "preset:": unknown, "bill_reference:": broken} {
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s got %v", name, err)
		}
	}
	for _, f := range []Format{daily, major} {
		if err := f.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// What only the whole file shows is counted alike in both passes, wherever the columns
// stand.
func TestPresetAcrossRows(t *testing.T) {
	text := "due_date,last_name,first_name,sa_identification_number,passport_number,amount_due\n" +
		"2026-11-30,Bee,Ann,8002295123085,,1\n2026-11-30,Bee,Ann,8002295123085,,1\n2026-12-31,Bee,Anna,8002295123085,,x\n2026-11-30,Cee,Bo,,A1,1\n2026-11-30,Cee,Bo,,A1,2\n2026-12-01,Cee,Bob,,A1,bad\n"
	_, all := records(t, text, daily)
	want := []string{
		"sa_identification_number:conflicting_party", ":duplicate_reference sa_identification_number:conflicting_party", "sa_identification_number:conflicting_party amount_due:invalid_amount",
		":contradicting_reference passport_number:conflicting_party", ":contradicting_reference passport_number:conflicting_party", "passport_number:conflicting_party amount_due:invalid_amount",
	}
	for i, r := range all {
		if got := codes(r); got != want[i] {
			t.Errorf("line %d: got %q, want %q", r.Line, got, want[i])
		}
		for _, p := range r.Problems {
			if strings.Contains(p.Detail, "8002") || strings.Contains(p.Detail, "A1") {
				t.Errorf("line %d: the detail quotes an identity number: %s", r.Line, p.Detail)
			}
		}
	}
}
