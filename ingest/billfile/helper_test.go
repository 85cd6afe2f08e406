package billfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// zar is a format as most feeds have it.
var zar = Format{Amounts: Minor, Currency: "ZAR", Currencies: []string{"ZAR", "USD"}, PhoneRegion: "ZA"}

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

// records decodes a whole file that can be read, and checks the sums of its survey on the way.
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
