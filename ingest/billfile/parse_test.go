package billfile

import (
	"slices"
	"strings"
	"testing"
)

// FuzzSplitCells holds the short cut for records without quotation marks to what the CSV library makes of them.
func FuzzSplitCells(f *testing.F) {
	for _, record := range []string{
		"A,1,,x,C1,2026\n", "A,1,,x,C1,2026\r\n", "A,1,,x,C1,2026", "A,1,,x,C1,2026\r", "A,1,,x,C1,a\rb\n", ",,,,,\n", " A , 1,\t, x,C\u00a01,\ufeff\r\r\n",
		"A,1\n", "A,1,2,3,4,5,6\n", "A;1;2,3;4;5;6;7\n", "A\t1|2\n", "A,1,,x,C1,\xff\xfe\x00\n", "\r", "\n", " \n", "x",
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
		end := strings.IndexByte(record, '\n')
		switch {
		case strings.IndexByte(record, '"') >= 0 || end >= 0 && end < len(record)-1:
			return // not a record without quotation marks
		case strings.Trim(record, "\r\n") == "":
			return // a blank line
		case !slices.Contains(delimiters[:], rune(delim)) || n < 1 || int(n) > len(columns):
			return // no layout
		}
		p, err := newRowParser(Layout{Delimiter: rune(delim), columns: columns[:n]}, zar, newPhoneReader(""))
		if err != nil {
			t.Fatal(err)
		}
		p.feed.set([]byte(record))
		want, err := p.rows.Read()
		if got := p.split(record); got != (err == nil) {
			t.Fatalf("%q: split says %v, the library %v", record, got, err)
		}
		if err != nil {
			return
		}
		for _, c := range columns[:n] {
			if c.field == ignored {
				continue
			}
			if got, want := *p.cells.at(c.field, c.slot), *want.(*cells).at(c.field, c.slot); got != want {
				t.Errorf("%q: cell %q, the library has %q", record, got, want)
			}
		}
	})
}
