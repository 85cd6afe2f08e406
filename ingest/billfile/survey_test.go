package billfile

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestFileCodes(t *testing.T) {
	utf16Feed, western, eightFeed, semicolon, noCurrency, small, lax := zar, zar, zar, zar, zar, zar, zar
	utf16Feed.Encoding, western.Encoding, eightFeed.Encoding = "utf-16", "windows-1252", "utf-8"
	semicolon.Delimiter = ';'
	noCurrency.Currency = ""
	small.MaxFileSize = 50
	lax.AllowNoFinalNewline = true
	for _, tt := range []struct {
		name   string
		format Format
		text   string
		code   string
		line   int
		detail string // part of it
	}{
		{"nothing", zar, "", CodeEmptyFile, 0, "header"},
		{"byte order mark only", zar, "\ufeff", CodeEmptyFile, 0, "header"},
		{"blank", zar, "\nA,B\n", CodeNoHeader, 1, "blank"},
		{"data first", zar, "INV-1,2000,C1\nINV-2,1,C2\n", CodeNoHeader, 1, "looks like data"},
		{"sep line only", zar, "sep=;\n", CodeNoHeader, 2, "missing"},
		{"sep line of another sort", zar, "sep=#\n", CodeNoHeader, 1, "delimiter"},
		{"many columns", zar, strings.Repeat("a,", 1000) + "a\n", CodeTooManyColumns, 1, "1001 columns"},
		{"endless header", zar, strings.Repeat("a", 3<<20) + "\n", CodeNoHeader, 1, "1024 KiB"},
		{"no amount", zar, "bill_reference,customer_reference\n", CodeMissingColumn, 1, "amount_due"},
		{"no party", zar, "bill_reference,amount_due\n", CodeMissingColumn, 1, "customer_reference"},
		{"no currency", noCurrency, head, CodeMissingColumn, 1, "no column currency"},
		{"foreign header", zar, "Rechnung,Betrag,Kunde\n", CodeMissingColumn, 1, "columns:"},
		{"other delimiter than configured", semicolon, head, CodeMissingColumn, 1, "delimiter"},
		{"twice", zar, "bill_reference,amount_due,customer_reference,Amount_Due\n", CodeDuplicateColumn, 1, "columns 2 and 4"},
		{"metadata twice", zar, "bill_reference,amount_due,customer_reference,metadata.a,METADATA.A\n", CodeDuplicateColumn, 1, "columns 4 and 5"},
		{"misspelt", zar, "bill_reference,amount_due,customer_reference,custmer_name\n", CodeUnknownColumn, 1, "did you mean customer_name?"},
		{"no name", zar, "bill_reference,amount_due,customer_reference,\nA,1,C,\nB,1,C,x\n", CodeUnknownColumn, 3, `column 4 has no name, and something stands in it on line 3: give the column a name, or empty it; to pass it over, set ignore_columns: [""]`},
		{"metadata without key", zar, "bill_reference,amount_due,customer_reference,metadata.\n", CodeUnknownColumn, 1, "metadata key"},
		{"metadata key of 51", zar, "bill_reference,amount_due,customer_reference,metadata." + strings.Repeat("k", 51) + "\n", CodeUnknownColumn, 1, "metadata key"},
		{"Windows-1252", zar, head + "A,1,C1\nB,1,M\xfcller\n", CodeUndecodable, 3, "encoding:"},
		{"not Windows-1252", western, head + "A,1,C\x81\n", CodeUndecodable, 2, "Windows-1252"},
		{"Unicode in a Windows-1252 feed", western, "\ufeff" + head, CodeUndecodable, 1, "windows-1252"},
		{"UTF-16 without mark", zar, wide(head, false, false), CodeUndecodable, 1, "utf-16"},
		{"big-endian without mark", utf16Feed, wide(head, true, false), CodeUndecodable, 1, "big-endian"},
		{"ASCII in a UTF-16 feed", utf16Feed, head, CodeUndecodable, 1, "UTF-16"},
		{"UTF-16 in a UTF-8 feed", eightFeed, wide(head, false, true), CodeUndecodable, 1, "UTF-16"},
		{"half a pair", zar, wide(head+"A,1,", false, true) + "\x00\xd8A\x00\n\x00", CodeUndecodable, 2, "UTF-16"},
		{"second half alone", zar, wide(head+"A,1,", false, true) + "\x00\xdc\n\x00", CodeUndecodable, 2, "UTF-16"},
		{"xlsx", zar, "PK\x03\x04....[Content_Types].xml", CodeNotCSV, 0, "xlsx"},
		{"zip", zar, "PK\x03\x04....bills.csv", CodeNotCSV, 0, "zip"},
		{"gzip", zar, "\x1f\x8b\x08", CodeNotCSV, 0, "gzip"},
		{"PDF", zar, "%PDF-1.7\n", CodeNotCSV, 0, "PDF"},
		{"xls", zar, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", CodeNotCSV, 0, "xls"},
		{"NUL late", zar, head + "A,1,C1\n\x00\x00\x00\n", CodeNotCSV, 3, "NUL"},
		{"binary", zar, "\x7fELF\x02\x00\x00\x00\xff\xfe\xfd\n", CodeNotCSV, 1, "NUL"},
		{"old Mac", zar, strings.ReplaceAll(head+"A,1,C1\n", "\n", "\r"), CodeBadLineEnds, 1, "carriage returns"},
		{"old Mac behind the header", zar, head + "A,1,C1\rB,1,C1\r", CodeBadLineEnds, 2, "carriage returns"},
		{"old Mac header", zar, strings.ReplaceAll(head, "\n", "\r") + "A,1,C1\n", CodeBadLineEnds, 1, "carriage returns"},
		{"quote open", zar, head + "A,1,C1\nB,1,\"C1\nC,1,C1\n", CodeUnbalancedQuote, 3, "line 3"},
		{"quote open in the second line of a row", zar, head + "A,1,C1\n\"B\nb\",1,\"C1\nC,1,C1\n", CodeUnbalancedQuote, 4, "line 4"},
		{"quote open in the header", zar, "bill_reference,\"amount_due\nA,1\n", CodeUnbalancedQuote, 1, "line 1"},
		{"stray quote in the header", zar, "bill_reference,amount\"due\nA,1\n", CodeNoHeader, 1, "quotation mark"},
		{"cut off", zar, head + "A,1,C1\nB,1,C", CodeTruncated, 3, "line 3"},
		{"cut off in the header", zar, "bill_reference,amount_due,customer_ref", CodeTruncated, 1, "header"},
		{"cut off in a character", zar, head + "A,1,\xc3", CodeTruncated, 2, "character"},
		{"cut off in a character, allowed", lax, head + "A,1,\xc3", CodeUndecodable, 2, "UTF-8"},
		{"cut off in UTF-16", zar, wide(head+"A,1,C1\n", false, true) + "B", CodeTruncated, 3, "character"},
		{"large", small, head + "A,1,C1\n", CodeFileTooLarge, 0, "max_file_size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := refusal(t, tt.text, tt.format)
			if got.Code != tt.code || got.Line != tt.line || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %s, line %d: %s\nwant %s, line %d: …%s…", got.Code, got.Line, got.Detail, tt.code, tt.line, tt.detail)
			}
		})
	}
}

func TestLayouts(t *testing.T) {
	western, mapped, lax, utf16Feed := zar, zar, zar, zar
	western.Encoding, utf16Feed.Encoding = "windows-1252", "utf-16"
	mapped.Columns = map[string]string{" invoice no ": "bill_reference", "Region": "metadata.Region", "Total": "amount_due"}
	mapped.IgnoreColumns = []string{"Remark"}
	lax.AllowNoFinalNewline = true
	for _, tt := range []struct {
		name   string
		format Format
		text   string
		want   Layout
		lines  Lines
		names  []string // of customers
	}{
		{"plain", zar, head + "A,1,C1\n", Layout{Encoding: encUTF8, Delimiter: ',', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"no rows", zar, head, Layout{Encoding: encUTF8, Delimiter: ',', HeaderLines: 1}, Lines{1, 1, 0, 0}, nil},
		{"CRLF, mark, quotes, case, space", zar, "\ufeff\"Bill_Reference\", AMOUNT_DUE ,\"customer_reference\"\r\n\"A\",\"1\",\"C1\"\r\n", Layout{Encoding: encUTF8, BOM: true, Delimiter: ',', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"mixed line ends, blanks", zar, head + "\r\nA,1,C1\r\n\n  \t\nB,1,C2\n\n", Layout{Encoding: encUTF8, Delimiter: ',', HeaderLines: 1}, Lines{7, 1, 4, 2}, []string{"C1", "C2"}},
		{"semicolons", zar, "bill_reference;amount_due;customer_reference;customer_name\nA;1;C1;Bee, Ann\n", Layout{Encoding: encUTF8, Delimiter: ';', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"tabs", zar, "bill_reference\tamount_due\tcustomer_reference\nA\t1\tC1\n", Layout{Encoding: encUTF8, Delimiter: '\t', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"bars", zar, "bill_reference|amount_due|customer_reference\nA|1|C1\n", Layout{Encoding: encUTF8, Delimiter: '|', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"sep line", zar, "sep=;\r\nbill_reference;amount_due;customer_reference\r\nA;1;C1\r\n", Layout{Encoding: encUTF8, Delimiter: ';', HeaderLines: 2}, Lines{3, 2, 0, 1}, []string{"C1"}},
		{"UTF-16 LE", zar, wide(head+"A,1,C1\nB,1,C2\n", false, true), Layout{Encoding: encUTF16LE, BOM: true, Delimiter: ',', HeaderLines: 1}, Lines{3, 1, 0, 2}, []string{"C1", "C2"}},
		{"UTF-16 BE", zar, wide(head+"A,1,C1\n", true, true), Layout{Encoding: encUTF16BE, BOM: true, Delimiter: ',', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"UTF-16 configured", utf16Feed, wide(head+"A,1,C1\n", false, false), Layout{Encoding: encUTF16LE, Delimiter: ',', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"Windows-1252", western, "bill_reference;amount_due;customer_reference;customer_name\r\nA;1;C1;M\xfcller \x80\r\n", Layout{Encoding: enc1252, Delimiter: ';', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"mapped", mapped, "Invoice No,Total,customer_reference,region,remark,error_code,Error_Detail\nA,1,C1,North,x,,\n", Layout{Encoding: encUTF8, Delimiter: ',', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"ignored column over two lines in the header", Format{Amounts: Minor, Currency: "ZAR", IgnoreColumns: []string{"re\nmark"}}, "bill_reference,amount_due,customer_reference,\"re\nmark\"\nA,1,C1,x\n", Layout{Encoding: encUTF8, Delimiter: ',', HeaderLines: 2}, Lines{3, 2, 0, 1}, []string{"C1"}},
		{"no line end, allowed", lax, head + "A,1,C1", Layout{Encoding: encUTF8, Delimiter: ',', HeaderLines: 1}, Lines{2, 1, 0, 1}, []string{"C1"}},
		{"no line end, allowed, header alone", lax, strings.TrimSpace(head), Layout{Encoding: encUTF8, Delimiter: ',', HeaderLines: 1}, Lines{1, 1, 0, 0}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, all := records(t, tt.text, tt.format)
			l := s.Layout
			if l.Encoding != tt.want.Encoding || l.BOM != tt.want.BOM || l.Delimiter != tt.want.Delimiter || l.HeaderLines != tt.want.HeaderLines || s.Lines != tt.lines {
				t.Errorf("got %+v, %+v, want %+v, %+v", l, s.Lines, tt.want, tt.lines)
			}
			var names []string
			for _, r := range all {
				if len(r.Problems) > 0 {
					t.Errorf("line %d: %v", r.Line, r.Problems)
				}
				names = append(names, r.Bill.CustomerReference)
			}
			if !slices.Equal(names, tt.names) {
				t.Errorf("got customers %q, want %q", names, tt.names)
			}
			roundTrip(t, s, all, tt.text)
		})
	}
}

// Every prefix of a good file is refused, or says nothing that the whole file does not
// say.
func TestPrefixes(t *testing.T) {
	western := zar
	western.Encoding = "windows-1252"
	for name, file := range map[string]struct {
		text   string
		format Format
	}{
		"UTF-8":        {"\ufeff" + rowHeader + row(nil) + row(map[string]string{"bill_reference": "INV-22", "amount_due": "12345", "customer_name": "\"Zoë, \"\"王\"\"\"", "due_date": "2026-10-11"}) + "\r\n" + row(map[string]string{"bill_reference": "INV-333"}), zar},
		"UTF-16":       {wide("sep=;\nbill_reference;amount_due;customer_reference\r\nA;100;C1\r\nAB;1000;C12\r\n", false, true), zar},
		"Windows-1252": {"bill_reference\tamount_due\tcustomer_id\tcustomer_name\nA\t100\tbcus_1\tM\xfcller\nAB\t1000\tbcus_12\t\"Zo\xeb\"\n", western},
	} {
		t.Run(name, func(t *testing.T) {
			_, whole := records(t, file.text, file.format)
			refused := 0
			for n := range len(file.text) {
				s, err := TakeSurvey(t.Context(), opener(file.text[:n]), file.format, func(r *Record) error {
					if len(r.Problems) == 0 && ContentDigest(&r.Bill) != ContentDigest(&whole[r.Row-1].Bill) {
						t.Errorf("prefix of %d bytes: row %d says %+v, the file %+v", n, r.Row, r.Bill, whole[r.Row-1].Bill)
					}
					return nil
				})
				var bad *FileError
				switch {
				case errors.As(err, &bad):
					refused++
				case err != nil:
					t.Fatal(err)
				case s.Invalid > 0:
					t.Errorf("prefix of %d bytes: %d rows invalid", n, s.Invalid)
				}
			}
			if good := len(file.text) - refused; good > 5 {
				t.Errorf("%d prefixes pass, more than there are line ends", good)
			}
		})
	}
}

func TestSurveyEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	text := head + strings.Repeat("A,1,C1\n", 25_000)
	stop := errors.New("enough")
	calls := 0
	_, err := TakeSurvey(t.Context(), opener(text), zar, func(*Record) error {
		if calls++; calls == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || calls != 3 {
		t.Errorf("got %v after %d calls, want the visitor's error after 3", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = TakeSurvey(ctx, opener(text), zar, func(*Record) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	broken := errors.New("disk on fire")
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(text), readerFunc(func([]byte) (int, error) { return 0, broken }))), nil
	}
	s, err := TakeSurvey(t.Context(), open, zar, nil)
	var bad *FileError
	if !errors.Is(err, broken) || errors.As(err, &bad) || s != nil {
		t.Errorf("got %v, %v, want the reader's error and no survey", s, err)
	}
	if _, err = TakeSurvey(t.Context(), func() (io.ReadCloser, error) { return nil, broken }, zar, nil); !errors.Is(err, broken) {
		t.Errorf("got %v, want the opener's error", err)
	}
}
