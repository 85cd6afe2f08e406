package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"billdrop/fixtures"
)

// Another file than the one surveyed is not decoded to its end as if it were.
func TestDecodeOfAnotherFile(t *testing.T) {
	s := survey(t, head+"A,1,C1\nB,1,C2\n", zar)
	for _, text := range []string{head + "A,1,C1\n", head + "A,1,C1\nB,1,C2\n\n", head + "A,1,C1\nB,12,C2\n", "amount_due,bill_reference,customer_reference\n1,A,C1\n1,B,C2\n"} {
		d, err := s.Decode(strings.NewReader(text))
		for err == nil {
			_, err = d.Next()
		}
		if !errors.Is(err, ErrChanged) {
			t.Errorf("%q: got %v, want ErrChanged", text, err)
		}
	}
}

// What is skipped is read all the same, and the records after it are those of a whole pass.
func TestDecodeSkip(t *testing.T) {
	var text strings.Builder
	text.WriteString(head)
	const rows = 3000 // several batches
	for i := range rows {
		fmt.Fprintf(&text, "INV-%d,%d,C%d\n\n", i, i%7, i%5) // no bill of nothing
	}
	s := survey(t, text.String(), zar)
	whole := decodeAll(t, s, text.String())
	for _, c := range []struct{ skip, take int }{{0, 1}, {1, 1}, {499, 3}, {1000, 1000}, {rows - 1, 1}} {
		d, err := s.Decode(strings.NewReader(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		for from := 0; from+c.skip+c.take <= rows; from += c.skip + c.take {
			if err := d.Skip(c.skip); err != nil {
				t.Fatal(err)
			}
			for i := range c.take {
				r, err := d.Next()
				if err != nil {
					t.Fatal(err)
				}
				if got, want := fmt.Sprintf("%+v", *r), whole[from+c.skip+i]; got != want {
					t.Fatalf("skip %d: got %s, want %s", c.skip, got, want)
				}
			}
		}
	}
	d, err := s.Decode(strings.NewReader(text.String()))
	if err == nil {
		err = d.Skip(rows + 1)
	}
	if err != io.EOF {
		t.Errorf("beyond the end: %v", err)
	}
}

// decodeAll returns the records of a pass as text.
func decodeAll(t *testing.T, s *Survey, text string) (all []string) {
	t.Helper()
	d, err := s.Decode(strings.NewReader(text))
	for err == nil {
		var r *Record
		if r, err = d.Next(); err == nil {
			all = append(all, fmt.Sprintf("%+v", *r))
		}
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	return all
}

// FuzzDecode holds reading to its promises, whatever the bytes: it ends, accounts for
// every line and every byte, gives the file's own bytes back, and never makes a bill of
// what the rules refuse.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		head + "A,1,C1\n", "\ufeff" + head + "A,1,C1\r\n\r\nB,x,\"C\n1\"\n", "sep=;\nbill_reference;amount_due;customer_id\nA;1.5;bcus_1\nA;1.5;bcus_1\n",
		wide(head+"A,1,C1\n", false, true), wide(head+"A,1,C1\n", true, true), head + "A,1,\"C\n1\"x\nA,2,C1\n\n", head + "A,1,C\xe9\n", head + "A,1,\"C",
		dailyHeader + "A,B,,8002295123085,0821234567,a@example.com,2026-11-30,2.5\nA,B,A1,,,,2026-11-30,1\nA,,A1,,,,2026-11-30,1\n", dailyHeader + "A,B,1,2,,,,0.001\n",
		"customer_reference,amount_due,period\nC1,1,2\nC1,1,\nC1,1,2\nC1,2,2\n",
		"bill_reference,amount_due,currency,account_reference,customer_reference,customer_name,customer_email,customer_phone,bill_date,due_date,metadata.a\nA,10.50,USD,X,C,\"A \"\"B\"\"\",a@b.cd,0821234567,2026-01-01,2026-01-31,z\n",
	} {
		for kind := range byte(8) {
			f.Add([]byte(seed), kind)
		}
	}
	for _, file := range fixtures.All() {
		if text := file.Bytes(); len(text) < 1024 {
			f.Add(text, fuzzKind(file.Format))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, kind byte) {
		format := zar
		switch kind % 8 {
		case 1:
			format.Amounts = Major
		case 2:
			format.Encoding = "windows-1252"
		case 3:
			format.Encoding = "utf-16"
		case 4:
			format.AllowNoFinalNewline = true
		case 5:
			format.Delimiter, format.DateFormat, format.PhoneRegion = ';', "02/01/2006", ""
		case 6:
			format = daily
		case 7:
			format.BillReference, format.Columns = "{customer_reference}-{metadata.a}{amount_due}", map[string]string{"period": "metadata.A"}
		}
		var visited []string
		s, err := TakeSurvey(t.Context(), opener(string(text)), format, func(r *Record) error {
			visited = append(visited[:r.Row-1], codes(*r))
			return nil
		})
		var bad *FileError
		if errors.As(err, &bad) {
			if bad.Code == "" || bad.Detail == "" || strings.ContainsAny(bad.Detail, "\n\r\x00") {
				t.Fatalf("file error %+v is not fit to be shown", bad)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		_, all := records(t, string(text), format)
		if len(visited) != len(all) {
			t.Fatalf("visited %d records, decoded %d", len(visited), len(all))
		}
		for i, r := range all {
			if visited[i] != codes(r) {
				t.Fatalf("row %d was visited with %q, decoded with %q", r.Row, visited[i], codes(r))
			}
		}
		checkLines(t, s, all, text)
		for _, r := range all {
			if len(r.Problems) == 0 {
				checkBill(t, &r, format)
			}
		}
	})
}

// fuzzKind is the kind that reads a fixture's format best.
func fuzzKind(f fixtures.Format) byte {
	switch {
	case f.Preset != "":
		return 6
	case f.BillReference != "":
		return 7
	case f.Encoding == "windows-1252":
		return 2
	case f.Amounts == "major":
		return 1
	}
	return 0
}

// checkLines holds the counted lines and the records' bytes to the file.
func checkLines(t *testing.T, s *Survey, all []Record, text []byte) {
	plain := decoded(t, text, s)
	rest := plain[len(s.Layout.Header):]
	line, spans := s.Layout.HeaderLines+1, 0
	blank := func() {
		for len(rest) > 0 {
			n := bytes.IndexByte(rest, '\n') + 1
			if n == 0 {
				n = len(rest)
			}
			if !emptyCells(rest[:n], s.Layout.Delimiter) {
				return
			}
			rest = rest[n:]
			line++
		}
	}
	for _, r := range all {
		blank()
		if r.Line != line || !bytes.HasPrefix(rest, r.Raw) || r.Size != int64(len(r.Raw)) {
			t.Fatalf("row %d: line %d, %q; want line %d, text goes on %.60q", r.Row, r.Line, r.Raw, line, rest)
		}
		rest = rest[len(r.Raw):]
		line += r.Span
		spans += r.Span
	}
	blank()
	if len(rest) > 0 || s.Lines.Data != spans || s.Lines.Total != line-1 || s.Lines.Total != s.Lines.Header+s.Lines.Blank+s.Lines.Data {
		t.Fatalf("%d bytes are not accounted for; lines %+v, spans %d, last line %d", len(rest), s.Lines, spans, line-1)
	}
	if s.Lines.Blank == 0 {
		roundTrip(t, s, all, string(text))
	}
}

// emptyCells reports whether the cells of a line are all empty, as the library for CSV reads them.
func emptyCells(line []byte, delimiter rune) bool {
	if len(bytes.Trim(line, " \t\r\n\u00a0")) == 0 {
		return true
	}
	r := csv.NewReader(bytes.NewReader(line))
	r.Comma, r.LazyQuotes = delimiter, false
	cells, err := r.Read()
	if errors.Is(err, csv.ErrBareQuote) { // space before a quotation mark, or behind it, is nothing here
		return len(bytes.TrimFunc(bytes.ReplaceAll(line, []byte(`""`), nil), func(c rune) bool { return isSpace(c) || c == delimiter || c == '\r' || c == '\n' })) == 0
	}
	return err == nil && !slices.ContainsFunc(cells, func(c string) bool {
		return strings.TrimFunc(c, func(r rune) bool { return isSpace(r) || r == '\r' || r == '\n' }) != ""
	})
}

// decoded is a file's text in UTF-8, without byte order mark.
func decoded(t *testing.T, text []byte, s *Survey) []byte {
	src, err := newSource(bytes.NewReader(text), s.format.Encoding, 0, s.format.AllowNoFinalNewline)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(readerFunc(func(p []byte) (int, error) {
		big := make([]byte, max(len(p), 16))
		n, err := src.Read(big[:max(len(p), 16)])
		if n > len(p) {
			t.Fatal("io.ReadAll asks for fewer than 16 bytes")
		}
		return copy(p, big[:n]), err
	}))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// checkBill holds a valid record to what the API takes.
func checkBill(t *testing.T, r *Record, f Format) {
	b := &r.Bill
	if r.Span != 1 {
		t.Fatalf("a record over %d lines became a bill", r.Span)
	}
	if checkReference(b.Reference, false).code != "" || b.Reference == "" || b.Amount < 1 || b.Amount > maxAmount {
		t.Fatalf("bill %+v", b)
	}
	if b.Currency != "ZAR" && b.Currency != "USD" {
		t.Fatalf("currency %q", b.Currency)
	}
	if b.DueDate != "" && !isISO(b.DueDate) || b.BillDate != "" && !isISO(b.BillDate) || b.BillDate != "" && b.DueDate != "" && b.DueDate < b.BillDate {
		t.Fatalf("dates %q, %q", b.BillDate, b.DueDate)
	}
	if b.AccountReference+b.AccountID+b.CustomerReference+b.CustomerID == "" {
		t.Fatal("nobody pays")
	}
	for _, s := range []string{b.AccountName, b.CustomerName, b.CustomerEmail, b.CustomerPhone} {
		if invisible(s) >= 0 || trim(s) != s {
			t.Fatalf("text %q", s)
		}
	}
}
