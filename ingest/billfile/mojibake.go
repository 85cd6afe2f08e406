package billfile

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

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
