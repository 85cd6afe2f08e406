package describe

import (
	"maps"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// maxColumns bounds the columns that NewTable aligns. There are fewer currencies.
const maxColumns = 32

// NewTable returns a table without borders. The first column is text, and so are those
// with one of these headers. All others are figures, aligned to the right.
func NewTable(texts ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "  ", ""
	style.Format.Header, style.Format.Footer = text.FormatUpper, text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	columns := make([]table.ColumnConfig, 0, maxColumns)
	for i := 2; i <= maxColumns; i++ {
		columns = append(columns, table.ColumnConfig{
			Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight,
		})
	}
	for _, header := range texts {
		columns = append(columns, table.ColumnConfig{Name: header, Align: text.AlignLeft, AlignHeader: text.AlignLeft})
	}
	t.SetColumnConfigs(columns)
	return t
}

// Sums are rows and amounts by what became, or would become, of the rows.
type Sums struct {
	Currencies []string
	Lines      []SumLine
}

// SumLine is one line of Sums.
type SumLine struct {
	Status  string
	Rows    int
	Amounts []string // in major units, in the order of Sums.Currencies; or none
}

// sumsOf adds up a file by status. Statuses without rows are left out; the last line is
// the total.
func sumsOf(s report.Summary) Sums {
	sums := Sums{Currencies: slices.Sorted(maps.Keys(s.Amounts))}
	total := SumLine{Status: "total", Rows: s.Rows.Total}
	for _, status := range ledger.Statuses {
		if s.Rows.By[status] == 0 {
			continue
		}
		line := SumLine{Status: string(status), Rows: s.Rows.By[status]}
		for _, c := range sums.Currencies {
			line.Amounts = append(line.Amounts, Money(c, s.Amounts[c][status]))
		}
		sums.Lines = append(sums.Lines, line)
	}
	for _, c := range sums.Currencies {
		var sum int64
		for _, amount := range s.Amounts[c] {
			sum += amount
		}
		total.Amounts = append(total.Amounts, Money(c, sum))
	}
	sums.Lines = append(sums.Lines, total)
	return sums
}

// StatusTable has a line for each status that occurs, and a column for each currency.
func StatusTable(s report.Summary) string { return sumsOf(s).table("status") }

// table renders the sums; first is the header of the first column.
func (s Sums) table(first string) string {
	t := NewTable()
	header := table.Row{first, "rows"}
	for _, c := range s.Currencies {
		header = append(header, c)
	}
	t.AppendHeader(header)
	for _, line := range s.Lines {
		row := table.Row{line.Status, Number(line.Rows)}
		for _, amount := range line.Amounts {
			row = append(row, amount)
		}
		t.AppendRow(row)
	}
	return t.Render()
}
