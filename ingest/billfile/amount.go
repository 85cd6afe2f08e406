package billfile

import (
	"strconv"
	"strings"
)

// finding is what is wrong with one cell: a code, the cell if it may be shown, and the
// text behind it. The zero value means that nothing is wrong.
type finding struct{ code, cell, detail string }

// parseAmount reads an amount exactly: ASCII digits, and in a feed of major units a
// decimal point with at most as many decimals as the currency has. Leading zeros are
// ignored (0100 is 100, never octal). Anything else is a finding.
//
// decimals is the currency's, or -1 if the currency is not known. An amount in major
// units is then checked for its form alone and returned as 0.
func parseAmount(s string, unit Amounts, decimals int, most int64) (int64, finding) {
	whole, fraction, point := s, "", false
	if i := strings.IndexByte(s, '.'); i >= 0 {
		whole, fraction, point = s[:i], s[i+1:], true
	}
	if !isDigits(whole) || point && !isDigits(fraction) {
		return 0, badAmount(s)
	}
	switch {
	case point && unit == Minor:
		return 0, finding{CodeAmountNotMinor, s, " has a decimal point, but this feed's amounts are in minor units (2000 means R20.00): write it in minor units without a point, or set amounts: major"}
	case unit == Minor:
		decimals = 0
	case decimals < 0:
		return 0, finding{}
	case len(fraction) > decimals:
		return 0, finding{CodeAmountPrecision, s, " has " + count(len(fraction), "decimal") + ", but the currency has " + strconv.Itoa(decimals) + ": write no more than that"}
	}
	var v int64
	for i := range len(whole) {
		if v = v*10 + int64(whole[i]-'0'); v > maxAmount {
			return 0, outOfRange(s, most)
		}
	}
	for i := range decimals {
		v *= 10
		if i < len(fraction) {
			v += int64(fraction[i] - '0')
		}
	}
	if v < 1 || v > most {
		return 0, outOfRange(s, most)
	}
	return v, finding{}
}

func outOfRange(s string, most int64) finding {
	return finding{CodeAmountOutOfRange, s, " is not between 1 and " + strconv.FormatInt(most, 10) + " minor units: correct the amount"}
}

// badAmount returns what is wrong with text that is not a plain decimal number.
func badAmount(s string) finding {
	switch {
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " is the error value " + quote(s) + " of a spreadsheet: correct the formula and export the file again"}
	case scientific(s, false):
		return finding{CodeSpreadsheetDamage, s, " was shortened by a spreadsheet: format the column as text and enter the whole number"}
	case grouped(s):
		return finding{CodeSpreadsheetDamage, s, " has thousands separators or a decimal comma: write digits only, with a point before the decimals"}
	case strings.HasPrefix(s, "-") || strings.HasPrefix(s, "("):
		return finding{CodeInvalidAmount, s, " is negative, but a bill is for at least 1 minor unit: leave credits out of the file"}
	case strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) >= 0:
		return finding{CodeInvalidAmount, s, " has characters other than the digits 0 to 9: write plain digits"}
	}
	return finding{CodeInvalidAmount, s, " is not an amount: write digits only, with a point before the decimals, and no sign or currency"}
}
