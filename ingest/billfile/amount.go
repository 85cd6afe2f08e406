package billfile

import (
	"strconv"
	"strings"
	"unicode"
)

// finding is what is wrong with one cell: a code, the cell if it may be shown, and the
// text behind it. The zero value means that nothing is wrong.
type finding struct{ code, cell, detail string }

// parseAmount reads an amount exactly: ASCII digits, and in a feed of major units a
// decimal point with at most as many decimals as the currency has. Leading zeros are
// ignored (0100 is 100, never octal). Anything else is a finding.
//
// An amount that a bill may not have is returned all the same, with what is wrong, up to
// maxReadable: reports and sums of the whole file have it.
//
// decimals is the currency's, -1 where the currency is not known: then an amount in major
// units is looked at for its form only, and is 0.
func parseAmount(s string, unit Amounts, decimals int, most int64) (int64, finding) {
	whole, fraction, point := s, "", false
	if i := strings.IndexByte(s, '.'); i >= 0 {
		whole, fraction, point = s[:i], s[i+1:], true
	}
	if !isDigits(whole) || point && !isDigits(fraction) {
		return 0, badAmount(s, unit)
	}
	switch {
	case point && unit == Minor:
		return 0, notMinor(s, whole, fraction, decimals)
	case unit == Minor:
		decimals = 0
	case decimals < 0:
		return 0, finding{}
	case len(fraction) > decimals:
		return 0, finding{CodeAmountPrecision, s, " has " + count(len(fraction), "decimal") + ", but the currency has " + strconv.Itoa(decimals) + ": write no more than that"}
	}
	var v int64
	for i := range len(whole) {
		if v = v*10 + int64(whole[i]-'0'); v > maxReadable {
			return 0, outOfRange(s, most, unit, decimals)
		}
	}
	for i := range decimals {
		v *= 10
		if i < len(fraction) {
			v += int64(fraction[i] - '0')
		}
	}
	switch {
	case v > maxReadable:
		return 0, outOfRange(s, most, unit, decimals)
	case v < 1 || v > most:
		return v, outOfRange(s, most, unit, decimals)
	}
	return v, finding{}
}

// maxReadable is the largest amount that is added up, in minor units. Sums of many million of them
// stay within an int64.
const maxReadable = 1_000_000_000_000

// notMinor names an amount with a decimal point in a feed of minor units. It may mean either, so
// the advice has both, each with its digits: a hundredfold is at stake.
func notMinor(s, whole, fraction string, decimals int) finding {
	detail := " has a decimal point, but this feed's amounts are minor units (2000 = R20.00)"
	number := strings.TrimLeft(whole, "0")
	zeros := strings.Trim(fraction, "0") == ""
	if decimals < 0 || len(fraction) > decimals && !zeros || len(number) > 9 || number == "" {
		return finding{CodeAmountNotMinor, s, detail + ": write whole minor units" + otherFeed}
	}
	inMinor := number + (fraction + strings.Repeat("0", decimals))[:decimals]
	detail += ": if it means " + s + " in the currency itself, write " + inMinor
	if zeros {
		detail += "; if it means " + number + " minor units, write " + number
	}
	return finding{CodeAmountNotMinor, s, detail + otherFeed}
}

// otherFeed is said of a single amount, which may be the only one so written.
const otherFeed = "; if all amounts of the feed are in the currency itself (20.00 = R20.00), set amounts: major"

// commaAmount returns an amount with a decimal comma, and perhaps spaces between thousands, as one
// with a point; ok is false where it is written otherwise.
func commaAmount(s string) (string, bool) {
	whole, fraction, comma := strings.Cut(s, ",")
	if comma && !isDigits(fraction) || strings.IndexByte(whole, '.') >= 0 {
		return "", false
	}
	if !isDigits(whole) {
		groups := strings.FieldsFunc(whole, isSpace)
		for i, g := range groups {
			if !isDigits(g) || len(g) > 3 || i > 0 && len(g) != 3 {
				return "", false
			}
		}
		if len(groups) != 1+strings.Count(strings.Map(oneSpace, whole), " ") {
			return "", false // two spaces in a row
		}
		whole = strings.Join(groups, "")
	}
	if !comma {
		return whole, whole != ""
	}
	return whole + "." + fraction, whole != ""
}

// oneSpace makes a plain space of every kind.
func oneSpace(r rune) rune {
	if isSpace(r) {
		return ' '
	}
	return r
}

// badCommaAmount names what is wrong with an amount of a feed with a decimal comma.
func badCommaAmount(s string) finding {
	if credit(s) || spreadsheetError(s) || scientific(s, false) {
		return badAmount(s, Major)
	}
	if grouped(s) {
		return finding{CodeSpreadsheetDamage, s, " has separators other than single spaces between thousands and a comma before decimals: write digits, decimals behind a comma (1234,56)"}
	}
	if strings.IndexByte(s, '.') >= 0 {
		return finding{CodeInvalidAmount, s, " has a point, but this feed writes decimals behind a comma (1234,56): write it so, without points"}
	}
	return finding{CodeInvalidAmount, s, " is not an amount as this feed writes it: write digits, decimals behind a comma (1234,56)"}
}

// outOfRange names the limits as the feed writes amounts.
func outOfRange(s string, most int64, unit Amounts, decimals int) finding {
	if unit == Minor {
		return finding{CodeAmountOutOfRange, s, " is not between 1 and " + strconv.FormatInt(most, 10) + " minor units (2000 = R20.00): correct it"}
	}
	return finding{CodeAmountOutOfRange, s, " is not between " + inUnits(1, decimals) + " and " + inUnits(most, decimals) + ": correct it"}
}

// inUnits writes minor units with the decimals of the currency.
func inUnits(v int64, decimals int) string {
	digits := strconv.FormatInt(v, 10)
	if decimals <= 0 {
		return digits
	}
	if n := decimals + 1 - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	return digits[:len(digits)-decimals] + "." + digits[len(digits)-decimals:]
}

// badAmount returns what is wrong with text that is not a plain decimal number.
func badAmount(s string, unit Amounts) finding {
	advice := ": write digits only, decimals behind a point (20.00 = R20.00)"
	if unit == Minor {
		advice = ": write minor units, digits only (2000 = R20.00)"
	}
	switch {
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " holds a spreadsheet's error " + quote(s) + ": correct the formula and export the file again"}
	case credit(s):
		return finding{CodeInvalidAmount, s, " is marked as a credit (with a minus, brackets or CR), and a bill cannot be one: leave this row out"}
	case scientific(s, false):
		return finding{CodeSpreadsheetDamage, s, " was shortened by a spreadsheet: format the column as text and enter the whole number"}
	case grouped(s):
		return finding{CodeSpreadsheetDamage, s, " has thousands separators or a decimal comma" + advice}
	case strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) >= 0:
		return finding{CodeInvalidAmount, s, " has characters other than the digits 0 to 9" + advice}
	}
	return finding{CodeInvalidAmount, s, " is not an amount" + advice}
}

// credit reports whether an amount is marked as one that the biller owes: by a minus or dash
// of any kind before or behind the digits, by brackets around it, or by CR. A dash between
// digits marks none.
func credit(s string) bool {
	first, last := strings.IndexAny(s, "0123456789"), strings.LastIndexAny(s, "0123456789")
	if first < 0 {
		return false
	}
	before, behind := s[:first], s[last+1:]
	for _, around := range [...]string{before, behind} {
		if strings.ContainsFunc(around, isMinus) || isCR(around) {
			return true
		}
	}
	for _, pair := range [...]string{"()", "<>", "[]", "{}", "（）", "＜＞", "〈〉"} {
		runes := []rune(pair)
		if strings.ContainsRune(before, runes[0]) && strings.ContainsRune(behind, runes[1]) {
			return true
		}
	}
	return false
}

// isMinus reports whether r is a minus or a dash of any kind.
func isMinus(r rune) bool {
	switch r {
	case '-', '−', '⁻', '₋', '∸', '➖', '¯', '˗':
		return true
	}
	return r >= 0x80 && unicode.Is(unicode.Pd, r)
}

// isCR reports whether the text before or behind an amount says that it is a credit.
func isCR(s string) bool {
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) }) {
		switch strings.ToUpper(word) {
		case "CR", "RCR", "ZARCR", "USDCR", "CRR", "CREDIT", "CRED", "KR", "KT", "KREDIET": // CR R1500 and R1500CR; Afrikaans too
			return true
		}
	}
	return false
}

// The active codes of ISO 4217 by number of decimals, as amended to 2026. They are kept
// here because the text libraries use CLDR's table. It follows usage and differs from ISO
// 4217 for dozens of currencies, which would make bills wrong a hundredfold. Codes
// without minor units (gold, test codes, drawing rights) are left out, because no person is
// billed in them.
const (
	decimals0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
	decimals2 = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW " +
		"CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR " +
		"JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR " +
		"NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS " +
		"UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG"
	decimals3 = "BHD IQD JOD KWD LYD OMR TND"
	decimals4 = "CLF UYW"
)

// minorUnits is the number of decimals of each currency.
var minorUnits = func() map[string]int {
	all := map[string]int{}
	for decimals, codes := range map[int]string{0: decimals0, 2: decimals2, 3: decimals3, 4: decimals4} {
		for code := range strings.FieldsSeq(codes) {
			all[code] = decimals
		}
	}
	return all
}()

// MinorUnits returns how many decimals a currency has by ISO 4217: 2 for ZAR, 0 for JPY,
// 3 for BHD. ok is false for anything but an active code, in upper case, of a currency
// that bills can be in.
func MinorUnits(code string) (decimals int, ok bool) {
	decimals, ok = minorUnits[code]
	return decimals, ok
}
