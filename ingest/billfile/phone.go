package billfile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// phoneReader brings phone numbers to E.164. The library's data takes a millisecond to load, so it is loaded when the first
// number comes. Safe for concurrent use.
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
		return fmt.Errorf("phone_region: %q is no ISO 3166 region of two capital letters, such as ZA", region)
	}
	return nil
}

// closedPlans are countries whose numbers all have one length, though the library's data, which has leftovers
// of older plans, takes shorter ones: a digit lost would give somebody else's number.
var closedPlans = map[int32]int{27: 9}

// parse returns the number in E.164.
func (p *phoneReader) parse(s string) (string, finding) {
	p.once.Do(p.load)
	if e164 := p.plain.parse(s); e164 != "" {
		return e164, finding{}
	}
	return p.any(s)
}

// any has the library read a number, and refuses what it guesses.
func (p *phoneReader) any(s string) (string, finding) {
	invalid := finding{CodeInvalidPhone, p.advice()}
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c):
			digits++
		case c == '+' && i == 0, c == ' ', c == '-', c == '(', c == ')', c == '.', c == '/':
		default: // letters, extensions, two numbers in one cell
			switch {
			case scientific(s, false):
				return "", finding{CodeSpreadsheetDamage, " was shortened by a spreadsheet, its digits are lost: format the column as text and enter the whole number"}
			case spreadsheetError(s):
				return "", finding{CodeSpreadsheetDamage, " holds a spreadsheet's error value: correct the sheet"}
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

// usualLength reports whether a national number of n digits, given without the trunk prefix, is as long as those of the
// region are: then nothing was lost but the prefix, which spreadsheets strip.
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
		return " is no phone number: write it with + and the country code, or set phone_region: for national numbers, or leave it blank"
	}
	return " is no phone number of " + p.region + " nor an international one: write all its digits, with + and the country code, or leave it blank"
}

// plainNumbers recognises most numbers of one region, in which the library takes 8 µs a number: those in the usual length and
// without anything but digits, single spaces and hyphens. It does so by the library's own patterns. What it does not recognise,
// the library decides; a test compares the two. nil recognises nothing.
type plainNumbers struct {
	code    string // + and the country code
	trunk   string // what national numbers begin with
	length  int    // digits behind either
	general *regexp.Regexp
	kinds   *regexp.Regexp // one of them has to match as well
}

// newPlainNumbers returns nil for regions in which a plain number may mean more than one thing.
func newPlainNumbers(region string) *plainNumbers {
	all, err := phonenumbers.MetadataCollection()
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(all.GetMetadata(), func(m *phonenumbers.PhoneMetadata) bool { return m.GetId() == region })
	example := phonenumbers.GetExampleNumberForType(region, phonenumbers.MOBILE)
	if i < 0 || example == nil {
		return nil
	}
	m := all.GetMetadata()[i]
	if len(phonenumbers.GetRegionCodesForCountryCode(int(m.GetCountryCode()))) != 1 || m.GetInternationalPrefix() != "00" ||
		m.GetNationalPrefix() != "0" || m.GetNationalPrefixForParsing() != "0" || m.GetNationalPrefixTransformRule() != "" {
		return nil
	}
	p := &plainNumbers{code: "+" + strconv.Itoa(int(m.GetCountryCode())), trunk: "0", length: len(phonenumbers.GetNationalSignificantNumber(example))}
	var kinds []string
	for _, kind := range [...]*phonenumbers.PhoneNumberDesc{
		m.GetMobile(), m.GetFixedLine(), m.GetTollFree(), m.GetPremiumRate(), m.GetSharedCost(),
		m.GetVoip(), m.GetPersonalNumber(), m.GetPager(), m.GetUan(), m.GetVoicemail(),
	} {
		lengths := kind.GetPossibleLength() // none: those of the region in general
		if kind.GetNationalNumberPattern() != "" && (len(lengths) == 0 || slices.Contains(lengths, int32(p.length))) {
			kinds = append(kinds, kind.GetNationalNumberPattern())
		}
	}
	if p.general, err = regexp.Compile("^(?:" + m.GetGeneralDesc().GetNationalNumberPattern() + ")$"); err != nil {
		return nil
	}
	if p.kinds, err = regexp.Compile("^(?:" + strings.Join(kinds, "|") + ")$"); err != nil {
		return nil
	}
	return p
}

// parse returns s in E.164, or "" where the library has to decide.
func (p *plainNumbers) parse(s string) string {
	if p == nil {
		return ""
	}
	digits, international := strings.CutPrefix(s, p.code)
	if !international {
		var national bool
		if digits, national = strings.CutPrefix(s, p.trunk); !national {
			return ""
		}
	}
	var space [24]byte
	number := space[:0]
	for i := range len(digits) {
		switch c := digits[i]; {
		case isDigit(c) && len(number) < p.length:
			number = append(number, c)
		case (c == ' ' || c == '-') && i < len(digits)-1 && isDigit(digits[i+1]):
		default:
			return ""
		}
	}
	if len(number) != p.length || number[0] == p.trunk[0] || !p.general.Match(number) || !p.kinds.Match(number) {
		return ""
	}
	return p.code + string(number)
}
