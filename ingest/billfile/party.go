package billfile

import (
	"fmt"
	"net/mail"
	"strings"
	"unicode/utf8"
)

// checkReference holds s to the API's rule for external references: 1 to 255 of A–Z a–z 0–9 _ -. A private one, of a
// customer or account, is quoted only where a spreadsheet made something else of it: billers use identity numbers as such.
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
			return finding{CodeReferenceTooLong, fmt.Sprintf(" has %d characters, at most %d are allowed: shorten it", len(s), maxReference)}
		}
		return finding{}
	}
	switch {
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, " holds a spreadsheet's error " + quote(s) + ": correct the sheet"}
	case scientific(s, true):
		return finding{CodeSpreadsheetDamage, shown(s) + " was shortened by a spreadsheet, its digits are lost: format the column as text and enter the whole reference"}
	case grouped(s):
		return finding{CodeSpreadsheetDamage, shown(s) + " looks like a number that a spreadsheet has formatted: format the column as text"}
	case utf8.RuneCountInString(s) > maxReference:
		return finding{CodeReferenceTooLong, fmt.Sprintf(" has %d characters, at most %d are allowed: shorten it", utf8.RuneCountInString(s), maxReference)}
	}
	r, _ := utf8.DecodeRuneInString(s[bad:])
	quoted := ""
	if !private {
		quoted = shown(s)
	}
	return finding{CodeInvalidReference, fmt.Sprintf("%s has %+q, but only letters A to Z, digits, _ and - are allowed: correct it", quoted, r)}
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// checkID holds s to the form of the API's ids: prefix, then letters and digits.
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
		return finding{CodeSpreadsheetDamage, " holds a spreadsheet's error " + quote(s) + ": correct the sheet"}
	case scientific(s, false):
		return finding{CodeSpreadsheetDamage, shown(s) + " was shortened by a spreadsheet: format the column as text and enter the whole id"}
	}
	return finding{CodeInvalidID, " is no id: one begins with " + prefix + " and goes on with letters and digits; a reference of your own belongs in the reference column"}
}

// checkText holds names and the like to a length in characters.
func checkText(s string, most int) finding {
	if len(s) > most {
		if n := utf8.RuneCountInString(s); n > most {
			return finding{CodeFieldTooLong, fmt.Sprintf(" has %d characters, at most %d are allowed: shorten it", n, most)}
		}
	}
	if spreadsheetError(s) {
		return finding{CodeSpreadsheetDamage, " holds a spreadsheet's error value: correct the sheet"}
	}
	return finding{}
}

// checkEmail accepts one bare address with a dotted domain.
func checkEmail(s string) finding {
	if plainEmail(s) {
		return finding{}
	}
	if f := checkText(s, maxText); f.code != "" {
		return f
	}
	if addr, err := mail.ParseAddress(s); err == nil && addr.Address == s && addr.Name == "" {
		domain := s[strings.LastIndexByte(s, '@')+1:]
		if dot := strings.LastIndexByte(domain, '.'); dot > 0 && dot < len(domain)-1 && domain[0] != '[' {
			return finding{}
		}
	}
	return finding{CodeInvalidEmail, " is no mail address: write one address such as name@example.com, without a name or brackets, or leave it blank"}
}

// plainEmail recognises ordinary addresses without the cost of the library; whatever it says no to, the library
// decides. (It says yes to nothing that the library refuses: a fuzz test compares.)
func plainEmail(s string) bool {
	at := strings.IndexByte(s, '@')
	if at < 1 || len(s) > maxText {
		return false
	}
	atom := func(s string, local bool) (dots int, ok bool) {
		last := byte('.')
		for i := range len(s) {
			c := s[i]
			switch {
			case isLetter(c) || isDigit(c) || c == '-':
			case local && (c == '_' || c == '+' || c == '%'):
			case c == '.' && last != '.':
				dots++
			default:
				return 0, false
			}
			last = c
		}
		return dots, last != '.'
	}
	if _, ok := atom(s[:at], true); !ok {
		return false
	}
	dots, ok := atom(s[at+1:], false)
	return ok && dots > 0
}
