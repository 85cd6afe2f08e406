package billfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// trim removes surrounding space from a cell: spaces of any width and tabs, which
// spreadsheets leave behind and which have no meaning there. Everything else stays and is
// checked, at the edges too.
func trim(s string) string {
	if n := len(s); n == 0 || s[0] > ' ' && s[0] < utf8.RuneSelf && s[n-1] > ' ' && s[n-1] < utf8.RuneSelf {
		return s
	}
	return strings.TrimFunc(s, isSpace)
}

func isSpace(r rune) bool {
	switch r {
	case ' ', '\t', 0xa0, 0x1680, 0x202f, 0x205f, 0x3000:
		return true
	}
	return 0x2000 <= r && r <= 0x200a
}

// invisibles are characters, besides control characters, that no reader sees or that
// change how the text around them is shown.
var invisibles = [...]struct {
	from, to rune
	name     string
}{
	{0x00ad, 0x00ad, "soft hyphen"},
	{0x034f, 0x034f, "invisible joiner"},
	{0x061c, 0x061c, "text direction control"},
	{0x115f, 0x1160, "invisible filler"},
	{0x17b4, 0x17b5, "invisible vowel"},
	{0x180b, 0x180f, "invisible separator"},
	{0x200b, 0x200d, "zero-width character"},
	{0x200e, 0x200f, "text direction control"},
	{0x2028, 0x2029, "line break"},
	{0x202a, 0x202e, "text direction control"},
	{0x2060, 0x2064, "zero-width character"},
	{0x2065, 0x2069, "text direction control"},
	{0x206a, 0x206f, "invisible control"},
	{0x3164, 0x3164, "invisible filler"},
	{0xfeff, 0xfeff, "byte order mark inside the text"},
	{0xffa0, 0xffa0, "invisible filler"},
	{0xfff0, 0xfffb, "invisible control"},
	{0xfffd, 0xfffd, "replacement character, the mark of text that was damaged earlier"},
	{0xfffe, 0xffff, "noncharacter"},
	{0xe0000, 0xe0fff, "invisible tag"},
}

// invisibleName returns what a character is called that may not stand in a field; "" for
// others.
func invisibleName(r rune) string {
	switch {
	case r >= ' ' && r <= '~' || 0xa0 <= r && r < 0xad:
		return ""
	case r == '\n' || r == '\r' || r == 0x85 || r == '\v' || r == '\f':
		return "line break"
	case r == '\t':
		return "tab"
	case r < ' ' || 0x7f <= r && r < 0xa0:
		return "control character"
	}
	for _, v := range invisibles {
		if r < v.from {
			return ""
		}
		if r <= v.to {
			return v.name
		}
	}
	return ""
}

// invisible returns the place of the first character in s that may not stand in a field,
// or -1.
func invisible(s string) int {
	if i := beyondASCII(s); i >= 0 {
		return invisibleFrom(s, i)
	}
	return -1
}

// beyondASCII is the place of the first byte in s that is not a visible character of ASCII or a
// space; -1 when all are.
func beyondASCII(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i]-' ' > '~'-' ' {
			return i
		}
	}
	return -1
}

func invisibleFrom(s string, from int) int {
	for i, r := range s[from:] {
		if (r < ' ' || r > '~') && invisibleName(r) != "" {
			return from + i
		}
	}
	return -1
}

// invisibleDetail describes a character that may not stand in a field, and its place.
func invisibleDetail(s string, at int) string {
	r, _ := utf8.DecodeRuneInString(s[at:])
	n := utf8.RuneCountInString(s[:at]) + 1
	name := invisibleName(r)
	article := "a"
	if name[0] == 'i' {
		article = "an"
	}
	return fmt.Sprintf("has %s %s (%U) as character %d: remove it", article, name, r, n)
}

// quoteLimit is how many bytes of a cell a detail shows.
const quoteLimit = 40

// quote returns a cell as a detail shows it: in quotation marks, at most quoteLimit bytes
// of it, and with everything but ASCII escaped.
func quote(s string) string {
	if len(s) <= quoteLimit {
		return strconv.QuoteToASCII(s)
	}
	cut := quoteLimit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "…"
}

// showable reports whether a bad amount, date, currency or reference may be quoted. It
// may not if it looks like the content of another column, because the columns may have
// shifted.
func showable(s string) bool {
	if strings.ContainsRune(s, '@') || strings.HasPrefix(s, "+") && len(s) > 8 {
		return false
	}
	letters, digits, words := 0, 0, 1
	for _, r := range s {
		switch {
		case '0' <= r && r <= '9':
			digits++
		case r == ' ' || r == 0xa0:
			words++
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || r >= utf8.RuneSelf:
			letters++
		}
	}
	return words == 1 || digits > 0 || letters <= 4
}

// appendShown appends a cell to a detail in quotation marks, or a remark if it may not be
// quoted. For a blank cell it appends nothing.
func appendShown(b []byte, s string) []byte {
	switch {
	case s == "":
		return b
	case !showable(s):
		return append(b, " (not shown, because it may be personal data)"...)
	case len(s) <= quoteLimit:
		return strconv.AppendQuoteToASCII(append(b, ' '), s)
	}
	return append(append(b, ' '), quote(s)...)
}

// spreadsheetError reports whether a cell holds what a spreadsheet writes where a formula
// failed or a column was too narrow.
//
// Excel and Google Sheets write a number sign, a word in capitals of their own language, and ! or ?
// (#BEZUG!, #VALEUR!, #¡REF!, #ИМЯ?); LibreOffice writes Err:508; Google writes Loading... while a
// formula waits.
func spreadsheetError(s string) bool {
	switch n := len(s); {
	case n < 3:
		return false
	case s[0] == '#':
		return isErrorCell(s[1:])
	case n > 6 && n < 20 && isDigit(s[n-1]) && s[n-4] == ':':
		number := s[n-3:]
		return isDigits(number) && number >= "501" && number <= "540" && errorWords[strings.ToLower(strings.TrimFunc(s[:n-4], isSpace))]
	case n < 40 && (s[n-1] == '.' || strings.HasSuffix(s, "…")):
		return loadingCells[strings.ToLower(strings.TrimRight(s, ".…"))]
	}
	return false
}

// errorWords stand before the number of an error in LibreOffice, by its language.
var errorWords = map[string]bool{
	"err": true, "error": true, "erreur": true, "erro": true, "errore": true, "fehler": true, "fel": true, "fejl": true, "feil": true, "fout": true, "virhe": true,
	"hiba": true, "chyba": true, "błąd": true, "ошибка": true, "помилка": true, "hata": true, "eroare": true, "greška": true, "napaka": true, "fout nr": true,
}

// loadingCells are what Google Sheets shows while a formula waits, by its language, without
// the points.
var loadingCells = map[string]bool{
	"loading": true, "wird geladen": true, "chargement": true, "chargement en cours": true, "cargando": true, "carregando": true, "a carregar": true,
	"caricamento": true, "caricamento in corso": true, "laden": true, "laai tans": true, "загрузка": true, "ładowanie": true, "読み込んでいます": true, "正在加载": true,
}

// namedErrors are error cells that do not end in ! or ?, by the language of the spreadsheet.
var namedErrors = map[string]bool{
	"N/A": true, "NV": true, "N/D": true, "N/B": true, "N/V": true, "N/T": true, "N.V.": true, "I/T": true, "E/E": true, "Н/Д": true, "Δ/Υ": true, "YOK": true, "SAKNAS": true,
	"HIÁNYZIK": true, "NEDOSTUPNÝ": true, "NENÍ_K_DISPOZICI": true, "GETTING_DATA": true, "REF": true, "VALUE": true, "NAME": true, "DIV/0": true, "NUM": true,
}

// isErrorCell reports whether what stands behind a number sign is an error of a spreadsheet.
func isErrorCell(s string) bool {
	if strings.Trim(s, "#") == "" {
		return true
	}
	if len(s) > 40 {
		return false
	}
	if namedErrors[strings.ToUpper(s)] {
		return true
	}
	word := strings.TrimRight(strings.TrimLeft(s, "¡¿"), "!?")
	if strings.HasSuffix(s, word) || strings.ContainsFunc(word, isSpace) {
		return false
	}
	switch strings.ToUpper(word) {
	case "REF", "VALUE", "DIV/0", "NAME", "NUM", "NULL", "SPILL", "CALC", "ERROR", "FIELD", "N/A":
		return true // in small letters too
	}
	return word != "" && strings.ToUpper(word) == word && strings.ContainsFunc(word, unicode.IsLetter) &&
		!strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsLetter(r) && r != '/' && r != '_' && r != '.' && r != '0' })
}

// scientific reports whether s is a number as a spreadsheet shortens it, such as 8.5E+12.
// Without strict, 8E12 counts as well. With it, only what a biller cannot have chosen as
// a reference counts.
func scientific(s string, strict bool) bool {
	i := strings.IndexAny(s, "eE")
	if i < 1 || i == len(s)-1 {
		return false
	}
	mantissa, exponent := s[:i], s[i+1:]
	sign := exponent[0] == '+' || exponent[0] == '-'
	if sign {
		exponent = exponent[1:]
	}
	point := strings.ContainsAny(mantissa, ".,")
	if strict && !point && (!sign || s[i+1] == '-') {
		return false
	}
	mantissa = strings.TrimLeft(mantissa, "+-")
	whole, fraction, _ := strings.Cut(strings.Replace(mantissa, ",", ".", 1), ".")
	return isDigits(whole) && (fraction == "" || isDigits(fraction)) && isDigits(exponent)
}

// grouped reports whether s is a number with thousands separators or a decimal comma,
// such as 1.234,56.
func grouped(s string) bool {
	s = strings.TrimLeft(s, "+-")
	if s == "" || !isDigit(s[0]) || !isDigit(s[len(s)-1]) {
		return false
	}
	points, others := 0, 0
	for _, r := range s {
		switch {
		case '0' <= r && r <= '9':
		case r == '.':
			points++
		case r == ',' || r == '\'' || r == 0x2019 || isSpace(r):
			others++
		default:
			return false
		}
	}
	return others > 0 || points > 1
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isDigits reports whether s is one or more ASCII digits.
func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return len(s) > 0
}

// placeholders are words that programs write for an empty cell, in lower case: databases
// (NULL, \N, (null)), Python and its libraries (None, nan, NaT, <NA>), R (NA), JavaScript
// (undefined, null), .NET (DBNull), Ruby and Go (nil, <nil>), spreadsheets (N/A).
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
	return slices.Contains([]string{"NULL", `\N`, "nan", "NaN", "None", "(null)"}, s)
}

// placeholderDetail says what s is; the advice follows. s is a word of a program, or has neither
// letters nor digits, so it may be quoted.
func placeholderDetail(s string) string {
	if noLetterOrDigit(s) {
		return " holds only " + quote(s) + ", without any letter or digit: "
	}
	return ` holds "` + s + `", which programs write for an empty cell: `
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
