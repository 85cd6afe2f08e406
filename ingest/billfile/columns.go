package billfile

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// field is what the cells of a column mean.
type field uint8

const (
	ignored field = iota
	fieldReference
	fieldAmount
	fieldCurrency
	fieldBillDate
	fieldDueDate
	fieldAccountReference
	fieldAccountID
	fieldCustomerReference
	fieldCustomerID
	fieldAccountName
	fieldCustomerName
	fieldCustomerEmail
	fieldCustomerPhone
	fieldMetadata
	fieldPart // with others, of a field that a preset puts together
	fieldCount
)

// fieldNames are the names of columns by field. Metadata and parts have none.
var fieldNames = [fieldCount]string{
	fieldReference: "bill_reference", fieldAmount: "amount_due", fieldCurrency: "currency",
	fieldBillDate: "bill_date", fieldDueDate: "due_date",
	fieldAccountReference: "account_reference", fieldAccountID: "account_id",
	fieldCustomerReference: "customer_reference", fieldCustomerID: "customer_id",
	fieldAccountName: "account_name", fieldCustomerName: "customer_name",
	fieldCustomerEmail: "customer_email", fieldCustomerPhone: "customer_phone",
}

// metadataPrefix begins the name of a column that goes to the bill's metadata.
const metadataPrefix = "metadata."

// ownColumns are the columns that a rejects file has besides the original ones. They are
// ignored, so that the file can be delivered again.
var ownColumns = [...]string{"error_code", "error_detail"}

// column is one column of a file.
type column struct {
	field field
	to    field  // field, but of a part what it becomes a part of
	name  string // as the file spells it, without surrounding space
	key   string // of metadata
	part  int    // its place among the parts
	// nameless columns are passed over as long as all their cells are empty.
	nameless bool
	verdict  bool // error_code of a rejects file
}

// holdsText reports whether the column holds text for people: a name, a part of one, or metadata.
func (c *column) holdsText() bool {
	return c.to == fieldAccountName || c.to == fieldCustomerName || c.to == fieldMetadata
}

// plainName returns a header name in the form in which names are compared: without letter
// case, surrounding space and byte order mark.
func plainName(s string) string { return strings.ToLower(trimName(s)) }

func trimName(s string) string {
	return strings.Trim(s, " \t\u00a0\ufeff")
}

// lookUp finds the field of a header name. known is false for a name that is neither
// mapped nor a field's.
func (f Format) lookUp(name string) (c column, known bool) {
	plain := plainName(name)
	c.name = trimName(name)
	for from, to := range f.Columns {
		if plainName(from) == plain {
			return f.target(c, strings.TrimSpace(to), plainName(to))
		}
	}
	if slices.ContainsFunc(f.IgnoreColumns, func(n string) bool { return plainName(n) == plain }) {
		return c, true
	}
	if slices.Contains(ownColumns[:], plain) {
		c.verdict = plain == ownColumns[0]
		return c, true
	}
	if p, ok := presetOf(f.Preset); ok {
		if to, ok := p.Columns[plain]; ok {
			return f.target(c, to, to)
		}
	}
	return f.target(c, c.name, plain)
}

// target fills in the field that a name stands for.
func (f Format) target(c column, name, plain string) (column, bool) {
	if plain == "" {
		return c, false
	}
	if i := slices.Index(fieldNames[:], plain); i > 0 {
		c.field, c.to = field(i), field(i)
		return c, true
	}
	if p, ok := presetOf(f.Preset); ok {
		if to, i, ok := p.part(plain); ok {
			c.field, c.to, c.part = fieldPart, to, i
			return c, true
		}
	}
	if strings.HasPrefix(plain, metadataPrefix) {
		c.key = strings.TrimSpace(name[len(metadataPrefix):])
		n := utf8.RuneCountInString(c.key)
		if n < 1 || n > maxMetadataKey || invisible(c.key) >= 0 {
			return c, false
		}
		c.field, c.to = fieldMetadata, fieldMetadata
		return c, true
	}
	return c, false
}

// mapColumns finds the field of every column, or returns what is wrong with the header.
func mapColumns(names []string, line int, f Format) ([]column, error) {
	columns := make([]column, len(names))
	var unknown []int
	var double []string
	known := 0
	have := map[string]int{} // plain target name → column, 1 the first
	for i, name := range names {
		c, ok := f.lookUp(name)
		columns[i] = c
		switch {
		case !ok && plainName(name) == "":
			columns[i].nameless = true
			continue
		case !ok:
			unknown = append(unknown, i)
			continue
		case c.field == ignored:
			continue
		}
		known++
		target := c.target(f)
		if first := have[target]; first > 0 {
			double = append(double, fmt.Sprintf("columns %d and %d are both %s", first, i+1, target))
			continue
		}
		have[target] = i + 1
	}
	if known == 0 && looksLikeData(names) {
		return nil, &FileError{Code: CodeNoHeader, Line: line, Detail: lineText(line) + " looks like data, not like column names: begin the file with a row of column names"}
	}
	double = append(double, derivedTwice(columns)...)
	missing := missingColumns(columns, f)
	var parts []string
	code := ""
	if len(missing) > 0 {
		code = CodeMissingColumn
		parts = append(parts, "no column "+strings.Join(missing, ", no column "))
	}
	if len(double) > 0 {
		code = cmp.Or(code, CodeDuplicateColumn)
		parts = append(parts, double...)
	}
	if len(unknown) > 0 {
		code = cmp.Or(code, CodeUnknownColumn)
		parts = append(parts, unknownColumns(names, unknown, known > 0, have, f)...)
	}
	if code == "" {
		return columns, nil
	}
	return nil, &FileError{Code: code, Line: line, Detail: strings.Join(parts, "; ") + ": correct the header, or set columns: and ignore_columns: for this feed"}
}

// target returns the name that a header would have for the column's field.
func (c column) target(f Format) string {
	switch c.field {
	case fieldMetadata:
		return metadataPrefix + strings.ToLower(c.key)
	case fieldPart:
		p, _ := presetOf(f.Preset)
		for _, d := range p.derived {
			if d.field == c.to {
				return d.parts[c.part].name
			}
		}
	}
	return fieldNames[c.field]
}

// derivedTwice finds fields that have a column of their own as well as columns of their
// parts.
func derivedTwice(columns []column) []string {
	var double []string
	for i, c := range columns {
		if c.field != fieldPart || slices.ContainsFunc(columns[:i], func(o column) bool { return o.field == fieldPart && o.to == c.to }) {
			continue
		}
		if j := slices.IndexFunc(columns, func(o column) bool { return o.field == c.to }); j >= 0 {
			double = append(double, fmt.Sprintf("columns %d and %d both give %s", min(i, j)+1, max(i, j)+1, fieldNames[c.to]))
		}
	}
	return double
}

func missingColumns(columns []column, f Format) []string {
	has := func(to field) bool {
		return slices.ContainsFunc(columns, func(c column) bool { return c.to == to })
	}
	var missing []string
	for _, need := range [...]field{fieldReference, fieldAmount, fieldCurrency} {
		if has(need) || need == fieldCurrency && f.Currency != "" || need == fieldReference && len(f.template()) > 0 {
			continue
		}
		missing = append(missing, fieldNames[need])
	}
	p, _ := presetOf(f.Preset)
	parties := fieldNames[fieldAccountReference : fieldCustomerID+1]
	for _, d := range p.derived {
		if d.how == oneOf {
			if !has(d.field) {
				missing = append(missing, strings.Join(d.names(), " or "))
			}
			parties = nil
			continue
		}
		for i, part := range d.parts {
			own := slices.ContainsFunc(columns, func(c column) bool {
				return c.field == d.field || c.field == fieldPart && c.to == d.field && c.part == i
			})
			if !own {
				missing = append(missing, part.name)
			}
		}
	}
	if len(parties) > 0 && !slices.ContainsFunc(columns, column.isParty) {
		missing = append(missing, strings.Join(parties, " or "))
	}
	if has(fieldReference) {
		return missing
	}
	for _, name := range f.template().lacks(columns, f) {
		if name != fieldNames[fieldAmount] && name != fieldNames[fieldCurrency] && !p.derives(name) {
			missing = append(missing, name+" (the bill reference is made from it)")
		}
	}
	return missing
}

// isParty reports whether a column names who pays.
func (c column) isParty() bool { return fieldAccountReference <= c.to && c.to <= fieldCustomerID }

// unknownColumns describes the names that are not known. It quotes them only if other
// names on the line are known; otherwise the line may be data of people.
func unknownColumns(names []string, unknown []int, quotable bool, have map[string]int, f Format) []string {
	var parts []string
	for n, i := range unknown {
		if n == 10 {
			parts = append(parts, fmt.Sprintf("and %d more unknown columns", len(unknown)-n))
			break
		}
		text := "column " + strconv.Itoa(i+1)
		name := trimName(names[i])
		if name == "" {
			text += " has no name"
		} else {
			near := nearest(plainName(name), have, f)
			if quotable || near != "" {
				text += ", " + quote(name) + ","
			}
			text += " is not known"
			if near != "" {
				text += " (did you mean " + near + "?)"
			}
			if strings.HasPrefix(plainName(name), metadataPrefix) {
				text += " (a metadata key has 1 to 50 visible characters)"
			}
		}
		parts = append(parts, text)
	}
	if len(names) == 1 {
		for _, d := range delimiters {
			if strings.ContainsRune(names[0], d) {
				parts = append(parts, "the header seems to be delimited by "+strconv.QuoteRune(d)+", see delimiter:")
				break
			}
		}
	}
	return parts
}

// looksLikeData reports whether some cell cannot be a column name: it is empty, a number,
// a date or a mail address.
func looksLikeData(names []string) bool {
	for _, name := range names {
		name = trimName(name)
		if name == "" || strings.ContainsRune(name, '@') || strings.HasPrefix(name, "bacc_") || strings.HasPrefix(name, "bcus_") {
			return true
		}
		if strings.Trim(name, "0123456789.,-+/: ") == "" {
			return true
		}
	}
	return false
}

// underscored is a name with underscores for spaces and hyphens.
func underscored(name string) string { return strings.NewReplacer(" ", "_", "-", "_").Replace(name) }

// nearest returns the known column that is most like name and that the file does not
// have; "" if none is like it.
func nearest(name string, have map[string]int, f Format) string {
	name = underscored(name)
	if len(name) > 40 {
		return ""
	}
	best, distance := "", 1+len(name)/3
	p, _ := presetOf(f.Preset)
	for _, known := range slices.Concat(fieldNames[1:fieldMetadata], p.Parts()) {
		if have[known] > 0 {
			continue
		}
		d := EditDistance(name, known)
		if len(name) >= 5 && (strings.HasPrefix(known, name) || strings.HasSuffix(known, name)) {
			d = min(d, 1)
		}
		if d < distance || d == distance && best == "" {
			best, distance = known, d
		}
	}
	return best
}

// EditDistance returns how many bytes have to be inserted, removed or replaced to turn a
// into b.
func EditDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
