package billfile

import (
	"slices"
	"strings"
	"testing"
)

// FuzzCut holds the short cut for plain records to what the CSV library makes of them.
func FuzzCut(f *testing.F) {
	for _, record := range []string{
		"A,1,,x,C1,2026\n", "A,1,,x,C1,2026\r\n", "A,1,,x,C1,2026", "A,1,,x,C1,2026\r", "A,1,,x,C1,a\rb\n", ",,,,,\n", " A , 1,\t, x,C\u00a01,\ufeff\r\r\n",
		"A,1\n", "A,1,2,3,4,5,6\n", "A;1;2,3;4;5;6;7\n", "A\t1|2\n", "A,1,,x,C1,\xff\xfe\x00\n", "\r", "\n", " \n", "x",
		"\"A\",\"1\",\"\",\"x,y\",\"C1\",\"2026\"\n", "A,1,\"a, b\",x,C,\"\"\r\n", "A,1,\"a \"\"b\"\"\",x,C,\"\"\"\"\n", "A,1,\"a\" ,x,C,\n", "A,1,a\"b,x,C,\n", "A,1,x,x,x,\"a\"b\n",
		"A,1, \"a\",x,C,\n", "A,1,\"\"a,x,C,\n", "\"A\",\"1\",\"\",\"x\",\"C1\",\"2026\"\r", "\"A\",1,2,3,4\n", "A,1,2,3,4,5,\"6\"\n", "\"\"\n",
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
		case end >= 0 && end < len(record)-1:
			return // more than one line
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
		plain := !strings.Contains(record, `"`)
		if got := p.cut(record); got && err != nil || plain && !got && err == nil {
			t.Fatalf("%q: cut says %v, the library %v", record, got, err)
		} else if !got {
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
