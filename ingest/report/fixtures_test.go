package report_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"billdrop/fixtures"
	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"

	"github.com/google/go-cmp/cmp"
)

// version is the version in the expected summaries.
const version = "v0.0.0"

// reports are the result of an offline validation of one file.
type reports struct {
	survey  *billfile.Survey
	refused *billfile.FileError
	codes   map[int][]string // of records with problems, by line
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
		PhoneRegion:   f.PhoneRegion,
		Columns:       f.Columns,
		IgnoreColumns: f.IgnoreColumns,
		MaxFileSize:   f.MaxFileSize,
		MaxRows:       f.MaxRows,
		DecimalComma:  f.DecimalSeparator == ",",
		ShortRows:     f.ShortRows == "blank",
		AllowTotalRow: f.TotalRow == "allow",
	}
}

// noting passes records on and collects their codes.
type noting struct {
	from  report.Records
	codes map[int][]string
	visit func(*billfile.Record)
}

func (n *noting) Next() (*billfile.Record, error) {
	rec, err := n.from.Next()
	if err == nil {
		for _, p := range rec.Problems {
			n.codes[rec.Line] = append(n.codes[rec.Line], p.Code)
		}
		if n.visit != nil {
			n.visit(rec)
		}
	}
	return rec, err
}

// validate does an offline validation of a file in memory.
func validate(ctx context.Context, t *testing.T, name string, content []byte, f billfile.Format, visit func(*billfile.Record)) reports {
	t.Helper()
	sum := sha256.Sum256(content)
	file := &ledger.File{Name: name, SHA256: hex.EncodeToString(sum[:]), Version: version}
	if f.MaxFileSize > 0 && int64(len(content)) > f.MaxFileSize {
		file.SHA256 = "" // refused unread
	}
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
	var results, rejects bytes.Buffer
	out := report.Output{Results: &results, Rejects: &rejects, Layout: r.survey.Layout}
	if r.tally, err = report.Validate(out, &noting{from: recs, codes: r.codes, visit: visit}); err != nil {
		t.Fatal(err)
	}
	r.results, r.rejects = results.Bytes(), rejects.Bytes()
	file.Lines, file.Outcome = ledger.Lines(r.survey.Lines), report.OutcomeOf(r.tally.Rows)
	r.summary = report.Summarize(file, r.tally.Totals())
	r.summary.Warnings = r.survey.Warnings
	return r
}

// TestFixturesReports: the rows of every fixture give its expected reports.
func TestFixturesReports(t *testing.T) {
	for _, f := range fixtures.All() {
		if f.Format.OnInvalid != "" || f.Checksum() != nil {
			continue // a rule of the feed, a sidecar: TestValidateFixtures covers them
		}
		t.Run(f.Name, func(t *testing.T) {
			format := formatOf(f.Format)
			if err := format.Validate(); err != nil {
				t.Fatal(err)
			}
			r := validate(t.Context(), t, f.Name, f.Bytes(), format, nil)
			for ending, got := range map[string][]byte{"results.csv": r.results, "rejects.csv": r.rejects, "summary.json": r.summary.Bytes()} {
				if diff := cmp.Diff(string(f.Report(ending)), string(got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", ending, diff)
				}
			}
			if r.refused != nil {
				return
			}
			if lines := r.survey.Lines; r.survey.Rows != r.tally.Records || lines.Data != r.tally.Lines || lines.Total != lines.Header+lines.Blank+lines.Data {
				t.Errorf("the survey found %d records and lines %+v, the walk %d records on %d lines", r.survey.Rows, lines, r.tally.Records, r.tally.Lines)
			}
			for currency, sum := range r.survey.Amounts {
				if got := r.tally.Amounts[currency][report.Valid]; got != sum {
					t.Errorf("the survey sums %d %s, the walk %d", sum, currency, got)
				}
			}
		})
	}
}

// TestFixturesRejectsDroppedAgain delivers the rejects file of each fixture twice,
// uncorrected: each row has the same fault again, and the second rejects file is like the
// first.
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
				return // a repeated row is fine without the row that it repeats
			}
			if diff := cmp.Diff(lists(first.codes), lists(second.codes)); diff != "" {
				t.Errorf("faults (-first +second):\n%s", diff)
			}
			numbers := regexp.MustCompile(`[0-9]+( fields?\b)?`) // details name lines and numbers of cells, which differ in this file
			plain := func(b []byte) string { return numbers.ReplaceAllString(string(b), "#") }
			if diff := cmp.Diff(plain(first.rejects), plain(second.rejects)); diff != "" {
				t.Errorf("rejects (-first +second):\n%s", diff)
			}
		})
	}
}

// lists returns the lists of codes in line order.
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

// TestRejectsFixedGoThrough does what a clerk does: it corrects the cells, keeps the error
// columns, and delivers the file.
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
		if r.refused != nil || len(r.codes) != 0 || r.tally.Rows[report.Valid] != len(broken.codes) {
			t.Errorf("refused: %v, problems: %v, rows: %v in:\n%s", r.refused, r.codes, r.tally.Rows, mended)
		}
		return
	}
	t.Fatal("the demo has no file with problems")
}

// identities returns the identity and passport numbers in a file of the preset, valid or not.
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

// TestReportsAreDiscreet: no report repeats the personal data of its rows.
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
				t.Errorf("%s: the report holds %q", f.Name, p)
			}
			looked++
		}
	}
	if looked < 500 {
		t.Errorf("looked for %d pieces only", looked)
	}
}
