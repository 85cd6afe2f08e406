package report_test

import (
	"bytes"
	"encoding/csv"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"billdrop/fixtures"
	"billdrop/ingest/billfile"
	"billdrop/ingest/report"
)

// otherFileCodes are file-level codes that do not come from the bill file alone: from a rule of
// the feed, and from a sidecar.
var otherFileCodes = []string{"invalid_rows", "checksum_mismatch", "too_many_invalid_rows"}

// TestEveryCodeHasAFixtureAndALine: each code of the file format is in some fixture, and in the
// tables of docs/file-format.md with its meaning, an example and what to do. The tables have no
// other codes.
func TestEveryCodeHasAFixtureAndALine(t *testing.T) {
	rows, files, warned := codesOf(t)
	page, err := os.ReadFile("../../docs/file-format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []struct {
		heading string
		codes   []string
		seen    map[string]bool // nil = not shown by fixtures
	}{
		{"### Rows that are not sent", billfile.RowCodes(), rows},
		{"### Files that are refused", slices.Concat(billfile.FileCodes(), otherFileCodes), files},
		{"## Warnings", append(billfile.WarningCodes(), "new_parties"), warned},
		{"### Files that are held", []string{"over_limit", "control_total_mismatch", "unreadable_companion"}, nil},
	} {
		lines := tableUnder(t, string(page), table.heading)
		for _, code := range table.codes {
			if table.seen != nil && !table.seen[code] && code != "too_many_invalid_rows" && code != "new_parties" { // of large files, and of a ledger
				t.Errorf("no fixture shows %s", code)
			}
			if !slices.ContainsFunc(lines, func(cells []string) bool { return cells[0] == "`"+code+"`" }) {
				t.Errorf("docs/file-format.md has no line for %s under %q", code, table.heading)
			}
		}
		for _, cells := range lines {
			if !slices.Contains(table.codes, strings.Trim(cells[0], "`")) {
				t.Errorf("docs/file-format.md explains %s under %q, which is not a code", cells[0], table.heading)
			}
			if len(cells) != 4 || slices.Contains(cells, "") {
				t.Errorf("docs/file-format.md: the line of %s has %q: code, meaning, example, what to do are needed", cells[0], cells)
			}
		}
		if len(lines) != len(table.codes) {
			t.Errorf("docs/file-format.md has %d lines under %q for %d codes", len(lines), table.heading, len(table.codes))
		}
	}
}

// codesOf returns the codes of the fixtures: the first of each row, those of files, and those of warnings.
func codesOf(t *testing.T) (rows, files, warned map[string]bool) {
	t.Helper()
	rows, files, warned = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, f := range fixtures.All() {
		files[f.Code] = true
		s, err := report.Parse(f.Report("summary.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range s.Warnings {
			warned[w.Code] = true
		}
		lines, err := csv.NewReader(bytes.NewReader(f.Report("results.csv"))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, cells := range lines {
			rows[cells[3]] = true
		}
	}
	return rows, files, warned
}

var cellEnd = regexp.MustCompile(`(^|[^\\])\|`)

// tableUnder returns the cells of the first table below a heading, line by line, without the
// table's head.
func tableUnder(t *testing.T, text, heading string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+heading)
	if !found {
		t.Fatalf("docs/file-format.md has no heading %q", heading)
	}
	var table [][]string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "|"):
			var cells []string
			for cell := range strings.SplitSeq(cellEnd.ReplaceAllString(strings.Trim(line, "|"), "$1\x00"), "\x00") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			table = append(table, cells)
		case len(table) > 0:
			return table[min(2, len(table)):]
		}
	}
	return table[min(2, len(table)):]
}

// TestDocumentedExamples: the examples in docs/file-format.md get the code of their line.
func TestDocumentedExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/file-format.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := tableUnder(t, string(page), "### Rows that are not sent")
	const columns = "bill_reference,amount_due,currency,bill_date,customer_reference,customer_id,customer_email,customer_phone"
	for _, tt := range []struct{ code, column, example string }{
		{"invalid_reference", "bill_reference", "INV 2026/11"},
		{"invalid_amount", "amount_due", "R2500"}, {"invalid_amount", "amount_due", "-2500"}, {"invalid_amount", "amount_due", ".5"},
		{"invalid_amount", "amount_due", "1500 CR"}, {"placeholder_value", "customer_reference", "NULL"}, {"placeholder_value", "bill_reference", "nan"}, {"reserved_reference", "bill_reference", "bill_2026"},
		{"date_out_of_range", "bill_date", "1899-12-30"}, {"date_out_of_range", "bill_date", "2206-11-30"}, {"invalid_date", "bill_date", "2026-11-30T22:00:00Z"}, {"invalid_email", "customer_email", "ann@example.com!"},
		{"spreadsheet_damage", "amount_due", "#BEZUG!"}, {"spreadsheet_damage", "amount_due", "Err:508"},
		{"amount_not_minor", "amount_due", "240.00"},
		{"amount_out_of_range", "amount_due", "0"}, {"amount_out_of_range", "amount_due", "100000000"},
		{"invalid_currency", "currency", "ZARR"}, {"invalid_currency", "currency", "R"}, {"unsupported_currency", "currency", "EUR"},
		{"invalid_date", "bill_date", "31/01/2026"}, {"invalid_date", "bill_date", "2026-11-31"}, {"invalid_date", "bill_date", "46000"},
		{"invalid_email", "customer_email", "jaco@example"},
		{"invalid_phone", "customer_phone", "82123456"}, {"invalid_phone", "customer_phone", "082 123 4507 x12"},
		{"invalid_id", "customer_id", "acc_6"},
		{"spreadsheet_damage", "amount_due", "8.5E+12"}, {"spreadsheet_damage", "amount_due", "1.234,56"}, {"spreadsheet_damage", "amount_due", "#REF!"},
		{"bare_quote", "bill_reference", `Joe "Sparky" Nkosi`},
	} {
		i := slices.IndexFunc(lines, func(cells []string) bool { return cells[0] == "`"+tt.code+"`" })
		if i < 0 || len(lines[i]) < 3 || !strings.Contains(lines[i][2], "`"+tt.example+"`") {
			t.Errorf("docs/file-format.md does not have %q as an example of %s", tt.example, tt.code)
		}
		cells := map[string]string{"bill_reference": "A", "amount_due": "1", "customer_reference": "C"}
		if tt.column == "customer_id" {
			delete(cells, "customer_reference")
		}
		if cells[tt.column] = tt.example; strings.Contains(tt.example, ",") {
			cells[tt.column] = `"` + tt.example + `"`
		}
		var row []string
		for column := range strings.SplitSeq(columns, ",") {
			row = append(row, cells[column])
		}
		format := billfile.Format{Amounts: billfile.Minor, Currency: "ZAR", Currencies: []string{"ZAR", "USD"}, PhoneRegion: "ZA"}
		r := validate(t.Context(), t, "example.csv", []byte(columns+"\n"+strings.Join(row, ",")+"\n"), format, nil)
		if got := r.codes[2]; len(got) != 1 || got[0] != tt.code {
			t.Errorf("%q gets %v, docs/file-format.md says %s", tt.example, got, tt.code)
		}
	}
}
