package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A stray quotation mark takes lines with it; they are named, and the lines behind are
// read as if nothing had been.
func TestSwallowedLines(t *testing.T) {
	text := head + "A,1,C1\nB,1,\"C2\nC,1,C3\nD,1,C4\",\nE,1,C5\nF,1,\"C6\nG,1,C7\"x\nH,1,C8\n"
	s, all := records(t, text, zar)
	var got []string
	for _, r := range all {
		got = append(got, codes(r))
	}
	want := []string{"", ":wrong_field_count", "", "customer_reference:bare_quote", ""}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if d := all[1].Problems[0].Detail; !strings.Contains(d, "lines 4 to 5") {
		t.Errorf("detail %q does not name lines 4 to 5", d)
	}
	if d := all[3].Problems[0].Detail; !strings.Contains(d, "line 8") || all[3].Line != 7 || all[3].Span != 2 {
		t.Errorf("line %d, span %d, detail %q does not name line 8", all[3].Line, all[3].Span, d)
	}
	if s.Lines != (Lines{Total: 9, Header: 1, Data: 8}) {
		t.Errorf("got %+v", s.Lines)
	}
	roundTrip(t, s, all, text)
}

// No record that spans lines ever becomes a bill, in whatever column the break is.
func TestLineBreaksAreNeverBills(t *testing.T) {
	f := zar
	f.IgnoreColumns = []string{"remark"}
	for _, cell := range []string{"\"a\nb\"", "\"\n\"", "\"a\r\nb\"", "\"\r\n \"", "\"\t\n\""} {
		for _, column := range []string{"bill_reference", "amount_due", "customer_reference", "customer_name", "remark"} {
			cells := map[string]string{"bill_reference": "A", "amount_due": "1", "customer_reference": "C1", "customer_name": "x", "remark": "x", column: cell}
			text := "bill_reference,amount_due,customer_reference,customer_name,remark\n" +
				cells["bill_reference"] + "," + cells["amount_due"] + "," + cells["customer_reference"] + "," + cells["customer_name"] + "," + cells["remark"] + "\n"
			_, all := records(t, text, f)
			if len(all) != 1 || all[0].Span != 2 || !slices.ContainsFunc(all[0].Problems, func(p Problem) bool { return p.Code == CodeControlCharacter }) {
				t.Errorf("%q in %s: %+v", cell, column, all)
			}
		}
	}
}

// What is too large costs no memory, and the rows around it are read.
func TestLimits(t *testing.T) {
	const size, less = 100 << 20, 10 << 20
	for _, tt := range []struct {
		name  string
		open  Opener
		file  string // file-level code
		codes map[string]int
		rows  int
	}{
		{"a field of 100 MB", endless(head+"A,1,C1\nB,1,", "x", size, "\nC,1,C2\n"), "", map[string]int{CodeRowTooLarge: 1}, 3},
		{"a quoted field of 100 MB", endless(head+"A,1,C1\nB,1,\"", "x", size, "\"\nC,1,C2\n"), "", map[string]int{CodeRowTooLarge: 1}, 3},
		{"a row of 5 million columns", endless(head+"A,1,C1\nB,1,", "x,", less, "\nC,1,C2\n"), "", map[string]int{CodeRowTooLarge: 1}, 3},
		{"a row of 500 thousand columns", endless(head+"A,1,C1\nB,1,", "x,", 1_000_000, "\nC,1,C2\n"), "", map[string]int{CodeWrongFieldCount: 1}, 3},
		{"a quote that swallows 100 MB", endless(head+"A,1,C1\nB,1,\"", "x,1,C3\n", size, ""), CodeUnbalancedQuote, nil, 0},
		{"a quote that swallows 10 MB in a line", endless(head+"A,1,C1\nB,1,\"", "x", less, "\n"), CodeUnbalancedQuote, nil, 0},
		{"a last line of 10 MB", endless(head+"A,1,C1\nB,1,", "x", less, ""), CodeTruncated, nil, 0},
		{"a header of 100 MB", endless("bill_reference,", "x", size, "\n"), CodeNoHeader, nil, 0},
		{"a header of 50 million columns", endless("bill_reference,", "x,", size, "\n"), CodeNoHeader, nil, 0},
		{"10 MB of blank lines", endless(head, "\n", less, "A,1,C1\n"), "", map[string]int{}, 1},
		{"10 MB of nothing but spaces", endless(head, " ", less, "\nA,1,C1\n"), "", map[string]int{CodeRowTooLarge: 1}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s, err := TakeSurvey(t.Context(), tt.open, zar, nil)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 40<<20 {
				t.Errorf("%d MiB were allocated in all", grown>>20)
			}
			var bad *FileError
			if errors.As(err, &bad) != (tt.file != "") || bad != nil && bad.Code != tt.file || bad == nil && err != nil {
				t.Fatalf("got error %v, want %q", err, tt.file)
			}
			if tt.file == "" && (s.Rows != tt.rows || !equal(s.Codes, tt.codes)) {
				t.Errorf("got %d rows, %v, want %d, %v", s.Rows, s.Codes, tt.rows, tt.codes)
			}
		})
	}
}

// The places where rows are cut do not depend on where reads and batches end.
func TestBatchBorders(t *testing.T) {
	var text bytes.Buffer
	text.WriteString(head)
	rows, lines := 0, 1
	for text.Len() < 3*batchSize {
		text.WriteString("A" + strings.Repeat("é", rows%50) + ",1,\"C" + strings.Repeat("\n", rows%3) + "\"\r\n")
		if lines += 1 + rows%3; rows%7 == 0 {
			text.WriteString("\r\n")
			lines++
		}
		rows++
	}
	for _, step := range []int{1, 7, 4095, 4096, 1 << 20} {
		whole := text.Bytes()
		open := func() (io.ReadCloser, error) {
			rest := whole
			return io.NopCloser(readerFunc(func(p []byte) (int, error) {
				if len(rest) == 0 {
					return 0, io.EOF
				}
				n := copy(p[:min(len(p), step)], rest)
				rest = rest[n:]
				return n, nil
			})), nil
		}
		at := len(head)
		s, err := TakeSurvey(t.Context(), open, zar, func(r *Record) error {
			if r.Row == 1 { // the references come again and again, so all rows are visited twice
				at = len(head)
			}
			for bytes.HasPrefix(whole[at:], []byte("\r\n")) {
				at += 2
			}
			if !bytes.HasPrefix(whole[at:], r.Raw) {
				t.Fatalf("steps of %d: row %d is %q, the file goes on %.60q", step, r.Row, r.Raw, whole[at:])
			}
			at += len(r.Raw)
			return nil
		})
		if err != nil || s.Rows != rows || s.Lines.Total != lines {
			t.Errorf("steps of %d: got %d rows, %+v, %v, want %d rows, %d lines", step, s.Rows, s.Lines, err, rows, lines)
		}
	}
}

// FuzzQuoting holds the splitter's idea of where a record ends, how many cells it has and
// whether it can be read to that of encoding/csv.
func FuzzQuoting(f *testing.F) {
	for _, record := range []string{
		"A,1,,x,C1,2026\n", "A,1,,x,C1,2026\r\n", "A,1,,x,C1,2026", "A,1,,x,C1,2026\r", "A,1,,x,C1,a\rb\n", ",,,,,\n", " A , 1,\t, x,C\u00a01,\ufeff\r\r\n",
		"A,1\n", "A,1,2,3,4,5,6\n", "A;1;2,3;4;5;6;7\n", "A\t1|2\n", "A,1,,x,C1,\xff\xfe\x00\n", "\r", "\n", " \n", "x",
		"\"A\",\"1\",\"\",\"x,y\",\"C1\",\"2026\"\n", "A,1,\"a, b\",x,C,\"\"\r\n", "A,1,\"a \"\"b\"\"\",x,C,\"\"\"\"\n", "A,1,\"a\" ,x,C,\n", "A,1,a\"b,x,C,\n", "A,1,x,x,x,\"a\"b\n",
		"A,1, \"a\",x,C,\n", "A,1,\"\"a,x,C,\n", "\"A\",\"1\",\"\",\"x\",\"C1\",\"2026\"\r", "\"A\",1,2,3,4\n", "A,1,2,3,4,5,\"6\"\n", "\"\"\n", "\"a\nb\",1,\"c\n\nd\",x,C,\"\n\"\n",
		"\"a\nb\"x,1\n", "\"a\nb\",1,c\"d\n", "\"a\n\"\rb\n", "\r,\"a\"b\n", "A,\"1\n",
	} {
		for _, delim := range []byte(",;\t|") {
			f.Add(record, delim)
		}
	}
	f.Fuzz(func(t *testing.T, record string, delim byte) {
		if strings.Trim(record, "\r\n") == "" || !slices.Contains(delimiters[:], rune(delim)) {
			return // a blank line, or no layout
		}
		if end := strings.IndexByte(record, '\n'); strings.Trim(record[:end+1], "\r\n") == "" && end >= 0 {
			return // a blank line first
		}
		text := recordInput{}
		text.set([]byte(record))
		library := csv.NewReader(&text)
		library.Comma, library.FieldsPerRecord = rune(delim), -1
		want, err := library.Read()
		var q quoting
		end := 0
		for line := range bytes.Lines([]byte(record)) {
			q.follow(line, delim, 1)
			if end += len(line); !q.open() {
				break
			}
		}
		if q.open() {
			if !errors.Is(err, csv.ErrQuote) {
				t.Fatalf("%q: the record is open, the library says %v", record, err)
			}
			return
		}
		record = record[:end]
		var bad *csv.ParseError
		if errors.As(err, &bad) != (q.state == broken) || bad == nil && err != nil {
			t.Fatalf("%q: state %d, the library says %v", record, q.state, err)
		}
		switch {
		case bad != nil && q.delims != len(want):
			t.Fatalf("%q: broken behind %d cells, the library says %d", record, q.delims, len(want))
		case bad == nil && q.delims+1 != len(want):
			t.Fatalf("%q: %d cells, the library has %d", record, q.delims+1, len(want))
		}
		text.set([]byte(record))
		library = csv.NewReader(&text)
		library.Comma, library.FieldsPerRecord = rune(delim), -1
		if again, err := library.Read(); bad == nil && (err != nil || !slices.Equal(again, want)) {
			t.Fatalf("%q: read alone, it is %q, %v, not %q", record, again, err, want)
		}
		if _, err := library.Read(); bad == nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%q: something is left behind the record", record)
		}
	})
}
