package billfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"billdrop/fixtures"
)

// zar is a format as most feeds have it.
var zar = Format{Amounts: Minor, Currency: "ZAR", Currencies: []string{"ZAR", "USD"}, PhoneRegion: "ZA"}

const head = "bill_reference,amount_due,customer_reference\n"

// wide is text in UTF-16, with a byte order mark if mark is set.
func wide(text string, big, mark bool) string {
	if mark {
		text = "\ufeff" + text
	}
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return string(b)
}

// roundTrip puts a file together from its header and records, and holds it to the
// original, blank lines left out.
func roundTrip(t testing.TB, s *Survey, all []Record, text string) {
	t.Helper()
	var out bytes.Buffer
	w := s.Layout.Encoder(&out)
	write := func(b []byte) {
		for len(b) > 0 { // in small pieces, which cut characters
			n := min(len(b), 3)
			if _, err := w.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
	}
	write(s.Layout.Header)
	for _, r := range all {
		if r.Size != int64(len(r.Raw)) {
			return // beyond the limit: its bytes are not held
		}
		write(r.Raw)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if s.Lines.Blank == 0 && out.String() != text {
		t.Errorf("got back %.200q, want %.200q", out.String(), text)
	}
	if s.Lines.Blank > 0 && out.Len() >= len(text) {
		t.Errorf("got back %d bytes, want fewer than %d", out.Len(), len(text))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// reporter is what a plain test and a rapid one have in common.
type reporter interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
	Context() context.Context
}

func opener(text string) Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// survey takes a survey that must succeed.
func survey(t reporter, text string, f Format) *Survey {
	t.Helper()
	s, err := TakeSurvey(t.Context(), opener(text), f, nil)
	if err != nil {
		t.Fatalf("survey of %.80q: %v", text, err)
	}
	return s
}

// refusal takes a survey that must end in a file-level error.
func refusal(t testing.TB, text string, f Format) *FileError {
	t.Helper()
	_, err := TakeSurvey(t.Context(), opener(text), f, nil)
	var bad *FileError
	if !errors.As(err, &bad) {
		t.Fatalf("survey of %.80q: got error %v, want a *FileError", text, err)
	}
	return bad
}

// records decodes a whole file that can be read, and checks the sums of its survey on the
// way.
func records(t reporter, text string, f Format) (*Survey, []Record) {
	t.Helper()
	s := survey(t, text, f)
	d, err := s.Decode(strings.NewReader(text))
	if err != nil {
		t.Fatalf("decode %.80q: %v", text, err)
	}
	var all []Record
	codes, amounts := map[string]int{}, map[string]int64{}
	invalid := 0
	for {
		r, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("decode %.80q: %v", text, err)
		}
		c := *r
		c.Raw = bytes.Clone(r.Raw)
		all = append(all, c)
		if len(r.Problems) > 0 {
			invalid++
			codes[r.Problems[0].Code]++
		} else {
			amounts[r.Bill.Currency] += r.Bill.Amount
		}
	}
	if s.Rows != len(all) || s.Invalid != invalid {
		t.Errorf("survey says %d rows, %d invalid; decoded %d, %d", s.Rows, s.Invalid, len(all), invalid)
	}
	if !equal(codes, s.Codes) || !equal(amounts, s.Amounts) {
		t.Errorf("survey says %v %v; decoded %v %v", s.Codes, s.Amounts, codes, amounts)
	}
	return s, all
}

func equal[K comparable, V comparable](a, b map[K]V) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// codes are the codes of a record's problems, "column:code".
func codes(r Record) string {
	var all []string
	for _, p := range r.Problems {
		all = append(all, p.Column+":"+p.Code)
	}
	return strings.Join(all, " ")
}

// readCloser shortens an opener's signature.
type readCloser = io.ReadCloser

// endless is a stream that begins with one text, repeats another until it has size bytes
// more, and ends with a third.
func endless(begin, repeat string, size int, end string) Opener {
	repeat = strings.Repeat(repeat, 1+(32<<10)/len(repeat))
	return func() (io.ReadCloser, error) {
		left := size
		middle := readerFunc(func(p []byte) (int, error) {
			if left == 0 {
				return 0, io.EOF
			}
			n := copy(p[:min(len(p), left)], repeat)
			left -= n
			return n, nil
		})
		return io.NopCloser(io.MultiReader(strings.NewReader(begin), middle, strings.NewReader(end))), nil
	}
}

// formatOf is a fixture's format in this package's terms.
func formatOf(f fixtures.Format) Format {
	return Format{
		Preset: f.Preset, BillReference: f.BillReference,
		Amounts:  map[string]Amounts{"minor": Minor, "major": Major}[f.Amounts],
		Currency: f.Currency, Currencies: f.Currencies, Encoding: f.Encoding, DateFormat: f.DateFormat, PhoneRegion: "ZA",
		Columns: f.Columns, IgnoreColumns: f.IgnoreColumns, MaxFileSize: f.MaxFileSize,
	}
}

// sliceReader reads a slice without copying it first.
type sliceReader struct{ rest []byte }

func (r *sliceReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

const dailyHeader = "first_name,last_name,passport_number,sa_identification_number,mobile_phone_number,email,due_date,amount_due\n"

var daily = Format{Preset: "moment-daily", Currency: "ZAR", Currencies: []string{"ZAR", "USD"}, PhoneRegion: "ZA"}

// A row is written as its cells in the order of this header.
const rowHeader = "bill_reference,amount_due,currency,bill_date,due_date,account_reference,account_id,customer_reference,customer_id,account_name,customer_name,customer_email,customer_phone,metadata.note\n"

// row is a good row with some cells replaced.
func row(cells map[string]string) string {
	names := strings.Split(strings.TrimSpace(rowHeader), ",")
	values := make([]string, len(names))
	for i, name := range names {
		switch name {
		case "bill_reference":
			values[i] = "INV-1"
		case "amount_due":
			values[i] = "2000"
		case "customer_reference":
			values[i] = "C1"
		}
		if v, ok := cells[name]; ok {
			values[i] = v
		}
	}
	return strings.Join(values, ",") + "\n"
}
