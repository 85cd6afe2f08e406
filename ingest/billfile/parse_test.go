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

// FuzzQuoting holds the splitter's idea of where a record ends, how many cells it has and whether it can be read to that
// of encoding/csv.
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
