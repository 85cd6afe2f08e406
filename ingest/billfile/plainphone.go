package billfile

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// plainNumbers recognises most numbers of one region: numbers of the usual length that
// have only digits, single spaces and hyphens. It uses the library's own patterns. The
// library decides about all other numbers; a test compares the two.
//
// The reason is time. The library takes 8 µs a number, which is more than everything else
// that is done with a row. nil recognises nothing.
type plainNumbers struct {
	code    string // + and the country code
	trunk   string // what national numbers begin with
	length  int    // digits behind either
	general *digitSet
	kinds   *digitSet
}

// newPlainNumbers returns nil for regions in which a plain number may mean more than one
// thing.
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
	if p.general, err = newDigitSet(m.GetGeneralDesc().GetNationalNumberPattern(), p.length); err != nil {
		return nil
	}
	if p.kinds, err = newDigitSet(strings.Join(kinds, "|"), p.length); err != nil {
		return nil
	}
	return p
}

// parse returns s in E.164, or "" if the library has to decide.
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
	if len(number) != p.length || number[0] == p.trunk[0] || !p.general.has(number) || !p.kinds.has(number) {
		return ""
	}
	return p.code + string(number)
}

// digitSet is a set of numbers of one length, as a graph. Each digit leads to the set of
// what may follow it, or to nil.
type digitSet [10]*digitSet

// has reports whether the set has number, which must have the set's length. A nil set is
// empty.
func (s *digitSet) has(number []byte) bool {
	for _, digit := range number {
		if s == nil {
			return false
		}
		s = s[digit-'0']
	}
	return s != nil
}

// newDigitSet returns the set of the numbers of a length that a pattern matches as a
// whole.
func newDigitSet(pattern string, length int) (*digitSet, error) {
	re, err := syntax.Parse("(?:"+pattern+")", syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("phone pattern: %w", err)
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, fmt.Errorf("phone pattern: %w", err)
	}
	if slices.ContainsFunc(prog.Inst, func(in syntax.Inst) bool { return in.Op == syntax.InstEmptyWidth }) {
		return nil, errors.New("phone pattern: it has more than digits in it")
	}
	known := map[string]*digitSet{}
	var follow func(at []uint32, length int) *digitSet
	follow = func(at []uint32, length int) *digitSet {
		at, whole := reach(prog, at)
		switch {
		case length == 0 && whole:
			return &digitSet{}
		case length == 0 || len(at) == 0:
			return nil
		}
		key := fmt.Sprint(length, at)
		if set, ok := known[key]; ok {
			return set
		}
		set := &digitSet{}
		for digit := range set {
			var next []uint32
			for _, i := range at {
				if prog.Inst[i].MatchRune(rune('0' + digit)) {
					next = append(next, prog.Inst[i].Out)
				}
			}
			set[digit] = follow(next, length-1)
		}
		if *set == (digitSet{}) {
			set = nil
		}
		known[key] = set
		return set
	}
	return follow([]uint32{uint32(prog.Start)}, length), nil
}

// reach returns the instructions that can take the next character when a pattern has come
// to at, and whether the pattern may end there.
func reach(prog *syntax.Prog, at []uint32) (runes []uint32, end bool) {
	for todo, seen := slices.Clone(at), map[uint32]bool{}; len(todo) > 0; {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[i] {
			continue
		}
		seen[i] = true
		switch in := &prog.Inst[i]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, in.Out, in.Arg)
		case syntax.InstNop, syntax.InstCapture:
			todo = append(todo, in.Out)
		case syntax.InstMatch:
			end = true
		case syntax.InstFail:
		default:
			runes = append(runes, i)
		}
	}
	slices.Sort(runes)
	return runes, end
}
