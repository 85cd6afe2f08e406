package billfile

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkReference holds s to the API's rule for external references: 1 to 255 of A–Z a–z 0–9 _
// -. A private one, of a customer or account, is quoted only where a spreadsheet made
// something else of it: billers use identity numbers as such.
//
// A word that programs write for an empty cell is not a reference, nor is a text without letters
// and digits; one that begins as the API's ids do could never be looked up.
func checkReference(s string, private bool) finding {
	if isPlaceholder(s) {
		advice := "write the bill's reference"
		if private {
			advice = "write the reference, or leave the cell blank"
		}
		return finding{CodePlaceholderValue, "", placeholderDetail(s) + advice}
	}
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
		if prefix := reservedPrefix(s); prefix != "" {
			return finding{CodeReservedReference, "", reservedDetail(s, prefix, private)}
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
	return finding{CodeInvalidID, "", " is not an id: one begins with " + prefix + " and goes on with letters and digits; a reference of your own belongs in the reference column"}
}

// checkText limits names and the like to a number of characters.
func checkText(s string, most int) finding {
	if n := utf8.RuneCountInString(s); n > most {
		return finding{CodeFieldTooLong, "", fmt.Sprintf(" has %d characters, but at most %d are allowed: shorten it", n, most)}
	}
	if spreadsheetError(s) {
		return finding{CodeSpreadsheetDamage, "", " is an error value of a spreadsheet: correct the formula and export the file again"}
	}
	return finding{}
}

// checkName is checkText of a name, which is not a word for an empty cell either.
func checkName(s string) finding {
	if isNullText(s) {
		return finding{CodePlaceholderValue, "", placeholderDetail(s) + "write the name, or leave the cell blank"}
	}
	return checkText(s, maxText)
}

// checkEmail accepts one bare address with a dotted domain.
func checkEmail(s string) finding {
	if f := checkText(s, maxText); f.code != "" {
		return f
	}
	if isAddress(s) {
		return finding{}
	}
	return finding{CodeInvalidEmail, "", " is not a mail address: write one address such as name@example.com, without a name or brackets, or leave it blank"}
}

// isAddress accepts what net/mail accepts as an address and nothing else (a fuzz test
// compares), at a fraction of the time, if it has no quoted parts and its domain is a host name.
func isAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && len(local) <= maxLocalPart && isDotAtom(local) && isHostName(domain)
}

const (
	maxLocalPart = 64  // bytes before the @ (RFC 5321, 4.5.3.1.1)
	maxHostName  = 253 // bytes (RFC 1035, 2.3.4, without the root)
	maxLabel     = 63
)

// isHostName reports whether s is a host name of two labels or more by RFC 1123: letters,
// digits and hyphens, no hyphen at an end of a label. Letters beyond ASCII count as such (RFC
// 5890). The last label has two characters or more, and a letter among them.
func isHostName(s string) bool {
	if len(s) > maxHostName || !strings.Contains(s, ".") {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		n := len(label)
		if n == 0 || n > maxLabel || label[0] == '-' || label[n-1] == '-' || strings.ContainsFunc(label, notInLabel) {
			return false
		}
		last = label
	}
	return len(last) > 1 && strings.ContainsFunc(last, func(r rune) bool { return r >= utf8.RuneSelf || isLetter(byte(r)) })
}

func notInLabel(r rune) bool {
	if r < utf8.RuneSelf {
		return !isLetter(byte(r)) && !isDigit(byte(r)) && r != '-'
	}
	return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r)
}

// isDotAtom reports whether s is a dot-atom of RFC 5322, including characters beyond
// ASCII (RFC 6532).
func isDotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	return !strings.ContainsAny(s, "()<>[]:;@\\,\"\x7f") && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' })
}
