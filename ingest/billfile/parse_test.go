package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// FuzzQuoting holds the count of a record's cells, and the place of a stray quotation mark, to encoding/csv; and the cells
// that the parser reads to those that encoding/csv reads.
func FuzzQuoting(f *testing.F) {
	for _, record := range []string{
		"A,1,,x,C1,2026\n", "A,1,,x,C1,2026\r\n", "A,1,,x,C1,2026", "A,1,,x,C1,2026\r", "A,1,,x,C1,a\rb\n", ",,,,,\n", " A , 1,\t, x,C\u00a01,\ufeff\r\r\n",
		"A,1\n", "A,1,2,3,4,5,6\n", "A;1;2,3;4;5;6;7\n", "A\t1|2\n", "A,1,,x,C1,\xff\xfe\x00\n", "\r", "\n", " \n", "x",
		"\"A\",\"1\",\"\",\"x,y\",\"C1\",\"2026\"\n", "A,1,\"a, b\",x,C,\"\"\r\n", "A,1,\"a \"\"b\"\"\",x,C,\"\"\"\"\n", "A,1,\"a\" ,x,C,\n", "A,1,a\"b,x,C,\n", "A,1,x,x,x,\"a\"b\n",
		"A,1, \"a\",x,C,\n", "A,1,\"\"a,x,C,\n", "\"A\",\"1\",\"\",\"x\",\"C1\",\"2026\"\r", "\"A\",1,2,3,4\n", "A,1,2,3,4,5,\"6\"\n", "\"\"\n", "\"a\nb\",1,\"c\n\nd\",x,C,\"\n\"\n",
		"\"a\nb\"x,1\n", "\"a\nb\",1,c\"d\n", "\"a\n\"\rb\n", "\r,\"a\"b\n", "A,\"1\n",
	} {
		for _, delim := range []byte(",;\t|") {
			f.Add(record, delim, byte(6))
			f.Add(record, delim, byte(1+strings.Count(record, ",")))
		}
	}
	columns := []column{
		{field: fieldReference}, {field: fieldAmount}, {field: ignored}, {field: fieldPart}, {field: fieldCustomerReference}, {field: fieldMetadata},
	}
	number(columns)
	f.Fuzz(func(t *testing.T, record string, delim, n byte) {
		if strings.Trim(record, "\r\n") == "" || !slices.Contains(delimiters[:], rune(delim)) || n < 1 || int(n) > len(columns) {
			return // a blank line, or no layout
		}
		if end := strings.IndexByte(record, '\n'); strings.Trim(record[:end+1], "\r\n") == "" && end >= 0 {
			return // a blank line first
		}
		text := feed{}
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
		if bad != nil {
			line := 1 + strings.Count(record[:q.mark], "\n")
			column := q.mark - strings.LastIndexByte(record[:q.mark], '\n')
			if line != bad.Line || column != bad.Column || q.cells != len(want) {
				t.Fatalf("%q: line %d, column %d behind %d cells; the library says %v behind %d", record, line, column, q.cells, err, len(want))
			}
			record = record[:q.whole]
		} else if q.cells+1 != len(want) {
			t.Fatalf("%q: %d cells, the library has %d", record, q.cells+1, len(want))
		}
		p, err := newParser(Layout{Delimiter: rune(delim), columns: columns[:n]}, zar, newPhoneReader(""), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.read([]byte(record))
		if err != nil {
			t.Fatalf("%q: %v", record, err)
		}
		for i := range columns[:n] {
			expected := ""
			if i < len(want) {
				expected = want[i]
			}
			if got := *got.at(&columns[i]); got != expected {
				t.Errorf("%q: cell %q, the library has %q", record, got, expected)
			}
		}
		if _, err := p.csv.Read(); !errors.Is(err, io.EOF) {
			t.Errorf("%q: something is left behind the record", record)
		}
	})
}
