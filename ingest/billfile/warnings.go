package billfile

import (
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

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
type remarks [remarkCount]bool

const (
	remarkMojibake = iota
	remarkEntity
	remarkDuplicate
	remarkCount
)

// remarked counts the rows by their remarks.
type remarked [remarkCount]rowsWith

// rowsWith counts rows and holds the line of the first.
type rowsWith struct{ count, line int }

func (r *rowsWith) add(line int) {
	if r.count++; r.count == 1 {
		r.line = line
	}
}

func (r *remarked) add(it *item) {
	for kind, so := range it.remarks {
		if so {
			r[kind].add(it.Line)
		}
	}
}

// warnings puts the warnings together once the file was read.
func (s *Survey) warnings() []Warning {
	var all []Warning
	add := func(code string, rows rowsWith, first, what, advice string) {
		if rows.count == 0 {
			return
		}
		have := " rows have "
		if rows.count == 1 {
			have = " row has "
		}
		all = append(all, Warning{Code: code, Count: rows.count, Line: rows.line,
			Detail: strconv.Itoa(rows.count) + have + what + " (first on " + first + "): " + advice})
	}
	similar, other := s.groups.similar.rows()
	add(WarnSimilarReferences, similar, "lines "+strconv.Itoa(similar.line)+" and "+strconv.Itoa(other), "bill references that differ in capital and small letters alone",
		"each of them becomes a bill of its own; if they are one bill, write the reference the same way every time")
	add(WarnMojibake, s.rows[remarkMojibake], lineText(s.rows[remarkMojibake].line), "signs such as \"Ã«\" in a name or note, where accented letters were damaged before the file came",
		"the damaged text is sent; correct it at its source, which wrote UTF-8 and was read as Windows-1252")
	add(WarnHTMLEntity, s.rows[remarkEntity], lineText(s.rows[remarkEntity].line), "characters as web pages write them, such as &amp; for &, in a name or note",
		"the text is sent as it stands; have the program that writes the file export plain text")
	add(WarnDuplicateRow, s.rows[remarkDuplicate], lineText(s.rows[remarkDuplicate].line), "the same content as an earlier row, which alone is sent",
		"if they are items of one bill, too little is billed: write one row with their sum")
	return all
}

// mojibake finds UTF-8 that was read as Windows-1252, such as Ã« for ë. It takes the bytes of
// Windows-1252 one after the other. Its zero value is the start of a text.
//
// A lead byte of UTF-8 is an accented letter in Windows-1252 (Ã, Â, Ð, â), and the bytes that
// continue it are signs (€, «, ¶). No word has these in a row, but a letter may well stand before
// a closing quotation mark or a dash ("CAFÉ”"). Such a pair counts only if a letter follows.
type mojibake struct {
	need uint8 // continuation bytes to come
	hard bool  // one of those so far is not an ordinary mark behind a word
	soft bool  // a whole character, of ordinary marks alone: what follows decides
}

// step takes the next byte, and reports whether UTF-8 was found with it.
func (m *mojibake) step(c byte) bool {
	if c < utf8.RuneSelf {
		found := m.soft && isLetter(c)
		*m = mojibake{}
		return found
	}
	if m.need > 0 && c < 0xc0 {
		m.need--
		m.hard = m.hard || !marksWordEnd(c)
		m.soft = m.need == 0
		return m.need == 0 && m.hard
	}
	found := m.soft && c >= 0xc0
	*m = mojibake{}
	switch {
	case c >= 0xc2 && c <= 0xdf:
		m.need, m.hard = 1, c == 0xc2 // no word ends in Â
	case c >= 0xe0 && c <= 0xef:
		m.need = 2
	case c >= 0xf0 && c <= 0xf4:
		m.need = 3
	}
	return found
}

// marksWordEnd reports whether a byte of Windows-1252 is a mark that ordinarily stands behind a
// word: … ‘ ’ “ ” – — › » ® ™ ° and the no-break space.
func marksWordEnd(c byte) bool {
	switch c {
	case 0x85, 0x91, 0x92, 0x93, 0x94, 0x96, 0x97, 0x99, 0x9b, 0xa0, 0xae, 0xb0, 0xbb:
		return true
	}
	return false
}

// isMojibake reports whether a text holds UTF-8 that was read as Windows-1252.
func isMojibake(s string) bool {
	var m mojibake
	for _, r := range s {
		c, ok := charmap.Windows1252.EncodeRune(r)
		if !ok {
			// It ends the character at hand, and is a letter or is not.
			if m.soft && unicode.IsLetter(r) {
				return true
			}
			m = mojibake{}
			continue
		}
		if m.step(c) {
			return true
		}
	}
	return false
}

// hasEntity reports whether a text holds a character as HTML writes it, such as &amp; or &#39;.
func hasEntity(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '&' {
			continue
		}
		n := i + 1
		if n < len(s) && s[n] == '#' {
			n++
		}
		from := n
		for n < len(s) && n-from < 10 && (isLetter(s[n]) || isDigit(s[n])) {
			n++
		}
		if n < len(s) && s[n] == ';' && (s[i+1] == '#' && n > from || n-from >= 2 && isLetter(s[from])) {
			return true
		}
	}
	return false
}

// foldedSighting is what the first pass keeps of a reference with small letters: of the hash of the
// reference in capitals what a part does not say, and in the last detailBits the end of the hash of
// the reference itself.
type foldedSighting uint64

// maxSimilar is how many groups of similar references are looked at. They take 24 bytes each.
const maxSimilar = 1 << 20

// addFolded adds the references of one part that may differ in the case of letters alone: two
// sightings with the same capitals and different references, or one whose capitals are another
// row's reference. hashes are the sorted references of the part.
func (s *suspects) addFolded(part int, folded []foldedSighting, hashes []uint64) {
	slices.Sort(folded)
	const more = 40 - (64 - detailBits) // bits that hashes have and sightings have not
	for i, f := range folded {
		capitals := uint64(f >> detailBits)
		twice := i > 0 && folded[i-1] != f && uint64(folded[i-1]>>detailBits) == capitals
		if !twice {
			at, _ := slices.BinarySearch(hashes, capitals<<more)
			twice = at < len(hashes) && hashes[at]>>more == capitals
		}
		if twice && s.n < maxSimilar {
			s.add(part, capitals)
		}
	}
}

// similarReferences are groups of rows whose references may differ in the case of letters alone.
type similarReferences struct {
	suspects suspects
	groups   []similarGroup
}

type similarGroup struct {
	reference uint64 // hash of the first row's
	line      uint32 // of its first row; 0 = not seen yet
	other     uint32 // of the first row with another spelling; 0 = there is none
	rows      uint32
	rest      uint16 // of the hash of the capitals
}

func (s *similarReferences) any() bool { return len(s.groups) > 0 }

// observe takes a row into its group.
func (s *similarReferences) observe(id *identity, line uint32) {
	m := s.suspects.find(id.capitals())
	if m.group == none {
		return
	}
	g := &s.groups[m.group]
	switch {
	case g.line == 0:
		*g = similarGroup{reference: id.reference, line: line, rows: 1, rest: m.rest}
	case g.rest == m.rest:
		g.rows++
		if g.other == 0 && g.reference != id.reference {
			g.other = line
		}
	}
}

// rows counts the rows of all groups with more than one spelling. other is the line of the second
// spelling in the group that comes first.
func (s *similarReferences) rows() (rows rowsWith, other int) {
	for i := range s.groups {
		g := &s.groups[i]
		if g.other == 0 {
			continue
		}
		rows.count += int(g.rows)
		if rows.line == 0 || int(g.line) < rows.line {
			rows.line, other = int(g.line), int(g.other)
		}
	}
	return rows, other
}
