package billfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// template makes bill references for files without a column of them. It is text with
// fields of the row in braces, as in {customer_reference}-{due_date}. The zero value is
// no template.
type template []piece

// piece is a stretch of a template: text, or a field.
type piece struct {
	text  string
	field field  // ignored = text
	key   string // of metadata
}

// CheckTemplate returns what is wrong with a template of bill references, and what to
// write instead. It quotes nothing of it.
func CheckTemplate(text string) error {
	_, err := parseTemplate(text)
	return err
}

func parseTemplate(text string) (template, error) {
	var t template
	fields := 0
	for text != "" {
		plain, rest, brace := strings.Cut(text, "{")
		if strings.ContainsFunc(plain, func(r rune) bool { return !inReference(r) }) {
			return nil, errors.New("has characters that a bill reference may not have; write letters A to Z, digits, _ and -, and fields in braces, such as {customer_reference}-{due_date}")
		}
		if plain != "" {
			t = append(t, piece{text: plain})
		}
		if !brace {
			break
		}
		name, behind, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, errors.New("has a brace that is not closed; write fields as {due_date}")
		}
		c, ok := Format{}.target(column{}, strings.TrimSpace(name), plainName(name))
		switch {
		case !ok || c.field == fieldReference:
			return nil, fmt.Errorf("names a field that does not exist; write one of %s or metadata.KEY in the braces", strings.Join(fieldNames[fieldAmount:fieldMetadata], ", "))
		case c.field == fieldCustomerEmail || c.field == fieldCustomerPhone:
			return nil, fmt.Errorf("names %s, which has characters that no bill reference may have; write another field", fieldNames[c.field])
		case c.field == fieldCustomerName || c.field == fieldAccountName:
			return nil, fmt.Errorf("names %s, but bill references appear in logs and in the ledger, where names of people must not; write another field", fieldNames[c.field])
		}
		t = append(t, piece{field: c.field, key: c.key})
		fields++
		text = behind
	}
	if fields == 0 {
		return nil, errors.New("names no field, so all bills would have the same reference; write one such as {customer_reference}-{due_date}")
	}
	return t, nil
}

func inReference(r rune) bool {
	return r < utf8.RuneSelf && (isLetter(byte(r)) || isDigit(byte(r)) || r == '_' || r == '-')
}

// holds reports whether a column is the one that a piece takes its text from.
func (p piece) holds(c column) bool {
	return c.to == p.field && (p.field != fieldMetadata || strings.EqualFold(c.key, p.key))
}

func (p piece) name() string {
	if p.field == fieldMetadata {
		return metadataPrefix + p.key
	}
	return fieldNames[p.field]
}

// names returns the fields of a template that are wanted, each once.
func (t template) names(wanted func(piece) bool) []string {
	var names []string
	for _, p := range t {
		if p.field != ignored && wanted(p) && !slices.Contains(names, p.name()) {
			names = append(names, p.name())
		}
	}
	return names
}

// lacks returns the fields of a template of which a file has no column.
func (t template) lacks(columns []column, f Format) []string {
	return t.names(func(p piece) bool {
		return !slices.ContainsFunc(columns, p.holds) && (p.field != fieldCurrency || f.Currency == "")
	})
}

// value returns what a row puts in the place of a piece, or "" if that is blank or could
// not be read.
func (p piece) value(b *Bill) string {
	switch p.field {
	case ignored:
		return p.text
	case fieldAmount:
		if b.Amount == 0 {
			return ""
		}
		return strconv.FormatInt(b.Amount, 10)
	case fieldMetadata:
		i := slices.IndexFunc(b.Metadata, func(m Pair) bool { return strings.EqualFold(m.Key, p.key) })
		if i < 0 {
			return ""
		}
		return b.Metadata[i].Value
	}
	return *b.text(p.field)
}

// makeReference gives a row the reference that the template makes. What is wrong with a
// cell that it uses is reported once, for that cell. The reference is never quoted,
// because it may contain an identity number.
func (c *checker) makeReference(it *item) {
	var space [maxReference]byte
	made, good := space[:0], true
	for _, p := range c.template {
		s := p.value(&it.Bill)
		if p.field != ignored {
			good = c.fits(p, s) && good
		}
		made = append(made, s...)
	}
	switch {
	case !good:
	case reservedPrefix(string(made)) != "":
		c.reportRecord(CodeReservedReference, c.referenceName()+" begins with "+reservedPrefix(string(made))+", as the ids that Moment gives do: have the operator begin the feed's bill_reference otherwise")
	case len(made) > maxReference:
		c.reportRecord(CodeReferenceTooLong, fmt.Sprintf("%s has %d characters, but at most %d are allowed: shorten what it is made from", c.referenceName(), len(made), maxReference))
	default:
		it.Bill.Reference, it.reference = string(made), true
	}
}

// fits reports whether the value of a piece may stand in a reference. If not, it adds a
// problem.
func (c *checker) fits(p piece, s string) bool {
	col := slices.IndexFunc(c.columns, p.holds)
	if s == "" {
		if p.field == fieldAmount || p.field == fieldCurrency {
			return false // there is a rule of its own that they may not be blank
		}
		blamed := slices.ContainsFunc(c.found, func(f placed) bool { return f.col >= 0 && p.holds(c.columns[f.col]) })
		if !blamed && col >= 0 {
			c.report(col, finding{CodeMissingField, "", " is blank, but the bill reference is made from it: fill it in"})
		}
		return false
	}
	at := strings.IndexFunc(s, func(r rune) bool { return !inReference(r) })
	if at < 0 {
		return true
	}
	r, _ := utf8.DecodeRuneInString(s[at:])
	if col >= 0 {
		c.report(col, finding{CodeInvalidReference, "", fmt.Sprintf(" has %+q, which is not allowed in the bill reference that is made from it: correct it, or make the reference from other fields", r)})
	}
	return false
}

// referenceName returns what details call a bill reference: its column, or what it is
// made of.
func (c *checker) referenceName() string {
	if len(c.template) == 0 {
		return c.labels[c.column(fieldReference)]
	}
	return "the bill reference made from " + strings.Join(c.template.names(func(piece) bool { return true }), " and ")
}
