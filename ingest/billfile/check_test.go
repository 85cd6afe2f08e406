package billfile

import (
	"strings"
	"testing"
)

func TestRowCodes(t *testing.T) {
	major := zar
	major.Amounts = Major
	usual := zar
	usual.DateFormat = "02/01/2006"
	capped := zar
	capped.MaxAmountDue = 5000
	noDefault := zar
	noDefault.Currency = ""
	everywhere := zar
	everywhere.Currencies = nil
	everywhere.Amounts = Major
	for _, tt := range []struct {
		name   string
		format Format
		column string // "" = none is replaced
		cell   string
		want   string // "column:code …"; "" = valid
	}{
		{"plain", zar, "", "", ""},
		{"no reference", zar, "bill_reference", "", "bill_reference:missing_field"},
		{"space is blank", zar, "bill_reference", " \u00a0 ", "bill_reference:missing_field"},
		{"reference with space around", zar, "bill_reference", "  INV-1\t", ""},
		{"reference with no-break space around", zar, "bill_reference", "\u00a0INV-1\u202f", ""},
		{"reference with slash", zar, "bill_reference", "INV/1", "bill_reference:invalid_reference"},
		{"reference with space", zar, "bill_reference", "INV 1", "bill_reference:invalid_reference"},
		{"reference with umlaut", zar, "bill_reference", "INV-Ä", "bill_reference:invalid_reference"},
		{"reference of 255", zar, "bill_reference", strings.Repeat("a", 255), ""},
		{"reference of 256", zar, "bill_reference", strings.Repeat("a", 256), "bill_reference:reference_too_long"},
		{"reference shortened", zar, "bill_reference", "8.5E+12", "bill_reference:spreadsheet_damage"},
		{"reference shortened, no decimals", zar, "bill_reference", "8E+12", "bill_reference:spreadsheet_damage"},
		{"reference that looks shortened", zar, "bill_reference", "8E-12", ""},
		{"reference that looks shortened too", zar, "bill_reference", "12E5", ""},
		{"reference grouped", zar, "bill_reference", `"1,234,567"`, "bill_reference:spreadsheet_damage"},
		{"reference not available", zar, "bill_reference", "#N/A", "bill_reference:spreadsheet_damage"},
		{"amount blank", zar, "amount_due", "", "amount_due:missing_field"},
		{"amount 1", zar, "amount_due", "1", ""},
		{"amount leading zeros", zar, "amount_due", "000100", ""},
		{"amount 0", zar, "amount_due", "0", "amount_due:amount_out_of_range"},
		{"amount most", zar, "amount_due", "99999999", ""},
		{"amount too much", zar, "amount_due", "100000000", "amount_due:amount_out_of_range"},
		{"amount overflow", zar, "amount_due", "18446744073709551617", "amount_due:amount_out_of_range"},
		{"amount above the feed's limit", capped, "amount_due", "5001", "amount_due:amount_out_of_range"},
		{"amount at the feed's limit", capped, "amount_due", "5000", ""},
		{"amount with point", zar, "amount_due", "20.00", "amount_due:amount_not_minor"},
		{"amount negative", zar, "amount_due", "-5", "amount_due:invalid_amount"},
		{"amount in brackets", zar, "amount_due", "(5)", "amount_due:invalid_amount"},
		{"amount plus", zar, "amount_due", "+5", "amount_due:invalid_amount"},
		{"amount text", zar, "amount_due", "ten", "amount_due:invalid_amount"},
		{"amount hex", zar, "amount_due", "0x10", "amount_due:invalid_amount"},
		{"amount underscore", zar, "amount_due", "1_000", "amount_due:invalid_amount"},
		{"amount currency", zar, "amount_due", "R20", "amount_due:invalid_amount"},
		{"amount Arabic digits", zar, "amount_due", "٢٠٠٠", "amount_due:invalid_amount"},
		{"amount full-width digits", zar, "amount_due", "２０００", "amount_due:invalid_amount"},
		{"amount exponent", zar, "amount_due", "8.5E+12", "amount_due:spreadsheet_damage"},
		{"amount small exponent", zar, "amount_due", "1e3", "amount_due:spreadsheet_damage"},
		{"amount German", zar, "amount_due", `"1.234,56"`, "amount_due:spreadsheet_damage"},
		{"amount English", zar, "amount_due", `"1,234.56"`, "amount_due:spreadsheet_damage"},
		{"amount French", zar, "amount_due", `"1 234,56"`, "amount_due:spreadsheet_damage"},
		{"amount narrow space", zar, "amount_due", "1\u202f234", "amount_due:spreadsheet_damage"},
		{"amount Swiss", zar, "amount_due", "1'234.50", "amount_due:spreadsheet_damage"},
		{"amount comma", zar, "amount_due", `"20,00"`, "amount_due:spreadsheet_damage"},
		{"amount two points", zar, "amount_due", "1.234.567", "amount_due:spreadsheet_damage"},
		{"amount too narrow", zar, "amount_due", "######", "amount_due:spreadsheet_damage"},
		{"major", major, "amount_due", "20.00", ""},
		{"major, one decimal", major, "amount_due", "20.5", ""},
		{"major, no decimals", major, "amount_due", "20", ""},
		{"major, three decimals", major, "amount_due", "20.005", "amount_due:amount_precision"},
		{"major, three zeros", major, "amount_due", "20.000", "amount_due:amount_precision"},
		{"major, bare point", major, "amount_due", ".5", "amount_due:invalid_amount"},
		{"major, trailing point", major, "amount_due", "5.", "amount_due:invalid_amount"},
		{"major, nothing", major, "amount_due", "0.00", "amount_due:amount_out_of_range"},
		{"major, most", major, "amount_due", "999999.99", ""},
		{"major, too much", major, "amount_due", "1000000.00", "amount_due:amount_out_of_range"},
		{"currency lower case", zar, "currency", "usd", ""},
		{"currency unknown", zar, "currency", "ZZZ", "currency:invalid_currency"},
		{"currency sign", zar, "currency", "R", "currency:invalid_currency"},
		{"currency gold", zar, "currency", "XAU", "currency:invalid_currency"},
		{"currency of a neighbour", zar, "currency", "BWP", "currency:unsupported_currency"},
		{"currency blank, no default", noDefault, "currency", "", "currency:missing_field"},
		{"yen with decimals", everywhere, "currency", "JPY", ""},
		{"date", zar, "bill_date", "2026-02-28", ""},
		{"leap day", zar, "bill_date", "2024-02-29", ""},
		{"no leap day", zar, "bill_date", "2026-02-29", "bill_date:invalid_date"},
		{"no such day", zar, "due_date", "2026-04-31", "due_date:invalid_date"},
		{"no such month", zar, "due_date", "2026-13-01", "due_date:invalid_date"},
		{"short", zar, "due_date", "2026-1-31", "due_date:invalid_date"},
		{"slashes", zar, "due_date", "31/01/2026", "due_date:invalid_date"},
		{"serial", zar, "due_date", "46053", "due_date:invalid_date"},
		{"year 26", zar, "due_date", "0026-01-31", "due_date:date_out_of_range"},
		{"with time", zar, "due_date", "2026-01-31 00:00:00", "due_date:invalid_date"},
		{"other layout", usual, "due_date", "31/01/2026", ""},
		{"other layout, swapped", usual, "due_date", "01/31/2026", "due_date:invalid_date"},
		{"other layout, no zero", usual, "due_date", "1/01/2026", "due_date:invalid_date"},
		{"date shortened", zar, "due_date", "4.6E+04", "due_date:spreadsheet_damage"},
		{"mail", zar, "customer_email", "ann.o'neil+x@mail.example.co.za", ""},
		{"mail undotted", zar, "customer_email", "a@b", "customer_email:invalid_email"},
		{"mail with name", zar, "customer_email", "Ann <ann@example.com>", "customer_email:invalid_email"},
		{"mail in brackets", zar, "customer_email", "<ann@example.com>", "customer_email:invalid_email"},
		{"two mails", zar, "customer_email", `"a@example.com,b@example.com"`, "customer_email:invalid_email"},
		{"mail dots", zar, "customer_email", "a..b@example.com", "customer_email:invalid_email"},
		{"mail end", zar, "customer_email", "a@example.com.", "customer_email:invalid_email"},
		{"mail long", zar, "customer_email", strings.Repeat("a", 250) + "@example.com", "customer_email:field_too_long"},
		{"phone", zar, "customer_phone", "0821234567", ""},
		{"phone spaced", zar, "customer_phone", "082 123 4567", ""},
		{"phone international", zar, "customer_phone", "+27821234567", ""},
		{"phone 00", zar, "customer_phone", "0027821234567", ""},
		{"phone abroad", zar, "customer_phone", "+4915112345678", ""},
		{"phone stripped of its zero", zar, "customer_phone", "821234567", ""},
		{"phone short", zar, "customer_phone", "82123456", "customer_phone:invalid_phone"},
		{"phone short, with zero", zar, "customer_phone", "082123456", "customer_phone:invalid_phone"},
		{"phone short, international", zar, "customer_phone", "+2782123456", "customer_phone:invalid_phone"},
		{"phone long", zar, "customer_phone", "08212345678", "customer_phone:invalid_phone"},
		{"phone extension", zar, "customer_phone", "0211234567 ext 12", "customer_phone:invalid_phone"},
		{"phone extension x", zar, "customer_phone", "0211234567x12", "customer_phone:invalid_phone"},
		{"phone letters", zar, "customer_phone", "0800CALLME", "customer_phone:invalid_phone"},
		{"phone shortened", zar, "customer_phone", "2.78212E+10", "customer_phone:spreadsheet_damage"},
		{"phone unknown", zar, "customer_phone", "+999123456789", "customer_phone:invalid_phone"},
		{"account id", zar, "account_id", "bacc_Ab12", ""},
		{"account id of a customer", zar, "account_id", "bcus_Ab12", "account_id:invalid_id"},
		{"account id bare", zar, "account_id", "bacc_", "account_id:invalid_id"},
		{"name of 255", zar, "customer_name", strings.Repeat("é", 255), ""},
		{"name of 256", zar, "customer_name", strings.Repeat("é", 256), "customer_name:field_too_long"},
		{"name not available", zar, "account_name", "#REF!", "account_name:spreadsheet_damage"},
		{"note of 500", zar, "metadata.note", strings.Repeat("é", 500), ""},
		{"note of 501", zar, "metadata.note", strings.Repeat("é", 501), "metadata.note:invalid_metadata"},
		{"zero-width", zar, "bill_reference", "INV\u200b-1", "bill_reference:control_character"},
		{"zero-width at the edge", zar, "bill_reference", "\u200bINV-1", "bill_reference:control_character"},
		{"two things wrong with one field", zar, "bill_reference", "INV\u200b 1", "bill_reference:control_character bill_reference:invalid_reference"},
		{"bidirectional", zar, "customer_name", "A\u202enn", "customer_name:control_character"},
		{"tab", zar, "customer_name", "A\tnn", "customer_name:control_character"},
		{"bell", zar, "customer_name", "A\ann", "customer_name:control_character"},
		{"delete", zar, "customer_name", "A\x7fnn", "customer_name:control_character"},
		{"C1", zar, "customer_name", "A\u0085nn", "customer_name:control_character"},
		{"line separator", zar, "customer_name", "A\u2028nn", "customer_name:control_character"},
		{"byte order mark", zar, "customer_name", "\ufeffAnn", "customer_name:control_character"},
		{"damaged before", zar, "customer_name", "M\ufffdller", "customer_name:control_character"},
		{"line break", zar, "customer_name", "\"Ann\nBee\"", "customer_name:control_character"},
		{"accents are fine", zar, "customer_name", "Zoë Müller-Ngũgĩ 王", ""},
		{"no party", zar, "customer_reference", "", "account_reference:missing_party"},
		{"two customers", zar, "customer_id", "bcus_1", "customer_id:ambiguous_party"},
		{"account beside", zar, "account_reference", "A1", ""},
		{"bare quote", zar, "customer_name", `Ann "Bee"`, "customer_name:bare_quote"},
		{"quote inside quotes", zar, "customer_name", `"Ann "Bee""`, "customer_name:bare_quote"},
		{"quotes doubled", zar, "customer_name", `"Ann ""Bee"""`, ""},
		{"a field too many", zar, "customer_name", "Bee,Ann", ":wrong_field_count"},
		{"a field of 70 KB", zar, "customer_name", strings.Repeat("x", 70_000), "customer_name:row_too_large"},
		{"a row of 2 MB", zar, "customer_name", strings.Repeat("x", 2_000_000), ":row_too_large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, all := records(t, rowHeader+row(map[string]string{tt.column: tt.cell}), tt.format)
			if len(all) != 1 {
				t.Fatalf("got %d records, want 1", len(all))
			}
			if got := codes(all[0]); got != tt.want {
				t.Errorf("got %q, want %q (%+v)", got, tt.want, all[0].Problems)
			}
			for _, p := range all[0].Problems {
				if p.Line != 2 || p.Row != 1 {
					t.Errorf("got line %d, row %d, want 2, 1", p.Line, p.Row)
				}
				if p.Column != "" && !strings.Contains(p.Detail, p.Column) && p.Code != CodeMissingParty {
					t.Errorf("detail %q does not name its column %s", p.Detail, p.Column)
				}
				if strings.ContainsFunc(p.Detail, func(r rune) bool { return r < ' ' || invisibleName(r) != "" }) || len(p.Detail) > 500 {
					t.Errorf("detail %q is not fit to be shown", p.Detail)
				}
			}
		})
	}
}

func TestAllProblemsInColumnOrder(t *testing.T) {
	text := "due_date,bill_date,customer_phone,amount_due,bill_reference,customer_id,customer_reference\n" +
		"2026-01-01,2026-01-02,12,1.5,A B,bcus_1,C1\n"
	_, all := records(t, text, zar)
	want := "due_date:due_before_bill_date customer_phone:invalid_phone amount_due:amount_not_minor bill_reference:invalid_reference customer_reference:ambiguous_party"
	if got := codes(all[0]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBillIsNormalised(t *testing.T) {
	f := zar
	f.Amounts, f.DateFormat = Major, "02/01/2006"
	_, all := records(t, rowHeader+" INV-1 ,20.5, usd ,01/02/2026,28/02/2026,A1,,C1,, Main , Ann Bee ,ann@example.com,082 123 4567, hello \n", f)
	got := all[0].Bill
	want := Bill{
		Reference: "INV-1", Currency: "USD", Amount: 2050, BillDate: "2026-02-01", DueDate: "2026-02-28",
		AccountReference: "A1", CustomerReference: "C1", AccountName: "Main", CustomerName: "Ann Bee",
		CustomerEmail: "ann@example.com", CustomerPhone: "+27821234567", Metadata: []Pair{{"note", "hello"}},
	}
	if len(all[0].Problems) > 0 || ContentDigest(&got) != ContentDigest(&want) {
		t.Errorf("got %+v, problems %v, want %+v", got, all[0].Problems, want)
	}
}

func TestMetadataLimit(t *testing.T) {
	header, full, some := "bill_reference,amount_due,customer_id", "A,1,bcus_1", "B,1,bcus_1"
	for i := range 21 {
		header += ",metadata.K" + string(rune('a'+i))
		full += ",x"
		if i == 3 {
			some += ","
		} else {
			some += ",x"
		}
	}
	_, all := records(t, header+"\n"+full+"\n"+some+"\n", zar)
	if got := codes(all[0]); got != "metadata.Ku:invalid_metadata" {
		t.Errorf("21 values: got %q", got)
	}
	if got := codes(all[1]); got != "" || len(all[1].Bill.Metadata) != 20 || all[1].Bill.Metadata[0] != (Pair{"Ka", "x"}) {
		t.Errorf("20 values: got %q, %v", got, all[1].Bill.Metadata)
	}
}

// Nothing personal gets into a detail, whatever is wrong with the row, and whatever
// stands in the columns beside.
func TestDetailsHoldNoPersonalData(t *testing.T) {
	personal := map[string]string{
		"customer_name": "Canary Name", "account_name": "Canary Account", "customer_email": "canary@mail",
		"customer_phone": "0999123", "metadata.note": "Canary\u200bNote",
	}
	for _, bad := range []map[string]string{
		{"amount_due": "x"}, {"bill_reference": "A B"}, {"due_date": "x"}, {"currency": "x"}, {"customer_reference": ""},
		{"amount_due": "canary@mail"}, {"bill_reference": "canary@mail"}, {"due_date": "Canary Name"}, {"currency": "Canary Name"},
		{"amount_due": "+27829991234"}, {"account_id": "Canary Name"},
	} {
		cells := map[string]string{}
		for k, v := range personal {
			cells[k] = v
		}
		for k, v := range bad {
			cells[k] = v
		}
		_, all := records(t, rowHeader+row(cells)+row(personal)+row(map[string]string{"customer_name": "Other Canary"})+row(cells)[2:]+"\"Canary\" Name,"+row(personal), zar)
		problems := 0
		for _, r := range all {
			for _, p := range r.Problems {
				problems++
				for _, word := range []string{"Canary", "canary", "0999123", "9991234"} {
					if strings.Contains(p.Detail, word) {
						t.Errorf("%v: %s: detail %q", bad, p.Code, p.Detail)
					}
				}
			}
		}
		if problems < 10 {
			t.Errorf("%v: only %d problems found, the test tests nothing", bad, problems)
		}
	}
}
