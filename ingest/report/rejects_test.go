package report_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// rejectsOf returns the rejects file of rows that all need attention, with the code and detail
// of o.
func rejectsOf(l billfile.Layout, o ledger.Outcome, recs ...billfile.Record) (string, error) {
	var outcomes []ledger.Outcome
	for i := range recs {
		recs[i].Row, recs[i].Line, recs[i].Span = i+1, i+2, 1
		each := o
		each.Row, each.Line = i+1, i+2
		if each.Status = ledger.Invalid; len(recs[i].Problems) == 0 {
			each.Status = ledger.Failed
		}
		outcomes = append(outcomes, each)
	}
	var b bytes.Buffer
	_, err := report.Compose(report.Output{Rejects: &b, Layout: l}, &recordList{recs: recs}, seq(outcomes))
	return b.String(), err
}

func raw(text string, codes ...string) billfile.Record {
	rec := billfile.Record{Raw: []byte(text)}
	for _, code := range codes {
		rec.Problems = append(rec.Problems, billfile.Problem{Code: code})
	}
	return rec
}

func TestRejectsBytes(t *testing.T) {
	outcome := ledger.Outcome{Code: "bad", Detail: "fix it"}
	for _, c := range []struct {
		name   string
		header string
		delim  rune
		recs   []billfile.Record
		want   string
	}{
		{"a row", "a,b\n", ',', []billfile.Record{raw("1,2\n")}, "a,b,error_code,error_detail\n1,2,bad,\"fix it\"\n"},
		{"each row keeps its line end", "a,b\r\n", ',', []billfile.Record{raw("1,2\n"), raw("3,4\r\n")},
			"a,b,error_code,error_detail\r\n1,2,bad,\"fix it\"\n3,4,bad,\"fix it\"\r\n"},
		{"the last without one gets the header's", "a,b\r\n", ',', []billfile.Record{raw("1,2")},
			"a,b,error_code,error_detail\r\n1,2,bad,\"fix it\"\r\n"},
		{"carriage return in the last cell", "a,b\r\n", ',', []billfile.Record{raw("1,2\r\r\n")},
			"a,b,error_code,error_detail\r\n1,2\r,bad,\"fix it\"\r\n"},
		{"sep= stays first", "sep=;\r\na;b\r\n", ';', []billfile.Record{raw("1;2\r\n")},
			"sep=;\r\na;b;error_code;error_detail\r\n1;2;bad;\"fix it\"\r\n"},
		{"quoted sep=", "\"SEP=;\"\na;b\n", ';', []billfile.Record{raw("1;2\n")}, "\"SEP=;\"\na;b;error_code;error_detail\n1;2;bad;\"fix it\"\n"},
		{"tabs", "a\tb\n", '\t', []billfile.Record{raw("1\t2\n")}, "a\tb\terror_code\terror_detail\n1\t2\tbad\t\"fix it\"\n"},
		{"header over two lines", "a,\"b\n(rand)\"\n", ',', []billfile.Record{raw("1,2\n")},
			"a,\"b\n(rand)\",error_code,error_detail\n1,2,bad,\"fix it\"\n"},
		{"record over two lines", "a,b\n", ',', []billfile.Record{raw("1,\"2\n3\"\n", "control_character")},
			"a,b,error_code,error_detail\n1,\"2\n3\",bad,\"fix it\"\n"},
		{"nothing is padded", "a,b,c\n", ',', []billfile.Record{raw("1,2\n", "wrong_field_count"), raw("1,2,3,4,5\n", "wrong_field_count")},
			"a,b,c,error_code,error_detail\n1,2,bad,\"fix it\"\n1,2,3,4,5,bad,\"fix it\"\n"},
		{"broken quotes", "a,b\n", ',', []billfile.Record{raw("1,\"2\n", "bare_quote"), raw("1,2\"x\n", "bare_quote")},
			"a,b,error_code,error_detail\n1,\"2,bad,\"fix it\"\n1,2\"x,bad,\"fix it\"\n"},
		{"row that was too large to keep", "a,b\n", ',', []billfile.Record{raw("", "row_too_large")},
			"a,b,error_code,error_detail\n,bad,\"fix it\"\n"},

		{"second time", "a,b,error_code,error_detail\n", ',', []billfile.Record{raw("1,2,old,\"so\"\n"), raw("1,\"2,3\",,\n")},
			"a,b,error_code,error_detail\n1,2,bad,\"fix it\"\n1,\"2,3\",bad,\"fix it\"\n"},
		{"second time, columns moved", "Error_Detail,a, ERROR_CODE ,b\n", ',', []billfile.Record{raw("so,1,old,2\n"), raw("1,2\n", "wrong_field_count")},
			"Error_Detail,a, ERROR_CODE ,b\n\"fix it\",1,bad,2\n1,2\n"},
		{"second time, one column gone", "a,b,error_code\n", ',', []billfile.Record{raw("1,2,old\n"), raw("1,2\n", "wrong_field_count")},
			"a,b,error_code,error_detail\n1,2,bad,\"fix it\"\n1,2,\"fix it\"\n"},
		{"second time, the other column gone", "a,error_detail,b\n", ',', []billfile.Record{raw("1,old,2\n")},
			"a,error_detail,b,error_code\n1,\"fix it\",2,bad\n"},
		{"second time, error_code alone and first", "error_code,a\n", ',', []billfile.Record{raw("old,1\n"), raw("1\n", "wrong_field_count")},
			"error_code,a,error_detail\nbad,1,\"fix it\"\n1,\"fix it\"\n"},
		{"second time, error_detail alone and first", "error_detail,a\n", ',', []billfile.Record{raw("old,1\n"), raw("1\n", "wrong_field_count")},
			"error_detail,a,error_code\n\"fix it\",1,bad\n1,bad\n"},
		{"second time, cells missing", "a,b,error_code,error_detail\n", ',',
			[]billfile.Record{raw("1,old_1,\"so \"\"so\"\"\"\n", "wrong_field_count"), raw("1,2\n", "wrong_field_count"), raw("1,2,old,so,\n", "wrong_field_count")},
			"a,b,error_code,error_detail\n1,bad,\"fix it\"\n1,2\n1,2,old,so,\n"},
		{"second time, cells missing and not missed", "a,b,error_code,error_detail\n", ',', []billfile.Record{raw("1,2\n", "invalid_amount")},
			"a,b,error_code,error_detail\n1,2,bad,\"fix it\"\n"},
		{"second time, broken quotes", "a,b,error_code,error_detail\n", ',',
			[]billfile.Record{raw("1,\"2,old,\"so\"\n", "bare_quote"), raw("1,\"2\n", "bare_quote")},
			"a,b,error_code,error_detail\n1,\"2,bad,\"fix it\"\n1,\"2,bad,\"fix it\"\n"},
	} {
		got, err := rejectsOf(layoutOf(c.header, c.delim, ""), outcome, c.recs...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestRejectsCells(t *testing.T) {
	for _, c := range []struct {
		code, detail, encoding string
		want                   string
	}{
		{"bad", `amount "1,5"`, "utf-8", `bad,"amount ""1,5"""`},
		{"bad", `"quote first`, "utf-8", `bad," ""quote first"`},
		{"bad", `,delimiter first`, "utf-8", `bad," ,delimiter first"`},
		{"bad", "two\r\nlines", "utf-8", "bad,\"two\uFFFD\uFFFDlines\""},
		{"", "", "utf-8", `failed,"not created: the attempts were used up; retry the file, or deliver the row again"`},
		{"odd,code", "x", "utf-8", `"odd,code","x"`},
		{"bad", "R 1\u00a0234 → “x”", "utf-8", "bad,\"R 1\u00a0234 → “x”\""},
		{"bad", "R 1\u00a0234 → “x”", "windows-1252", "bad,\"R 1\xa0234 ? \x93x\x94\""},
		{"bad", strings.Repeat("x", 5000), "utf-8", `bad,"` + strings.Repeat("x", 4097) + `... (see the results file)"`},
	} {
		got, err := rejectsOf(layoutOf("a,b\n", ',', c.encoding), ledger.Outcome{Code: c.code, Detail: c.detail}, raw("1,2\n"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("a,b,error_code,error_detail\n1,2,"+c.want+"\n", got); diff != "" {
			t.Errorf("%q, %q (-want +got):\n%s", c.code, c.detail, diff)
		}
	}
}

func TestRejectsOwnEncoding(t *testing.T) {
	for _, c := range []struct {
		encoding string
		bom      bool
		want     string
	}{
		{"utf-8", true, "\xef\xbb\xbfa,b,error_code,error_detail\n1,é,bad,\"→\"\n"},
		{"windows-1252", false, "a,b,error_code,error_detail\n1,\xe9,bad,\"?\"\n"},
		{"utf-16be", true, "\xfe\xff\x00a\x00,\x00b\x00,\x00e\x00r\x00r\x00o\x00r\x00_\x00c\x00o\x00d\x00e\x00,\x00e\x00r\x00r\x00o\x00r\x00_\x00d\x00e\x00t\x00a\x00i\x00l\x00\n" +
			"\x001\x00,\x00\xe9\x00,\x00b\x00a\x00d\x00,\x00\"\x21\x92\x00\"\x00\n"},
	} {
		l := layoutOf("a,b\n", ',', c.encoding)
		l.BOM = c.bom
		got, err := rejectsOf(l, ledger.Outcome{Code: "bad", Detail: "→"}, raw("1,é\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.encoding, got, c.want)
		}
	}
}

func TestRejectsLayout(t *testing.T) {
	for _, l := range []billfile.Layout{
		layoutOf("a,b\n", 0, ""),
		layoutOf("a,b\n", -1, ""),
		layoutOf("a,b\n", '\u0080', ""),
		layoutOf("a,b\n", '→', ""),
		{Header: []byte("\n"), Delimiter: ','},
	} {
		if got, err := rejectsOf(l, ledger.Outcome{}, raw("1,2\n")); err == nil {
			t.Errorf("layout %q %q gave %q, want an error", l.Header, l.Delimiter, got)
		}
	}
	if got, err := rejectsOf(layoutOf("a,b\n", ',', "windows-1252"), ledger.Outcome{}, raw("1,→\n")); err == nil {
		t.Errorf("a row that the encoding does not have gave %q, want an error", got)
	}
}

// layoutOf returns the layout of a file with this header. Its names have no delimiters in them.
func layoutOf(header string, delim rune, encoding string) billfile.Layout {
	l := billfile.Layout{Header: []byte(header), Delimiter: delim, Encoding: encoding}
	if first, rest, _ := strings.Cut(header, "\n"); len(first) < 9 && strings.Contains(strings.ToLower(first), "sep=") {
		header = rest
	}
	for name := range strings.SplitSeq(header, string(delim)) {
		l.Columns = append(l.Columns, strings.TrimSpace(name))
	}
	return l
}

// strictRecord is one record as a strict reader returns it.
type strictRecord struct {
	raw    string
	cells  []string // nil: broken quotes
	shaped []string // codes of its problems
}

// readStrict reads records as a reader of bill files must: with strict quotes, and after an error
// from the next line on. open reports that a quote is still open at the end.
func readStrict(text string, comma rune) (records []strictRecord, open bool) {
	const last = "last line\n" // swallowed by an open quote
	text += last
	c := csv.NewReader(strings.NewReader(text))
	c.Comma, c.FieldsPerRecord = comma, -1
	for {
		start := c.InputOffset()
		cells, err := c.Read()
		piece := text[start:c.InputOffset()]
		for strings.HasPrefix(piece, "\n") || strings.HasPrefix(piece, "\r\n") { // blank lines before it
			_, piece, _ = strings.Cut(piece, "\n")
		}
		var broken *csv.ParseError
		switch {
		case err == io.EOF:
			return records, true
		case piece == last:
			return records, false
		case errors.As(err, &broken):
			records = append(records, strictRecord{raw: piece, shaped: []string{"bare_quote"}})
		default:
			r := strictRecord{raw: piece, cells: cells}
			if len(records) > 0 && len(cells) != len(records[0].cells) {
				r.shaped = []string{"wrong_field_count"}
			}
			records = append(records, r)
		}
	}
}

// asRecords returns data records as a decoder does.
func asRecords(records []strictRecord) []billfile.Record {
	var out []billfile.Record
	for _, r := range records {
		out = append(out, raw(r.raw, r.shaped...))
	}
	return out
}

// TestRejectsAreReadAgain delivers rejects files again and again. Whatever the bytes of the rows, a
// strict reader finds the same rows, in order, each with its bytes, its fault and its two cells.
func TestRejectsAreReadAgain(t *testing.T) {
	pieces := []string{"a", "1", ",", ",", `"`, `""`, "\n", "\n", "\r\n", " ", "é", ";", `","`, "error_code", "x,y\n", "\"p\",\"q\"\n"}
	rapid.Check(t, func(t *rapid.T) {
		header := rapid.SampledFrom([]string{"h1,h2\n", "h1,h2,h3\r\n", "\"h 1\",h2\n"}).Draw(t, "header")
		text := header + strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 40).Draw(t, "pieces"), "") + "\n"
		first, open := readStrict(text, ',')
		if open || len(first) < 2 {
			return // refused as a whole, or without rows
		}
		outcome := ledger.Outcome{
			Code:   rapid.SampledFrom([]string{"", "http_422", "bare_quote"}).Draw(t, "code"),
			Detail: rapid.SampledFrom([]string{"", "so", `"so"`, `say "so", and "no"`, ",", "a\nb", `x""`}).Draw(t, "detail"),
		}
		dropped, err := rejectsOf(layoutOf(first[0].raw, ',', ""), outcome, asRecords(first[1:])...)
		if err != nil {
			t.Fatal(err)
		}
		second, open := readStrict(dropped, ',')
		if open {
			t.Fatalf("a quote is left open:\n%s", dropped)
		}
		compareRounds(t, first, second, 2, dropped)

		again, err := rejectsOf(layoutOf(second[0].raw, ',', ""), outcome, asRecords(second[1:])...)
		if err != nil {
			t.Fatal(err)
		}
		if again != dropped {
			t.Fatalf("dropped a second time:\n%s\ngave:\n%s", dropped, again)
		}
	})
}

// compareRounds checks that after holds the records of before, in order, each with more cells
// at its end.
func compareRounds(t *rapid.T, before, after []strictRecord, more int, text string) {
	if len(before) != len(after) {
		t.Fatalf("%d records became %d:\n%s", len(before), len(after), text)
	}
	for i, b := range before {
		a := after[i]
		if body := strings.TrimRight(b.raw, "\r\n"); !strings.HasPrefix(a.raw, body) {
			t.Fatalf("record %d: %q became %q", i, b.raw, a.raw)
		}
		if !slices.Equal(b.shaped, a.shaped) {
			t.Fatalf("record %d: %q had the faults %v, %q has %v", i, b.raw, b.shaped, a.raw, a.shaped)
		}
		if b.cells != nil && (len(a.cells) != len(b.cells)+more || !slices.Equal(b.cells, a.cells[:len(b.cells)])) {
			t.Fatalf("record %d: the cells %q became %q", i, b.cells, a.cells)
		}
	}
}
