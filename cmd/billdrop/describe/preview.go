package describe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"billdrop/ingest/billfile"
	"billdrop/ingest/preview"
)

// maxProblems is the flag that bounds the lists of validate and plan.
const maxProblems = "--max-problems"

// Validation describes what is wrong with a file: the number of problems of each code,
// then the problems, by code. With few, only the first few of each code are listed.
func Validation(v *preview.Validation, few bool) string {
	var b strings.Builder
	switch {
	case v.Code != "":
		fmt.Fprintf(&b, "%s: rejected (%s)\n  %s%s\n", v.File, v.Code, atLine(v.Line), v.Detail)
	case v.Rows.Invalid > 0:
		fmt.Fprintf(&b, "%s: %s of %s invalid\n", v.File, Number(v.Rows.Invalid), Count(v.Rows.Total, "row"))
	default:
		fmt.Fprintf(&b, "%s: valid, %s\n", v.File, rowsAndSums(v.Rows.Total, v.Amounts))
	}
	b.WriteString(warnings(v.Warnings))
	if v.ProblemsTotal == 0 {
		return b.String()
	}
	codes := slices.SortedFunc(maps.Keys(v.ByCode), func(x, y string) int {
		return cmp.Or(cmp.Compare(v.ByCode[y], v.ByCode[x]), cmp.Compare(x, y))
	})
	t := NewTable()
	t.AppendHeader([]any{"code", "problems"})
	for _, code := range codes {
		t.AppendRow([]any{code, Number(v.ByCode[code])})
	}
	fmt.Fprintf(&b, "%s\n\n", t.Render())
	shown := v.First
	if !few {
		shown = make(map[string][]preview.FoundProblem)
		for _, p := range v.Problems {
			shown[p.Code] = append(shown[p.Code], p)
		}
	}
	listed := 0
	for _, code := range codes {
		for _, p := range shown[code] {
			b.WriteString(problem(p))
		}
		listed += len(shown[code])
		if cut := v.ByCode[code] - len(shown[code]); cut > 0 && len(shown[code]) > 0 {
			fmt.Fprintf(&b, "  … and %s more of %s\n", Number(cut), code)
		}
	}
	b.WriteString(more(v.ProblemsTotal-listed, "problem", maxProblems))
	if len(v.Amounts) > 0 {
		fmt.Fprintf(&b, "  valid: %s\n", rowsAndSums(v.Rows.Valid, v.Amounts))
	}
	return b.String()
}

// warnings describes what is worth a look, a line each.
func warnings(all []billfile.Warning) string {
	var b strings.Builder
	for _, w := range all {
		fmt.Fprintf(&b, "  warning: %s: %s\n", w.Code, w.Detail)
	}
	return b.String()
}

func rowsAndSums(rows int, amounts map[string]int64) string {
	return strings.Join(append([]string{Count(rows, "row")}, Amounts(amounts)...), ", ")
}

func problem(p preview.FoundProblem) string {
	at := fmt.Sprintf("line %d", p.Line)
	if p.Column != "" {
		at += ", column " + p.Column
	}
	return fmt.Sprintf("  %s: %s: %s\n", at, p.Code, p.Detail)
}

// Plan describes what would become of a file: sums, then what would need attention.
func Plan(p preview.Planned) string {
	var b strings.Builder
	if p.Code != "" {
		fmt.Fprintf(&b, "%s: would be rejected (%s)\n  %s%s\n", p.File, p.Code, atLine(p.Line), p.Detail)
	} else {
		fmt.Fprintf(&b, "%s: %s\n%s\n", p.File, Count(p.Rows.Total, "row"), planned(&p).table("would be"))
		fmt.Fprintf(&b, "  new: %s, %s; this took %s\n",
			Count(p.New.Customers, "customer"), Count(p.New.Accounts, "account"), Count(p.Gets, "look-up"))
	}
	b.WriteString(warnings(p.Warnings))
	for _, over := range p.OverLimits {
		fmt.Fprintf(&b, "  would be held: %s\n", over)
	}
	for _, c := range p.Conflicts {
		fmt.Fprintf(&b, "  line %d, bill %s: conflict: %s\n", c.Line, c.BillReference, c.Detail)
	}
	b.WriteString(more(p.Rows.Conflict-len(p.Conflicts), "conflict", maxProblems))
	for _, found := range p.Problems {
		b.WriteString(problem(found))
	}
	b.WriteString(more(p.ProblemsTotal-len(p.Problems), "problem", maxProblems))
	return b.String()
}

// planned adds up a plan by what would become of the rows. The amounts of invalid rows
// are not added, because some cannot be read.
func planned(p *preview.Planned) Sums {
	sums := Sums{Currencies: slices.Sorted(maps.Keys(p.Totals))}
	for _, l := range []struct {
		status, key string
		rows        int
	}{
		{"created", "create", p.Rows.Create},
		{"existing", "existing", p.Rows.Existing},
		{"conflict", "conflict", p.Rows.Conflict},
		{"invalid", "invalid", p.Rows.Invalid},
		{"rejected", "rejected", p.Rows.Rejected},
		{"unknown", "unknown", p.Rows.Unknown},
	} {
		if l.rows == 0 && l.key != "create" {
			continue
		}
		line := SumLine{Status: l.status, Rows: l.rows}
		for _, c := range sums.Currencies {
			if l.key != "invalid" {
				line.Amounts = append(line.Amounts, Money(c, p.Totals[c][l.key]))
			}
		}
		sums.Lines = append(sums.Lines, line)
	}
	return sums
}
