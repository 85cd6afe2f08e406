package billfile

import (
	"slices"
	"strings"
	"testing"
)

// kinds are what real files showed: of each kind several forms, and look-alikes that are accepted.
// A row of rowHeader has the cell in the column; the code is the column's.
var kinds = []struct {
	name     string
	column   string
	code     string
	says     string // in every detail
	saysNot  string // in none
	format   func(*Format)
	refused  []string
	accepted []string
}{
	{
		name: "words for nothing as a customer's reference", column: "customer_reference", code: CodePlaceholderValue, says: "leave the cell blank",
		refused: []string{
			"NULL", "null", "Null", `\N`, `\n`, "None", "none", "nan", "NaN", "NaT", "nil", "undefined", "(null)", "<NA>", "N/A", "n/a", "NA", "-", "--", "---", "_", "__", "-_-", "?", "...", "…", "—", "*",
		},
		accepted: []string{"NULL1", "C-NULL", "None-Such", "nanna", "Nilsson", "UNDEFINED-1", "0", "-1", "N-A"},
	},
	{
		name: "words for nothing as an account's reference", column: "account_reference", code: CodePlaceholderValue, says: "empty cell",
		refused: []string{"NULL", `\N`, "nan", "None", "(null)", "undefined", "DBNull"}, accepted: []string{"NULLABOR", "ANNA", "null-7"},
	},
	{
		name: "words for nothing as a bill's reference", column: "bill_reference", code: CodePlaceholderValue, says: "write the bill's reference",
		refused: []string{"NULL", "n/a", "NaN", "-", "None", "nil"}, accepted: []string{"NULL-1", "none1", "A-"},
	},
	{
		name: "words for nothing as a name", column: "customer_name", code: CodePlaceholderValue, says: "leave the cell blank",
		refused: []string{"NULL", `\N`, "nan", "NaN", "None", "(null)"}, accepted: []string{"Null", "None Such", "null", "Nan", "N/A", "-", "NONE", "Christopher Null"},
	},
	{
		name: "words for nothing as a note", column: "metadata.note", code: CodePlaceholderValue, says: "leave the cell blank",
		refused: []string{"NULL", `\N`, "nan", "NaN", "None", "(null)"}, accepted: []string{"none", "n/a", "null", "-", "None paid"},
	},
	{
		name: "beginnings of Moment's ids", column: "customer_reference", code: CodeReservedReference, says: "as Moment's own ids do",
		refused: []string{"bcus_1", "bacc_1", "bill_1", "bill_", "bill_2026-11"}, accepted: []string{"BILL_1", "billing-1", "bacc1", "x_bill_1", "BCUS-1"},
	},
	{
		name: "beginnings of Moment's ids in bills", column: "bill_reference", code: CodeReservedReference, says: "begins with",
		refused: []string{"bill_1", "bill_2026", "bacc_7", "bcus_7", "bill_x-1"}, accepted: []string{"Bill_1", "bill-1"},
	},
	{
		name: "phone numbers as decimal numbers", column: "customer_phone", code: CodeSpreadsheetDamage, says: "format the column as text", format: func(f *Format) { f.PhoneRegion = "NA" },
		refused:  []string{"61224567.0", "811234567.0", "+264811234567.0", "264811234567.00", "0811234567.0", `"61224567,0"`},
		accepted: []string{"061 224567", "061.224.567", "+264 81 123 4567", "0811234567"},
	},
	{
		name: "credits", column: "amount_due", code: CodeInvalidAmount, says: "leave this row out", saysNot: "sign",
		refused: []string{
			"1500-", "-1500", "−1500", "–1500", "—1500", "(1500)", "(1500.00)", "<1500>", "[1500]", "1500 CR", "1500CR", "1500 Cr", "CR1500", "CR 1500", "1500 cr.", "R-1500", "-R1500", "R -1500", "1500 -", "- 1500", "R1500CR",
			`"-1,500.00"`, `"(1,500.00)"`, `"1,500.00-"`, `"-1.500,00"`, "-1500.5", "－1500", "1 500-", "1500 credit", "-8.5E+03",
		},
		accepted: []string{"1500", "01500"},
	},
	{
		name: "no credits", column: "amount_due", code: CodeInvalidAmount, saysNot: "credit",
		refused: []string{"R1500", "+1500", "1500 ZAR", "1500-2000", "ten", "1500 cents"}, accepted: []string{"1500"},
	},
	{
		name: "credits in a feed of rands", column: "amount_due", code: CodeInvalidAmount, says: "leave this row out", format: func(f *Format) { f.Amounts = Major },
		refused: []string{"-15.00", "15.00-", "(15.00)", "−15.00", "15.00 CR", "R-15.00"}, accepted: []string{"15.00", "15"},
	},
	{
		name: "failed formulas as names", column: "customer_name", code: CodeSpreadsheetDamage, says: "correct the formula",
		refused: []string{
			"#ERROR!", "#NV", "#BEZUG!", "#VALEUR!", "#FIELD!", "Err:508", "Err:502", "err:522", "Fehler:508", "Loading...", "Loading…", "#N/A", "#n/a", "#REF!", "#¡REF!", "#¿NOMBRE?", "#NOM?", "#WERT!", "#ИМЯ?", "#Н/Д", "#DIV/0!",
			"#SPILL!", "#CALC!", "#BLOCKED!", "#CONNECT!", "#GETTING_DATA", "#####", "#NAME?", "#N/D", "#ZAHL!", "#VÄRDEFEL!", "#UNKNOWN!",
		},
		accepted: []string{"#1 Street", "#7", "#Winning!", "Err 508 Trading", "Err:12", "Loading Bay Ltd", "Loading...Dock", "#NVIDIA", "Apt #4!", "#", "##"},
	},
	{
		name: "failed formulas as references", column: "customer_reference", code: CodeSpreadsheetDamage, says: "correct the formula",
		refused: []string{"#ERROR!", "#NV", "Err:508", "Loading...", "#BEZUG!", "#N/A"}, accepted: []string{"NV", "ERROR", "Err-508"},
	},
	{
		name: "months in any letter case", column: "due_date", code: CodeInvalidDate, says: "31-Jan-26", format: func(f *Format) { f.DateFormat = "02-Jan-06" },
		refused: []string{"30-11-26", "31-NOV-26", "30-NOV-2026", "3-NOV-26", "30-OKT-26"}, accepted: []string{"30-NOV-26", "30-Nov-26", "30-nov-26", "01-JAN-27"},
	},
	{
		name: "years far off", column: "due_date", code: CodeDateOutOfRange, says: "2000 to 2099",
		refused: []string{"1926-11-30", "0026-11-30", "0001-01-01", "1899-12-30", "1900-01-01", "1970-01-01", "1999-12-31", "2100-01-01", "9999-12-31", "2206-11-30"}, accepted: []string{"2000-01-01", "2099-12-31", "2026-11-30"},
	},
	{
		name: "years far off in two digits", column: "due_date", code: CodeDateOutOfRange, says: "2000 to 2099", format: func(f *Format) { f.DateFormat = "02-Jan-06" },
		refused: []string{"30-Nov-69", "30-NOV-75", "01-Jan-99", "01-Jan-70", "31-Dec-98"}, accepted: []string{"30-Nov-00", "30-Nov-68"},
	},
	{
		name: "moments", column: "due_date", code: CodeInvalidDate, says: "write the local date", saysNot: "write it as",
		refused: []string{
			"2026-11-30T22:00:00.000Z", "2026-11-30T22:00:00Z", "2026-11-30T22:00Z", "2026-11-30T22:00:00+00:00", "2026-11-30 22:00:00 UTC", "2026-11-30T22:00:00.000+0000", "20261130T220000Z", "2026-11-30 22:00:00", "2026-11-30T22:00:00",
			"1796076000", "1796076000000",
		},
		accepted: []string{"2026-11-30", "2026-12-01"},
	},
	{
		name: "mail domains", column: "customer_email", code: CodeInvalidEmail, says: "name@example.com",
		refused: []string{
			"ann@gmail.com!", "ann@gmail_x.com", "ann@-gmail.com", "ann@gmail-.com", "ann@gmail.c", "ann@gmail.123", "ann@gmail.com?", "ann@gma$il.com", "ann@gmail.com'", "ann@1.2", "ann@gmail..com", "ann@#.com", "ann@" + strings.Repeat("a", 64) + ".com",
			strings.Repeat("a", 65) + "@gmail.com",
		},
		accepted: []string{"ann@gmail.com", "ann@xn--bcher-kva.example", "ann@bücher.example", "ann@3m.com", "ann@a-b.co.za", "ann@mail.123.co.za", "ann!@gmail.com", "o'neil@a.io"},
	},
	{
		name: "phone numbers with the spaces and dashes of typographers", column: "customer_phone", code: CodeInvalidPhone, says: "write all its digits",
		refused: []string{"082 123 456", "082–123–45678", "082•123•4567", "082_123_4567", "+27 82 123 456"},
		accepted: []string{
			"082\u00a0123\u00a04567", "082\u202f123\u202f4567", "082\u2009123\u20094567", "082–123–4567", "082—123—4567", "082‑123‑4567", "082‐123‐4567", "082−123−4567", "+27\u00a082\u00a0123\u00a04567", "082\u3000123\u30004567", "(082)\u00a0123\u20134567",
		},
	},
	{
		name: "amounts with a decimal comma", column: "amount_due", code: CodeInvalidAmount, says: "1234,56", format: func(f *Format) { f.Amounts, f.DecimalComma = Major, true },
		refused:  []string{"1234.56", `",5"`, `"5,"`, `"R 12,50"`, "12.5", "1.234"},
		accepted: []string{`"1234,56"`, `"1 234,56"`, "\"1\u00a0234,56\"", "\"1\u202f234,56\"", "1234", "1 234", `"0,5"`},
	},
	{
		name: "amounts with a spreadsheet's separators in a feed with a decimal comma", column: "amount_due", code: CodeSpreadsheetDamage, says: "1234,56", format: func(f *Format) { f.Amounts, f.DecimalComma = Major, true },
		refused:  []string{`"1.234,56"`, `"1,234.56"`, "1.234.567", `"1'234,56"`, `"1 23,45"`, `"1  234,56"`, `"1234,5,6"`, `"12 34,50"`},
		accepted: []string{`"234 567,56"`},
	},
	{
		name: "amounts with a point in a feed of cents", column: "amount_due", code: CodeAmountNotMinor, says: "write",
		refused: []string{"15000.0", "240.00", "240.5", "10.955", "0.5", "1.0"}, accepted: []string{"15000", "240"},
	},
}

func TestKinds(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			if len(k.refused) < 5 || len(k.accepted) < 1 {
				t.Errorf("%d forms, %d look-alikes", len(k.refused), len(k.accepted))
			}
			f := zar
			if k.format != nil {
				k.format(&f)
			}
			for _, cell := range k.refused {
				_, all := records(t, rowHeader+row(map[string]string{k.column: cell}), f)
				if got := codes(all[0]); got != k.column+":"+k.code {
					t.Errorf("%s: got %q, want %s", cell, got, k.code)
					continue
				}
				detail := all[0].Problems[0].Detail
				if !strings.Contains(detail, k.says) || k.saysNot != "" && strings.Contains(detail, k.saysNot) {
					t.Errorf("%s: %s", cell, detail)
				}
				t.Logf("%s: %s", cell, detail)
			}
			for _, cell := range k.accepted {
				if _, all := records(t, rowHeader+row(map[string]string{k.column: cell}), f); len(all) != 1 || len(all[0].Problems) > 0 {
					t.Errorf("%s is refused: %+v", cell, all)
				}
			}
		})
	}
}

// What the advice says about an amount with a point is right by its digits.
func TestAdviceOnAmountsWithPoint(t *testing.T) {
	for cell, want := range map[string][]string{
		"15000.0": {"write 1500000;", "15000 minor units, write 15000;"}, "240.00": {"write 24000;", "240 minor units, write 240;"},
		"240.5": {"write 24050;"}, "0010.95": {"write 1095;"}, "7.00": {"write 700;", "7 minor units, write 7;"},
	} {
		_, detail := parseAmount(cell, Minor, 2, maxAmount)
		for _, part := range want {
			if !strings.Contains(detail.detail, part) {
				t.Errorf("%s: %s", cell, detail.detail)
			}
		}
		if strings.Contains(detail.detail, "minor units, write") != (len(want) > 1) {
			t.Errorf("%s: %s", cell, detail.detail)
		}
	}
	if v, f := parseAmount("1500000.00", Major, 2, maxAmount); v != 150_000_000 || f.code != CodeAmountOutOfRange {
		t.Errorf("an amount out of range: %d, %v", v, f)
	}
}

// rowsOf is a file of head with these rows.
func rowsOf(rows ...string) string { return head + strings.Join(rows, "\n") + "\n" }

func TestTotalRow(t *testing.T) {
	lax := zar
	lax.AllowTotalRow = true
	long := []string{"A,100,C", "B,200,C", "C,300,C"}
	for _, tt := range []struct {
		name   string
		format Format
		last   string
		others []string
		want   string
	}{
		{"the sum, and named so", zar, "Total,600,3", long, ":total_row"},
		{"the sum alone", zar, "D,600,C", long, ":total_row"},
		{"the sum, invalid rows included", zar, "D,700,C", append(slices.Clone(long), "E/1,100,C"), ":total_row"},
		{"named alone", zar, "TOTAL,5,C", long, ":total_row"},
		{"named, without an amount", zar, "total,,", long, ":total_row amount_due:missing_field customer_reference:missing_party"},
		{"named with more behind", zar, "Total: 3 rows,600,C", long, ":total_row bill_reference:invalid_reference"},
		{"named with a dash", zar, "TOTAL-2026,600,C", long, ":total_row"},
		{"more than a bill may be", zar, "D,150000000,C", []string{"A,50000000,C", "B,50000000,C", "C,50000000,C"}, ":total_row amount_due:amount_out_of_range"},
		{"with too few cells", zar, "Total,600", long, ":total_row :wrong_field_count"},
		{"allowed", lax, "Total,600,C", long, ""},
		{"three rows, the sum by chance", zar, "C,300,C", long[:2], ""},
		{"not the sum", zar, "D,601,C", long, ""},
		{"a word that begins so", zar, "TOTALGAZ-1,5,C", long, ""},
		{"total inside", zar, "SUBTOTAL-1,5,C", long, ""},
		{"nothing to add up", zar, "D,x,C", []string{"A,x,C", "B,y,C", "C,z,C"}, "amount_due:invalid_amount"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			survey, all := records(t, rowsOf(append(slices.Clone(tt.others), tt.last)...), tt.format)
			if got := codes(all[len(all)-1]); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, r := range all[:len(all)-1] {
				if strings.Contains(codes(r), CodeTotalRow) {
					t.Errorf("line %d is taken for a total", r.Line)
				}
			}
			if n := survey.Codes[CodeTotalRow]; n != strings.Count(tt.want, CodeTotalRow) {
				t.Errorf("%d total rows counted", n)
			}
		})
	}
	// A total in the middle, and one that two rows repeat, so that the file is read three times.
	_, all := records(t, rowsOf("A,100,C", "Total,100,C", "A,100,C", "D,300,C"), zar)
	if got := codes(all[3]); got != ":total_row" || codes(all[1]) != "" {
		t.Errorf("got %q, %q", got, codes(all[1]))
	}
	// In a rejects file the row stays refused, however few others there are, until its verdict
	// is cleared.
	text := "bill_reference,amount_due,customer_reference,error_code,error_detail\nTotal,600,C,total_row,x\nB,2,C,,\n"
	if _, all = records(t, text, zar); codes(all[0]) != ":total_row" || codes(all[1]) != "" {
		t.Errorf("got %q, %q", codes(all[0]), codes(all[1]))
	}
	if _, all = records(t, text, lax); codes(all[0]) != "" {
		t.Errorf("got %q", codes(all[0]))
	}
}

func TestEmptyRowsAreBlankLines(t *testing.T) {
	for _, line := range []string{",,", " , ,\t", `"","",""`, `"",,`, `" ", ,`, ",", ",,,,", "\u00a0,,", "\t,,"} {
		s, all := records(t, rowsOf("A,1,C", line, "B,1,C")+line+"\r\n", zar)
		if len(all) != 2 || s.Lines.Blank != 2 || all[1].Line != 4 || all[1].Row != 2 {
			t.Errorf("%q: %d rows, lines %+v", line, len(all), s.Lines)
		}
	}
	for _, line := range []string{",,C", `"""",,`, `",",,`, "0,,", ".,,", ",-,"} {
		if s, all := records(t, rowsOf("A,1,C", line), zar); len(all) != 2 || s.Lines.Blank != 0 || len(all[1].Problems) == 0 {
			t.Errorf("%q: %d rows, lines %+v", line, len(all), s.Lines)
		}
	}
}

func TestShortRows(t *testing.T) {
	short := zar
	short.ShortRows = true
	const header = "bill_reference,amount_due,customer_reference,customer_name,metadata.note\n"
	for text, want := range map[string]string{
		"A,1,C,Ann,x": "", "A,1,C,Ann": "", "A,1,C": "", "A,1": "customer_reference:missing_party", "A": "amount_due:missing_field customer_reference:missing_party",
		"A,1,C,Ann,x,y": ":wrong_field_count",
	} {
		if _, all := records(t, header+text+"\n", short); codes(all[0]) != want {
			t.Errorf("%s: got %q, want %q", text, codes(all[0]), want)
		}
		if _, all := records(t, header+text+"\n", zar); (codes(all[0]) == "") != (text == "A,1,C,Ann,x") && text != "A,1,C" {
			t.Errorf("%s: got %q where short rows are refused", text, codes(all[0]))
		}
	}
}

func TestNamelessColumns(t *testing.T) {
	ignoring := zar
	ignoring.IgnoreColumns = []string{""}
	for _, text := range []string{
		"bill_reference,amount_due,customer_reference,\nA,1,C,\n", "bill_reference,amount_due,customer_reference,,,\nA,1,C,,,\nB,1,C, ,\u00a0,\n",
		",bill_reference,amount_due,customer_reference\n,A,1,C\n", "bill_reference,,amount_due,customer_reference\nA,\"\",1,C\n", "bill_reference;amount_due;customer_reference;\nA;1;C;\n",
	} {
		if _, all := records(t, text, zar); len(all[0].Problems) > 0 {
			t.Errorf("%q: %v", text, all[0].Problems)
		}
	}
	text := "bill_reference,amount_due,customer_reference,\nA,1,C,\nB,1,C,x\n"
	if bad := refusal(t, text, zar); bad.Code != CodeUnknownColumn || !strings.Contains(bad.Detail, `ignore_columns: [""]`) || bad.Line != 3 {
		t.Errorf("got %+v", bad)
	}
	if _, all := records(t, text, ignoring); len(all[1].Problems) > 0 {
		t.Errorf("ignored: %v", all[1].Problems)
	}
}

// Names that look the same do not conflict, and others do.
func TestNamesAsSeen(t *testing.T) {
	const header = "bill_reference,amount_due,customer_reference,customer_name,account_reference,account_name\n"
	for _, pair := range [][2]string{{"Zoë", "Zoe\u0308"}, {"Ann Bee", "Ann  Bee"}, {"Ann Bee", "Ann\u00a0Bee"}, {"Ångström", "A\u030angstro\u0308m"}, {"Ann Bee", "Ann \u2009Bee"}, {"Ann  Bee", "Ann   Bee"}} {
		_, all := records(t, header+"A,1,C,"+pair[0]+",X,"+pair[0]+"\nB,1,C,"+pair[1]+",X,"+pair[1]+"\n", zar)
		for i, r := range all {
			if len(r.Problems) > 0 || r.Bill.CustomerName != pair[i] {
				t.Errorf("%q: %q, %v", pair, r.Bill.CustomerName, r.Problems)
			}
		}
		_, all = records(t, header+"A,1,C,"+pair[0]+",X,\nA,1,C,"+pair[1]+",X,\n", zar)
		if got := codes(all[1]); got != "bill_reference:duplicate_reference" {
			t.Errorf("%q: the same bill again: %q", pair, got)
		}
	}
	for _, pair := range [][2]string{{"Zoë", "Zoe"}, {"Ann Bee", "AnnBee"}, {"Ann", "ann"}} {
		_, all := records(t, header+"A,1,C,"+pair[0]+",X,\nB,1,C,"+pair[1]+",X,\n", zar)
		if got := codes(all[0]); got != "customer_reference:conflicting_party" {
			t.Errorf("%q: %q", pair, got)
		}
	}
}

func TestUTF8InWesternFeed(t *testing.T) {
	western := zar
	western.Encoding = "windows-1252"
	const header = "bill_reference,amount_due,customer_reference,customer_name\nA,1,C,Ann\n"
	for _, name := range []string{"Zoë", "Müller", "José", "Ítalo", "Łukasz", "Nkosi’s", "5 €", "İpek", "Иван", "王", "André–Marie", "Ü", "📞"} {
		bad := refusal(t, header+"B,1,D,"+name+"\n", western)
		if bad.Code != CodeUndecodable || bad.Line != 3 || !strings.Contains(bad.Detail, "UTF-8") {
			t.Errorf("%s: got %+v", name, bad)
		}
	}
	for _, name := range []string{"Zo\xeb", "M\xfcller", "CAF\xc9\x94", "SPA\xdf\x93", "\x93CAF\xc9\x94 GROUP", "S\xc3O PAULO", "\xc0 la carte", "\xd6\x96 Bau", "na\xefve \x80 5", "na\xefve\x85"} {
		if _, all := records(t, header+"B,1,D,"+name+"\n", western); len(all[1].Problems) > 0 {
			t.Errorf("%q: %v", name, all[1].Problems)
		}
	}
}

func TestWarnings(t *testing.T) {
	const header = "bill_reference,amount_due,customer_reference,customer_name\n"
	one := func(cell string) string { return header + "A,1,C,Ann\nB,1,D," + cell + "\nE,1,D," + cell + "\n" }
	for _, cell := range []string{"ZoÃ«", "MÃ¼ller", "JosÃ©", "Nkosiâ€™s", "Â£5", "AndrÃ© Botha", "RenÃ©e", "â‚¬ 5", "Ð˜Ð²Ð°Ð½", "BjÃ¶rn"} {
		s := survey(t, one(cell), zar)
		if len(s.Warnings) != 1 || s.Warnings[0].Code != WarnMojibake || s.Warnings[0].Count != 2 || s.Warnings[0].Line != 3 {
			t.Errorf("%s: %+v", cell, s.Warnings)
		}
	}
	for _, cell := range []string{"Smith &amp; Sons", "O&#39;Neil", "O&#x27;Neil", "Zo&euml;", "A &lt; B", "Ann&nbsp;Bee"} {
		s := survey(t, one(cell), zar)
		if len(s.Warnings) != 1 || s.Warnings[0].Code != WarnHTMLEntity || s.Warnings[0].Count != 2 || s.Warnings[0].Line != 3 {
			t.Errorf("%s: %+v", cell, s.Warnings)
		}
	}
	for _, cell := range []string{"Zoë", "SÃO PAULO", "Smith & Sons", "A&B; C", "R&D", "“CAFÉ”", "Ann Ä.", "À la carte", "naïve…", "AT&T;", "& ;", "Ñandú"} {
		if s := survey(t, one(cell), zar); len(s.Warnings) > 0 && cell != "AT&T;" {
			t.Errorf("%s: %+v", cell, s.Warnings)
		}
	}
	for _, refs := range [][]string{{"inv-1", "INV-1"}, {"Inv-1", "iNV-1"}, {"x1", "y", "X1"}, {"abc", "ABC", "Abc"}, {"A", "b", "c", "B", "a"}} {
		text := head
		for _, ref := range refs {
			text += ref + ",1,C\n"
		}
		s := survey(t, text, zar)
		if len(s.Warnings) != 1 || s.Warnings[0].Code != WarnSimilarReferences || s.Warnings[0].Line != 2 || s.Invalid > 0 {
			t.Errorf("%v: %+v", refs, s.Warnings)
		}
	}
	for _, refs := range [][]string{{"inv-1", "inv-2"}, {"INV-1", "INV-2"}, {"a", "á"}, {"a-1", "A_1"}} {
		text := head
		for _, ref := range refs {
			text += ref + ",1,C\n"
		}
		if s := survey(t, text, zar); len(s.Warnings) > 0 {
			t.Errorf("%v: %+v", refs, s.Warnings)
		}
	}
	s := survey(t, rowsOf("A,1,C", "A,1,C", "a,1,C", "B,2,C", "A,1,C"), zar)
	if len(s.Warnings) != 2 || s.Warnings[1] != (Warning{WarnDuplicateRow, 2, 3, s.Warnings[1].Detail}) || s.Warnings[0].Count != 4 {
		t.Errorf("duplicates: %+v", s.Warnings)
	}
}

func TestHeaderHints(t *testing.T) {
	daily := Format{Preset: "moment-daily", Currency: "ZAR"}
	for _, tt := range []struct {
		text, code, says string
		format           Format
	}{
		{"\"bill_reference,amount_due,customer_reference\"\n\"A,1,C\"\n", CodeMissingColumn, "in quotation marks as a whole", zar},
		{"\"bill_reference;amount_due;customer_reference\"\n", CodeMissingColumn, "in quotation marks as a whole", zar},
		{"Bill Reference,Amount Due,Customer Reference\nA,1,C\n", CodeMissingColumn, `"Bill Reference", is not known (did you mean bill_reference?)`, zar},
		{"bill-reference,amount-due,customer-reference\nA,1,C\n", CodeMissingColumn, `did you mean amount_due?`, zar},
		{"Acme Water\nCustomer balance\n\nbill_reference,amount_due,customer_reference\nX-1,100,C-1\n", CodeMissingColumn, "on line 4: remove the lines above", zar},
		{"\n" + head + "A,1,C\n", CodeNoHeader, "on line 2: remove the lines above", zar},
		{"Report of 2026-11-30,,\n,,\nBill Reference,Amount Due,Customer Reference\n", CodeNoHeader, "on line 3", zar},
		{"# bills\n" + head, CodeMissingColumn, "on line 2", zar},
		{"Daily file\nfirst_name,last_name,passport_number,mobile_phone_number,email,due_date,amount_due\n", CodeMissingColumn, "on line 2", daily},
	} {
		if bad := refusal(t, tt.text, tt.format); bad.Code != tt.code || !strings.Contains(bad.Detail, tt.says) {
			t.Errorf("%q: got %s: %s", tt.text, bad.Code, bad.Detail)
		}
	}
	for _, text := range []string{"\"bill_reference\",\"amount_due\",\"customer_reference\"\nA,1,C\n", "BILL_REFERENCE , Amount_Due,customer_reference\nA,1,C\n"} {
		if _, all := records(t, text, zar); len(all) != 1 || len(all[0].Problems) > 0 {
			t.Errorf("%q: %+v", text, all)
		}
	}
}

func TestTooMany(t *testing.T) {
	few := zar
	few.MaxRows, few.MaxColumns = 3, 4
	if _, all := records(t, rowsOf("A,1,C", "", "B,1,C", ",,", "D,1,C"), few); len(all) != 3 {
		t.Errorf("%d rows", len(all))
	}
	if bad := refusal(t, rowsOf("A,1,C", "", "B,1,C", "D,1,C", "E,1,C", "F,1,C"), few); bad.Code != CodeTooManyRows || bad.Line != 6 {
		t.Errorf("got %+v", bad)
	}
	if bad := refusal(t, "bill_reference,amount_due,customer_reference,customer_name,customer_email\n", few); bad.Code != CodeTooManyColumns || bad.Line != 1 {
		t.Errorf("got %+v", bad)
	}
	if survey(t, "bill_reference,amount_due,customer_reference,customer_name\n", few).Rows != 0 {
		t.Error("four columns")
	}
}

// Identity numbers and names of the preset obey the same rules.
func TestKindsOfPreset(t *testing.T) {
	daily := Format{Preset: "moment-daily", Currency: "ZAR", PhoneRegion: "ZA"}
	for _, tt := range []struct{ passport, identity, want string }{
		{"NULL", "", "passport_number:placeholder_value"}, {`\N`, "", "passport_number:placeholder_value"}, {"n/a", "", "passport_number:placeholder_value"}, {"-", "", "passport_number:placeholder_value"},
		{"None", "", "passport_number:placeholder_value"}, {"", "NULL", "sa_identification_number:placeholder_value"}, {"", "nan", "sa_identification_number:placeholder_value"}, {"", "--", "sa_identification_number:placeholder_value"},
		{"A1234567", "", ""}, {"NULL1234", "", ""}, {"bill_1", "", "passport_number:reserved_reference"},
	} {
		_, all := records(t, dailyHeader+"Ann,Null,"+tt.passport+","+tt.identity+",0821234567,,2026-11-30,2.50\n", daily)
		if got := codes(all[0]); got != tt.want {
			t.Errorf("%q, %q: got %q, want %q", tt.passport, tt.identity, got, tt.want)
		}
	}
	_, all := records(t, dailyHeader+"NULL,None,A1234567,,0821234567,,2026-11-30,2.50\n", daily)
	if got := codes(all[0]); got != "first_name:placeholder_value last_name:placeholder_value" {
		t.Errorf("names: %q", got)
	}
}
