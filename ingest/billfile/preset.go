package billfile

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Preset is a format of bill files that others have defined: which field each column goes
// to, and which fields are put together from several columns. It is data alone; the
// reader treats all presets alike.
type Preset struct {
	Name          string            // as the configuration writes it
	Amounts       Amounts           // how it writes amounts; a feed may not say otherwise
	BillReference string            // template of the bill reference where the feed has none
	Columns       map[string]string // its header → field; headers that are fields' names already are left out
	derived       []derived
}

// derived is a field that is put together from several columns.
type derived struct {
	field field
	how   combination
	parts []part
}

// combination is how the parts of a field become one.
type combination uint8

const (
	joined combination = iota // all of them, with a space between; every column is needed, cells may be blank
	oneOf                     // the one cell that is filled in; one of the columns is needed
)

// part is one of the columns that a field is put together from.
type part struct {
	name  string // header
	check func(string) finding
}

// Presets returns all presets.
func Presets() []Preset {
	return []Preset{momentDaily()}
}

// momentDaily is the daily file that billers deliver to Moment over SFTP. Customers are
// billed directly.
func momentDaily() Preset {
	return Preset{
		Name:          "moment-daily",
		Amounts:       Major,
		BillReference: "{customer_reference}-{due_date}",
		Columns:       map[string]string{"mobile_phone_number": "customer_phone", "email": "customer_email"},
		derived: []derived{
			{fieldCustomerName, joined, []part{{"first_name", checkName}, {"last_name", checkName}}},
			{fieldCustomerReference, oneOf, []part{{"passport_number", checkPassport}, {"sa_identification_number", checkIdentityNumber}}},
		},
	}
}

// Parts returns the preset's columns that are not fields themselves. A feed may map its
// own headers to them.
func (p *Preset) Parts() []string {
	var names []string
	for _, d := range p.derived {
		names = append(names, d.names()...)
	}
	return names
}

// derives reports whether a field is put together from columns of the preset.
func (p *Preset) derives(name string) bool {
	return slices.ContainsFunc(p.derived, func(d derived) bool { return fieldNames[d.field] == name })
}

// names returns the columns of the parts.
func (d derived) names() []string {
	var names []string
	for _, part := range d.parts {
		names = append(names, part.name)
	}
	return names
}

// presetOf returns the preset of that name.
func presetOf(name string) (p Preset, ok bool) {
	for _, p := range Presets() {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}

// part finds a column that is a part of a field.
func (p *Preset) part(plain string) (field, int, bool) {
	for _, d := range p.derived {
		if i := slices.IndexFunc(d.parts, func(part part) bool { return part.name == plain }); i >= 0 {
			return d.field, i, true
		}
	}
	return ignored, 0, false
}

// derivation is how one derived field of a row comes about. It is scratch space of a
// checker.
type derivation struct {
	derived
	columns []int    // of the parts; -1 where the file has none
	values  []string // of the row, as trimmed
	good    []bool   // nothing is wrong with the value
}

// derivations returns a checker's derivations for the derived fields of which the file
// has columns.
func derivations(p Preset, columns []column) []derivation {
	var all []derivation
	for _, d := range p.derived {
		m := derivation{derived: d, columns: make([]int, len(d.parts)), values: make([]string, len(d.parts)), good: make([]bool, len(d.parts))}
		some := false
		for i := range d.parts {
			m.columns[i] = slices.IndexFunc(columns, func(c column) bool { return c.field == fieldPart && c.to == d.field && c.part == i })
			some = some || m.columns[i] >= 0
		}
		if some {
			all = append(all, m)
		}
	}
	return all
}

// derivation returns the one that a part belongs to.
func (c *checker) derivation(col *column) *derivation {
	return &c.derivations[slices.IndexFunc(c.derivations, func(m derivation) bool { return m.field == col.to })]
}

func (m *derivation) set(col *column, s string, good bool) {
	m.values[col.part], m.good[col.part] = s, good
}

// part checks one part of a derived field. clean is s without invisible characters.
func (c *checker) part(i int, col *column, s, clean string) {
	var f finding
	if clean != "" {
		f = c.derivation(col).parts[col.part].check(clean)
		c.report(i, f)
	}
	c.derivation(col).set(col, s, f.code == "" && len(clean) == len(s))
}

// derive puts the derived fields of a row together. If something is wrong with a part,
// its field stays blank.
func (c *checker) derive(it *item) {
	for i := range c.derivations {
		switch m := &c.derivations[i]; m.how {
		case joined:
			c.join(m, it)
		case oneOf:
			c.choose(m, it)
		}
	}
}

func (c *checker) join(m *derivation, it *item) {
	text := ""
	for i, s := range m.values {
		switch {
		case s == "":
		case !m.good[i]:
			return
		case text == "":
			text = s
		default:
			text += " " + s
		}
	}
	if utf8.RuneCountInString(text) > maxText {
		c.report(slices.Max(m.columns), checkText(text, maxText).behind(" together with "+c.labels[slices.Min(m.columns)]))
		return
	}
	*it.Bill.text(m.field) = text
}

func (c *checker) choose(m *derivation, it *item) {
	chosen := -1
	for i, s := range m.values {
		switch {
		case s == "":
		case chosen < 0:
			chosen = i
		default:
			a, b := m.columns[chosen], m.columns[i]
			c.report(max(a, b), finding{CodeAmbiguousParty, "", " is filled in as well as " + c.labels[min(a, b)] + ": fill in one of them, not both"})
			return
		}
	}
	if chosen < 0 || !m.good[chosen] {
		return
	}
	*it.Bill.text(m.field) = m.values[chosen]
	if m.field == fieldCustomerReference {
		it.customer, it.customerCol = true, int16(m.columns[chosen])
	}
}

// given reports whether a row has something in a field, right or wrong.
func (c *checker) given(record []string, f field) bool {
	for i := range c.derivations {
		if m := &c.derivations[i]; m.field == f {
			return slices.ContainsFunc(m.values, func(s string) bool { return s != "" })
		}
	}
	return c.text(record, f) != ""
}

// behind puts text between the column's name and the detail.
func (f finding) behind(text string) finding {
	return finding{f.code, "", text + f.detail}
}

// checkPassport applies the rule for references to a passport number, which becomes one.
// It never quotes it.
func checkPassport(s string) finding {
	if f := damagedNumber(s, true); f.code != "" {
		return f
	}
	return checkReference(s, true)
}

const (
	// identityDigits is the length of a South African identity number: YYMMDD, four
	// digits of a sequence, citizenship, one digit without meaning, and the check digit.
	identityDigits = 13
	// identityZeros is the most zeros that such a number can begin with, and that a
	// spreadsheet can strip: a birth in 2000, in a month of one digit.
	identityZeros = 3
)

// checkIdentityNumber checks the form of a South African identity number: 13 digits, a
// date of birth, the check digit. It never quotes it.
func checkIdentityNumber(s string) finding {
	if f := damagedNumber(s, false); f.code != "" {
		return f
	}
	invalid := func(detail string) finding { return finding{CodeInvalidReference, "", detail} }
	switch digits := isDigits(s); {
	case isPlaceholder(s):
		return finding{CodePlaceholderValue, "", placeholderDetail(s) + "write the identity number, or leave the cell blank"}
	case digits && len(s) >= identityDigits-identityZeros && len(s) < identityDigits && soundIdentity(strings.Repeat("0", identityDigits-len(s))+s):
		return finding{CodeSpreadsheetDamage, "", " has lost its leading zeros, probably in a spreadsheet: format the column as text and enter all 13 digits"}
	case !digits || len(s) != identityDigits:
		return invalid(" is not a South African identity number: write its 13 digits and nothing else, or put a passport number in its own column")
	case !birthday(s[:6]):
		return invalid(" does not begin with a date of birth (YYMMDD), as South African identity numbers do: correct it")
	case !luhn(s):
		return invalid(" has a wrong check digit, so at least one digit is wrong: correct it")
	}
	return finding{}
}

func soundIdentity(s string) bool { return birthday(s[:6]) && luhn(s) }

// damagedNumber finds what spreadsheets do to long numbers, and quotes nothing. With
// strict it reports only what cannot be the number of a document.
func damagedNumber(s string, strict bool) finding {
	switch {
	case spreadsheetError(s):
		return finding{CodeSpreadsheetDamage, "", " is an error value of a spreadsheet: correct the formula and export the file again"}
	case scientific(s, strict):
		return finding{CodeSpreadsheetDamage, "", " was shortened by a spreadsheet, and digits are lost: format the column as text and enter the whole number"}
	case grouped(s):
		return finding{CodeSpreadsheetDamage, "", " has separators between its digits: format the column as text and write digits only"}
	}
	return finding{}
}

// birthday reports whether six digits YYMMDD are a day of the 20th or the 21st century.
func birthday(s string) bool {
	_, err := time.Parse("060102", s)
	return err == nil
}

// luhn reports whether the last digit is the check digit of the others, by ISO/IEC 7812.
func luhn(s string) bool {
	sum := 0
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}
