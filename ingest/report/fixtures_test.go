package report_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"billdrop/fixtures"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/preview"
	"billdrop/ingest/report"

	"github.com/google/go-cmp/cmp"
)

// update writes the expected reports anew. What it writes is to be read and judged against the file format's
// rules before it is kept: the code is not the judge of itself.
var update = flag.Bool("update", false, "write fixtures/expected anew")

// version is the one that the expected summaries name.
const version = "v0.0.0"

// reports are what an offline validation of one file writes.
type reports struct {
	survey  *billfile.Survey
	refused *billfile.FileError
	codes   map[int][]string // of the records with problems, by line
	tally   report.Tally
	results []byte
	rejects []byte
	summary report.Summary
}

func formatOf(f fixtures.Format) billfile.Format {
	return billfile.Format{
		Preset:        f.Preset,
		BillReference: f.BillReference,
		Amounts:       map[string]billfile.Amounts{"minor": billfile.Minor, "major": billfile.Major}[f.Amounts],
		Currency:      f.Currency,
		Currencies:    f.Currencies,
		Encoding:      f.Encoding,
		DateFormat:    f.DateFormat,
		PhoneRegion:   "ZA",
		Columns:       f.Columns,
		IgnoreColumns: f.IgnoreColumns,
		MaxFileSize:   f.MaxFileSize,
	}
}

// noting passes records on and notes their codes.
type noting struct {
	from  report.Records
	codes map[int][]string
	hear  func(*billfile.Record)
}

func (n *noting) Next() (*billfile.Record, error) {
	rec, err := n.from.Next()
	if err == nil {
		for _, p := range rec.Problems {
			n.codes[rec.Line] = append(n.codes[rec.Line], p.Code)
		}
		if n.hear != nil {
			n.hear(rec)
		}
	}
	return rec, err
}

// validate does to a file in memory what an offline validation does.
func validate(ctx context.Context, t *testing.T, name string, content []byte, f billfile.Format, hear func(*billfile.Record)) reports {
	t.Helper()
	sum := sha256.Sum256(content)
	file := &ledger.File{Name: name, SHA256: hex.EncodeToString(sum[:]), Version: version}
	file.Stem = report.Stem(name, file.SHA256, 1)
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	r := reports{codes: map[int][]string{}}
	var err error
	if r.survey, err = billfile.TakeSurvey(ctx, open, f, nil); errors.As(err, &r.refused) {
		file.Outcome, file.Code, file.Detail, file.Line = ledger.FileRejected, r.refused.Code, r.refused.Detail, r.refused.Line
		r.summary = report.Summarize(file, ledger.Totals{})
		return r
	}
	if err != nil {
		t.Fatal(err)
	}
	recs, err := r.survey.Decode(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	l := r.survey.Layout
	var results, rejects bytes.Buffer
	out := report.Output{
		Results: &results, Rejects: &rejects,
		Layout: report.Layout{Header: l.Header, Delimiter: l.Delimiter, Encoding: l.Encoding, Encoder: l.Encoder},
	}
	if r.tally, err = report.Validate(out, &noting{from: recs, codes: r.codes, hear: hear}); err != nil {
		t.Fatal(err)
	}
	r.results, r.rejects = results.Bytes(), rejects.Bytes()
	file.Lines, file.Outcome = ledger.Lines(r.survey.Lines), report.OutcomeOf(r.tally.Rows)
	r.summary = report.Summarize(file, r.tally.Totals())
	return r
}

func TestFixturesAreFoundOut(t *testing.T) {
	for _, f := range fixtures.All() {
		t.Run(f.Name, func(t *testing.T) {
			format := formatOf(f.Format)
			if err := format.Validate(); err != nil {
				t.Fatal(err)
			}
			r := validate(t.Context(), t, f.Name, f.Bytes(), format, nil)
			if f.Want.Code == "checksum_mismatch" {
				return // the rows do not show it
			}
			if f.Want.Code != "" && f.Want.Code != "invalid_rows" || r.refused != nil {
				if r.refused == nil || r.refused.Code != f.Want.Code {
					t.Errorf("refused for %v, want %q", r.refused, f.Want.Code)
				}
				return
			}
			if r.survey.Rows != f.Want.Rows || r.tally.Records != f.Want.Rows {
				t.Errorf("survey found %d records, the walk %d, want %d", r.survey.Rows, r.tally.Records, f.Want.Rows)
			}
			want := f.Want.Invalid
			if want == nil {
				want = map[int][]string{}
			}
			if diff := cmp.Diff(want, r.codes); diff != "" {
				t.Errorf("codes by line (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(f.Want.Amounts, r.survey.Amounts); diff != "" {
				t.Errorf("amounts of the valid rows (-want +got):\n%s", diff)
			}
			for currency, sum := range f.Want.Amounts {
				if got := r.tally.Amounts[currency][report.Valid]; got != sum {
					t.Errorf("report sums %d %s, want %d", got, currency, sum)
				}
			}
			if lines := r.survey.Lines; lines.Total != lines.Header+lines.Blank+lines.Data || lines.Data != r.tally.Lines {
				t.Errorf("lines %+v, of the report's records %d", lines, r.tally.Lines)
			}
		})
	}
}

func TestFixturesReports(t *testing.T) {
	for _, f := range fixtures.All() {
		if f.Format.OnInvalid != "" || f.Checksum() != nil {
			continue // the whole validation is what shows it, in the test after this
		}
		t.Run(f.Name, func(t *testing.T) {
			r := validate(t.Context(), t, f.Name, f.Bytes(), formatOf(f.Format), nil)
			expect(t, f.Base()+".results.csv", r.results)
			expect(t, f.Base()+".rejects.csv", r.rejects)
			expect(t, f.Base()+".summary.json", r.summary.Bytes())
		})
	}
}

// expect compares a report with the expected one. An empty report is one that is not written.
func expect(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		path := filepath.Join("..", "..", "fixtures", "expected", name)
		if len(got) == 0 {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			return
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := fixtures.Files.ReadFile("expected/" + name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestFixturesThroughThePipeline: the offline validation that people run writes the expected reports.
func TestFixturesThroughThePipeline(t *testing.T) {
	in, out := t.TempDir(), t.TempDir()
	for _, f := range fixtures.All() {
		t.Run(f.Name, func(t *testing.T) {
			path := filepath.Join(in, f.Name)
			if err := os.WriteFile(path, f.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if sum := f.Checksum(); sum != nil {
				if err := os.WriteFile(path+".sha256", sum, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v, err := preview.Validate(t.Context(), preview.Check{
				Path: path, Format: formatOf(f.Format), RejectInvalid: f.Format.OnInvalid == "reject", Out: out, Version: version,
			})
			if err != nil {
				t.Fatal(err)
			}
			names := report.NamesOf(v.Stem)
			for name, ending := range map[string]string{names.Results: ".results.csv", names.Rejects: ".rejects.csv", names.Summary: ".summary.json"} {
				got, err := os.ReadFile(filepath.Join(out, name))
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				expect(t, f.Base()+ending, got)
			}
		})
	}
}

// TestFixturesRejectsDroppedAgain drops the rejects file of each fixture, unfixed, twice: each row is found again
// with the fault it had, and the second rejects file is as the first.
func TestFixturesRejectsDroppedAgain(t *testing.T) {
	for _, f := range fixtures.All() {
		if f.Checksum() != nil {
			continue
		}
		first := validate(t.Context(), t, f.Name, f.Bytes(), formatOf(f.Format), nil)
		if len(first.rejects) == 0 {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			second := validate(t.Context(), t, f.Name, first.rejects, formatOf(f.Format), nil)
			if second.refused != nil {
				t.Fatalf("the rejects file is refused: %v\n%s", second.refused, first.rejects)
			}
			if second.tally.Records != first.tally.Attention {
				t.Fatalf("%d rows for attention, %d read again:\n%s", first.tally.Attention, second.tally.Records, first.rejects)
			}
			if slices.Contains(slices.Concat(lists(first.codes)...), billfile.CodeDuplicateReference) {
				return // a repeated row is fine once the row that it repeats is not in the file
			}
			if diff := cmp.Diff(lists(first.codes), lists(second.codes)); diff != "" {
				t.Errorf("faults (-first +second):\n%s", diff)
			}
			numbers := regexp.MustCompile(`[0-9]+( fields?\b)?`) // details name lines and count cells, which are others in this file
			plain := func(b []byte) string { return numbers.ReplaceAllString(string(b), "#") }
			if diff := cmp.Diff(plain(first.rejects), plain(second.rejects)); diff != "" {
				t.Errorf("rejects (-first +second):\n%s", diff)
			}
		})
	}
}

// lists are the lists of codes in line order.
func lists(codes map[int][]string) [][]string {
	var lines []int
	for line := range codes {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	var all [][]string
	for _, line := range lines {
		all = append(all, codes[line])
	}
	return all
}

// TestRejectsFixedGoThrough does what a clerk does: mends the cells, leaves the error columns alone, drops the file.
func TestRejectsFixedGoThrough(t *testing.T) {
	mend := strings.NewReplacer(
		",412.50,", ",41250,", "2026-12-03,2026-11-03", "2026-11-03,2026-12-03", "elsabe.nel@example,082111", "elsabe.nel@example.com,0821110005",
		"8.5E+12", "85000", ",,,,,,,missing_party", ",,,WP-7010,Anonymous,,,missing_party",
	)
	for _, f := range fixtures.Demo() {
		if f.Name != "water-mixed.csv" {
			continue
		}
		broken := validate(t.Context(), t, f.Name, f.Bytes(), formatOf(f.Format), nil)
		mended := mend.Replace(string(broken.rejects))
		r := validate(t.Context(), t, "mended.csv", []byte(mended), formatOf(f.Format), nil)
		if r.refused != nil || len(r.codes) != 0 || r.tally.Rows[report.Valid] != len(f.Want.Invalid) {
			t.Errorf("refused: %v, problems: %v, rows: %v in:\n%s", r.refused, r.codes, r.tally.Rows, mended)
		}
		return
	}
	t.Fatal("the demo has no file with problems")
}

// identities are the identity and passport numbers in a file of the preset, right and wrong ones.
func identities(t *testing.T, f fixtures.Fixture) []string {
	t.Helper()
	rows, err := csv.NewReader(bytes.NewReader(f.Bytes())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i, name := range rows[0] {
		if name != "passport_number" && name != "sa_identification_number" {
			continue
		}
		for _, row := range rows[1:] {
			if row[i] != "" {
				all = append(all, row[i])
			}
		}
	}
	if len(all) == 0 {
		t.Errorf("%s: no identity number found", f.Name)
	}
	return all
}

// TestReportsAreDiscreet looks for what the rows say of people in everything that a report says about them.
func TestReportsAreDiscreet(t *testing.T) {
	looked := 0
	for _, f := range fixtures.All() {
		var private []string
		r := validate(t.Context(), t, f.Name, f.Bytes(), formatOf(f.Format), func(rec *billfile.Record) {
			b := &rec.Bill
			private = append(private, b.AccountName, b.CustomerName, b.CustomerEmail)
			if len(b.CustomerPhone) > 4 {
				private = append(private, b.CustomerPhone, b.CustomerPhone[3:])
			}
			for _, m := range b.Metadata {
				if len(m.Value) > 3 {
					private = append(private, m.Value)
				}
			}
		})
		if f.Format.Preset != "" {
			private = append(private, identities(t, f)...)
		}
		said := string(r.summary.Bytes())
		lines, err := csv.NewReader(bytes.NewReader(r.results)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, cells := range lines {
			said += "\n" + strings.Join(slices.Delete(cells, 1, 2), " ") // without the reference: it is there to be named
		}
		for _, p := range private {
			if strings.ContainsFunc(p, unicode.IsLetter) && strings.Contains(said, p) || len(p) > 8 && strings.Contains(said, p) {
				t.Errorf("%s: the report says %q", f.Name, p)
			}
			looked++
		}
	}
	if looked < 500 {
		t.Errorf("looked for %d pieces only", looked)
	}
}
