package billfile

import (
	"fmt"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// phoneReader converts phone numbers to E.164. The library's data takes a millisecond to
// load, so it is loaded with the first number. It is safe for concurrent use.
type phoneReader struct {
	once   sync.Once
	region string // for national numbers; "" = none
	trunk  string // what national numbers begin with in that region
	plain  *plainNumbers
}

func newPhoneReader(region string) *phoneReader { return &phoneReader{region: region} }

func (p *phoneReader) load() {
	if p.region != "" {
		p.trunk = phonenumbers.GetNddPrefixForRegion(p.region, true)
		p.plain = newPlainNumbers(p.region)
	}
}

func checkRegion(region string) error {
	if region != "" && phonenumbers.GetCountryCodeForRegion(region) == 0 {
		return fmt.Errorf("phone_region: %q is not an ISO 3166 region: write two capital letters, such as ZA", region)
	}
	return nil
}

// closedPlans are countries in which all numbers have one length. The library's data has
// remains of older plans and accepts shorter numbers; a number that lost a digit would be
// another person's.
var closedPlans = map[int32]int{27: 9}

// parse returns the number in E.164.
func (p *phoneReader) parse(s string) (string, finding) {
	p.once.Do(p.load)
	if e164 := p.plain.parse(s); e164 != "" {
		return e164, finding{}
	}
	if beyondASCII(s) >= 0 {
		s = strings.TrimSpace(strings.Map(phoneSign, s))
		if e164 := p.plain.parse(s); e164 != "" {
			return e164, finding{}
		}
	}
	return p.any(s)
}

// phoneSign makes a plain space or hyphen of every kind of them.
func phoneSign(r rune) rune {
	switch {
	case isSpace(r):
		return ' '
	case isMinus(r):
		return '-'
	}
	return r
}

// floated reports whether s is a number as a spreadsheet or a program writes one that it takes for
// a decimal: digits, and nothing but zeros behind the point. With the point gone, the zeros would
// make another number of it.
func floated(s string) bool {
	whole, zeros, point := strings.Cut(strings.Replace(strings.TrimPrefix(s, "+"), ",", ".", 1), ".")
	return point && len(whole) >= 5 && isDigits(whole) && len(zeros) <= 2 && zeros != "" && strings.Trim(zeros, "0") == ""
}

// any has the library read a number, and refuses what the library would guess.
func (p *phoneReader) any(s string) (string, finding) {
	invalid := finding{CodeInvalidPhone, "", p.advice()}
	if floated(s) {
		return "", finding{CodeSpreadsheetDamage, "", " was taken for a decimal number, with zeros behind a point: format the column as text and enter the phone number again"}
	}
	if s == "" {
		return "", invalid
	}
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c):
			digits++
		case c == '+' && i == 0, c == ' ', c == '-', c == '(', c == ')', c == '.', c == '/':
		default: // letters, extensions, two numbers in one cell
			switch {
			case scientific(s, false):
				return "", finding{CodeSpreadsheetDamage, "", " was shortened by a spreadsheet, and digits are lost: format the column as text and enter the whole number"}
			case spreadsheetError(s):
				return "", finding{CodeSpreadsheetDamage, "", " is an error value of a spreadsheet: correct the formula and export the file again"}
			}
			return "", invalid
		}
	}
	if digits < 5 || digits > 20 || len(s) > 40 {
		return "", invalid
	}
	international := s[0] == '+'
	if !international && p.region == "" {
		return "", invalid
	}
	number, err := phonenumbers.Parse(s, p.region)
	if err != nil || number.GetExtension() != "" || !phonenumbers.IsValidNumber(number) {
		return "", invalid
	}
	national := phonenumbers.GetNationalSignificantNumber(number)
	if n, ok := closedPlans[number.GetCountryCode()]; ok && len(national) != n {
		return "", invalid
	}
	if !international && p.trunk != "" && !strings.HasPrefix(strings.TrimLeft(s, "( "), p.trunk) && !p.usualLength(len(national)) {
		return "", invalid
	}
	e164 := phonenumbers.Format(number, phonenumbers.E164)
	if len(e164) < 8 || len(e164) > 16 {
		return "", invalid
	}
	return e164, finding{}
}

// usualLength reports whether a national number of n digits without the trunk prefix is
// as long as the region's numbers are. Then nothing but the prefix was lost, which
// spreadsheets strip.
func (p *phoneReader) usualLength(n int) bool {
	for _, kind := range [...]phonenumbers.PhoneNumberType{phonenumbers.MOBILE, phonenumbers.FIXED_LINE} {
		if example := phonenumbers.GetExampleNumberForType(p.region, kind); example != nil && len(phonenumbers.GetNationalSignificantNumber(example)) == n {
			return true
		}
	}
	return false
}

func (p *phoneReader) advice() string {
	if p.region == "" {
		return " is not a phone number: write it with + and the country code, or set phone_region: for national numbers, or leave it blank"
	}
	return " is neither a phone number of " + p.region + " nor an international one: write all its digits, with + and the country code, or leave it blank"
}
