package billfile

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// checkReference applies the API's rule for external references: 1 to 255 of A–Z a–z 0–9
// _ -. A private one, of a customer or account, is quoted only if a spreadsheet damaged
// it, because billers use identity numbers as references.
func checkReference(s string, private bool) finding {
	bad := -1
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '_' && c != '-' {
			bad = i
			break
		}
	}
	if bad < 0 {
		if len(s) > maxReference {
			return finding{CodeReferenceTooLong, "", fmt.Sprintf(" has %d characters, but at most %d are allowed: shorten it", len(s), maxReference)}
		}
		return finding{}
	}
	switch {
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " is the error value " + quote(s) + " of a spreadsheet: correct the formula and export the file again"}
	case scientific(s, true):
		return finding{CodeSpreadsheetDamage, s, " was shortened by a spreadsheet, and digits are lost: format the column as text and enter the whole reference"}
	case grouped(s):
		return finding{CodeSpreadsheetDamage, s, " looks like a number that a spreadsheet has formatted: format the column as text"}
	case utf8.RuneCountInString(s) > maxReference:
		return finding{CodeReferenceTooLong, "", fmt.Sprintf(" has %d characters, but at most %d are allowed: shorten it", utf8.RuneCountInString(s), maxReference)}
	}
	r, _ := utf8.DecodeRuneInString(s[bad:])
	if private {
		s = ""
	}
	return finding{CodeInvalidReference, s, fmt.Sprintf(" has %+q, but only the letters A to Z and a to z, digits, _ and - are allowed: correct it", r)}
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// checkID applies the form of the API's ids: the prefix, then letters and digits.
func checkID(s, prefix string) finding {
	rest, ok := strings.CutPrefix(s, prefix)
	ok = ok && rest != "" && len(s) <= maxReference
	for i := 0; ok && i < len(rest); i++ {
		ok = isLetter(rest[i]) || isDigit(rest[i])
	}
	switch {
	case ok:
		return finding{}
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " is the error value " + quote(s) + " of a spreadsheet: correct the formula and export the file again"}
	case scientific(s, false):
		return finding{CodeSpreadsheetDamage, s, " was shortened by a spreadsheet: format the column as text and enter the whole id"}
	}
	return finding{CodeInvalidID, "", " is not an id, which is " + prefix + " and then letters and digits: correct it, or put your own reference in the reference column"}
}

// checkText limits names and the like to a number of characters.
func checkText(s string, most int) finding {
	if len(s) > most {
		if n := utf8.RuneCountInString(s); n > most {
			return finding{CodeFieldTooLong, "", fmt.Sprintf(" has %d characters, but at most %d are allowed: shorten it", n, most)}
		}
	}
	if spreadsheetError(s) {
		return finding{CodeSpreadsheetDamage, "", " is an error value of a spreadsheet: correct the formula and export the file again"}
	}
	return finding{}
}

// checkEmail accepts one bare address with a dotted domain.
func checkEmail(s string) finding {
	if f := checkText(s, maxText); f.code != "" {
		return f
	}
	if isAddress(s) {
		return finding{}
	}
	return finding{CodeInvalidEmail, "", " is not a mail address: write one, such as name@example.com, without a name or brackets, or leave it blank"}
}

// isAddress accepts what net/mail accepts as an address and nothing else, if the address
// has no quoted part and a dotted domain. It takes a tenth of the time. A fuzz test
// compares the two.
func isAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && isDotAtom(local) && isDotAtom(domain) && strings.IndexByte(domain, '.') >= 0
}

// isDotAtom reports whether s is a dot-atom of RFC 5322, including characters beyond
// ASCII (RFC 6532).
func isDotAtom(s string) bool {
	last := byte('.')
	for i := range len(s) {
		switch c := s[i]; c {
		case '(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '"', 0x7f:
			return false
		case '.':
			if last == '.' {
				return false
			}
		default:
			if c <= ' ' {
				return false
			}
		}
		last = s[i]
	}
	return last != '.'
}
