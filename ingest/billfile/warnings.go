package billfile

import "strconv"

// Codes of warnings: what Warning.Code may be.
const (
	WarnSimilarReferences = "similar_references"
	WarnMojibake          = "mojibake"
	WarnHTMLEntity        = "html_entity"
	WarnDuplicateRow      = "duplicate_row"
)

// Warning is a kind of thing that some rows have, that refuses none of them, and that a person
// should look at.
type Warning struct {
	Code   string `json:"code"`
	Count  int    `json:"count"`  // rows
	Line   int    `json:"line"`   // physical line of the first of them
	Detail string `json:"detail"` // what it is and what to do; no personal data
}

// WarningCodes are all codes of warnings that reading a file can give.
func WarningCodes() []string {
	return []string{WarnSimilarReferences, WarnMojibake, WarnHTMLEntity, WarnDuplicateRow}
}

// remarks are the kinds of warnings that one row gives cause to.
type remarks uint8

const (
	remarkMojibake remarks = 1 << iota
	remarkEntity
	remarkDuplicate
)

// remarked counts the rows by their remarks.
type remarked struct{ mojibake, entity, duplicate rowsWith }

// rowsWith counts rows and holds the line of the first.
type rowsWith struct{ count, line int }

func (r *rowsWith) add(line int) {
	if r.count++; r.count == 1 {
		r.line = line
	}
}

func (r *remarked) add(it *item) {
	if it.remarks&remarkMojibake != 0 {
		r.mojibake.add(it.Line)
	}
	if it.remarks&remarkEntity != 0 {
		r.entity.add(it.Line)
	}
	if it.remarks&remarkDuplicate != 0 {
		r.duplicate.add(it.Line)
	}
}

// warnings puts the warnings together once the file was read.
func (s *Survey) warnings() []Warning {
	var all []Warning
	add := func(code string, rows rowsWith, what, advice string) {
		if rows.count == 0 {
			return
		}
		have := " rows have "
		if rows.count == 1 {
			have = " row has "
		}
		all = append(all, Warning{Code: code, Count: rows.count, Line: rows.line,
			Detail: strconv.Itoa(rows.count) + have + what + " (first on " + lineText(rows.line) + "): " + advice})
	}
	similar, other := s.groups.similar.rows()
	add(WarnSimilarReferences, similar, "bill references that differ in capital and small letters alone, as with "+lineText(other),
		"each of them becomes a bill of its own; if they are one bill, write the reference the same way every time")
	add(WarnMojibake, s.rows.mojibake, "signs such as \"Ã«\" in a name or note, where accented letters were damaged before the file came",
		"the damaged text is sent; correct it at its source, which wrote UTF-8 and was read as Windows-1252")
	add(WarnHTMLEntity, s.rows.entity, "characters as web pages write them, such as &amp; for &, in a name or note",
		"the text is sent as it stands; have the program that writes the file export plain text")
	add(WarnDuplicateRow, s.rows.duplicate, "the same content as an earlier row, which alone is sent",
		"if they are items of one bill, too little is billed: write one row with their sum")
	return all
}
