package billfile

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// placeholders are words that programs write for an empty cell, in lower case: databases (NULL,
// \N, (null)), Python and its libraries (None, nan, NaT, <NA>), R (NA), JavaScript (undefined, null),
// .NET (DBNull), Ruby and Go (nil, <nil>), spreadsheets (N/A).
var placeholders = map[string]bool{
	"null": true, "(null)": true, "<null>": true, "[null]": true, "{null}": true, `\n`: true, `\\n`: true, "dbnull": true, "system.dbnull": true,
	"none": true, "<none>": true, "(none)": true, "nan": true, "nat": true, "na": true, "<na>": true, "n/a": true, "n.a.": true, "n.a": true, "#na": true,
	"nil": true, "<nil>": true, "(nil)": true, "undefined": true, "[object object]": true, "(blank)": true, "(empty)": true, "(leer)": true,
}

// maxPlaceholder is the length of the longest placeholder.
const maxPlaceholder = len("[object object]")

// isPlaceholder reports whether s, which is not blank, can only stand for an empty reference: a
// word that programs write for that, or a text without any letter or digit.
func isPlaceholder(s string) bool {
	switch c := s[0] | 0x20; {
	case isDigit(s[len(s)-1]): // no placeholder ends so, but many references do
	case c == 'n' || c == 'u' || c == 'd' || c == 's' || !isLetter(c) && !isDigit(s[0]):
		return len(s) <= maxPlaceholder && placeholders[strings.ToLower(s)] || noLetterOrDigit(s)
	}
	return false
}

func noLetterOrDigit(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == utf8.RuneError })
}

// isNullText reports whether a name or a metadata value is what programs write for an empty one.
// People may be called Null or None, so only spellings that programs alone have count.
func isNullText(s string) bool {
	if len(s) > len("(null)") {
		return false
	}
	switch s {
	case "NULL", `\N`, "nan", "NaN", "None", "(null)":
		return true
	}
	return false
}

// placeholderDetail says what s is; the advice follows. s is a word of a program, or has neither
// letters nor digits, so it may be quoted.
func placeholderDetail(s string) string {
	if noLetterOrDigit(s) {
		return " holds only " + quote(s) + ", without any letter or digit: "
	}
	return " holds " + quote(s) + ", which programs write for an empty cell: "
}

// reservedPrefix returns with what of the API's ids s begins; "" = with none.
func reservedPrefix(s string) string {
	if s[0] != 'b' {
		return ""
	}
	for _, prefix := range [...]string{"bacc_", "bcus_", "bill_"} {
		if strings.HasPrefix(s, prefix) {
			return prefix
		}
	}
	return ""
}

// reservedDetail says what is wrong with a reference that begins with a reserved prefix.
func reservedDetail(s, prefix string, private bool) string {
	switch {
	case s == fieldNames[fieldReference]:
		return " holds the name of the column: remove this row, which is a second header"
	case private:
		return " begins with " + prefix + ", as Moment's own ids do: if it is an id, write it in the id column; if it is your reference, write it with another beginning"
	}
	return " begins with " + prefix + ", as Moment's own ids do: write a reference with another beginning"
}
