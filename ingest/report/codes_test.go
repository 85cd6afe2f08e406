package report_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"billdrop/fixtures"
	"billdrop/ingest/billfile"
)

// otherFileCodes are file-level codes that the rows do not show: a rule of the feed, and a companion of the file.
var otherFileCodes = []string{"invalid_rows", "checksum_mismatch"}

// TestEveryCodeHasAFixtureAndALine walks the codes of the file format: each must be seen in some fixture, and stand in the
// README's tables with meaning, example and what to do. No table has a code that there is not.
func TestEveryCodeHasAFixtureAndALine(t *testing.T) {
	rows, files := codesOf(fixtures.All())
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []struct {
		heading string
		codes   []string
		seen    map[string]bool // nil = not of a bill file
	}{
		{"### Rows that are not sent", billfile.RowCodes(), rows},
		{"### Files that are refused", slices.Concat(billfile.FileCodes(), otherFileCodes), files},
		{"### Files that are held", []string{"over_limit", "control_total_mismatch"}, nil},
	} {
		lines := tableUnder(t, string(readme), table.heading)
		for _, code := range table.codes {
			if table.seen != nil && !table.seen[code] {
				t.Errorf("no fixture shows %s", code)
			}
			if !slices.ContainsFunc(lines, func(cells []string) bool { return cells[0] == "`"+code+"`" }) {
				t.Errorf("README.md has no line for %s under %q", code, table.heading)
			}
		}
		for _, cells := range lines {
			if !slices.Contains(table.codes, strings.Trim(cells[0], "`")) {
				t.Errorf("README.md explains %s under %q, which is no code", cells[0], table.heading)
			}
			if len(cells) != 4 || slices.Contains(cells, "") {
				t.Errorf("README.md: the line of %s has %q: code, meaning, example, what to do are needed", cells[0], cells)
			}
		}
		if len(lines) != len(table.codes) {
			t.Errorf("README.md has %d lines under %q for %d codes", len(lines), table.heading, len(table.codes))
		}
	}
}

// codesOf are the codes that fixtures show: of rows, and of files.
func codesOf(all []fixtures.Fixture) (rows, files map[string]bool) {
	rows, files = map[string]bool{}, map[string]bool{}
	for _, f := range all {
		files[f.Want.Code] = true
		for _, codes := range f.Want.Invalid {
			for _, code := range codes {
				rows[code] = true
			}
		}
	}
	return rows, files
}

var cellEnd = regexp.MustCompile(`(^|[^\\])\|`)

// tableUnder are the cells of the first table below a heading, line by line, without its own head.
func tableUnder(t *testing.T, text, heading string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+heading)
	if !found {
		t.Fatalf("README.md has no heading %q", heading)
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
