package billfile

import "strings"

// minTotalRows is how many rows a file has at least, the last one included, before that one is
// taken for a total. In shorter files the last amount is the sum of the others by chance too often.
const minTotalRows = 4

// isTotal reports whether the last row looks like the total that spreadsheets put under a list.
func (s *Survey) isTotal(it *item) bool {
	if s.format.AllowTotalRow || it.Row < minTotalRows || hasCode(it.Problems, CodeTotalRow) {
		return false
	}
	return it.Bill.Amount > 0 && it.Bill.Amount == s.sum || saysTotal(it.Bill.Reference)
}

// saysTotal reports whether a text is or begins with the word total.
func saysTotal(s string) bool {
	const word = "total"
	return len(s) >= len(word) && strings.EqualFold(s[:len(word)], word) && (len(s) == len(word) || !isLetter(s[len(word)]) && !isDigit(s[len(word)]))
}

// totalRow is the problem of a row that looks like a total.
func totalRow(it *item) Problem {
	return Problem{Line: it.Line, Row: it.Row, Code: CodeTotalRow, Detail: looksLikeTotal}
}

const looksLikeTotal = "the row looks like a total that a spreadsheet added at the end (its amount is the sum of the other rows, or its reference begins with Total): remove it; if it is a bill, set total_row: allow for this feed"

// refuse adds a problem of the row as a whole, which stands before all others.
func (it *item) refuse(p Problem) { it.Problems = append([]Problem{p}, it.Problems...) }

func hasCode(problems []Problem, code string) bool {
	for _, p := range problems {
		if p.Code == code {
			return true
		}
	}
	return false
}
