package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Layout is how one file is written, as its beginning tells.
type Layout struct {
	Encoding    string // utf-8, utf-16le, utf-16be or windows-1252
	BOM         bool   // the file begins with a byte order mark
	Delimiter   rune   // one of , ; tab |
	Header      []byte // the header's bytes in UTF-8, any sep= line and the line ends included, without byte order mark
	HeaderLines int    // physical lines in Header
	Columns     []string
	columns     []column
}

// field is what a column goes to.
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
	fieldCount
)

// fieldNames are the columns of the bill file, by field.
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

// ownColumns are what a rejects file has besides the original columns. They are ignored, so that it can be dropped again.
var ownColumns = [...]string{"error_code", "error_detail"}

// delimiters are those that a file may have.
var delimiters = [...]rune{',', ';', '\t', '|'}

// column is one column of a file.
type column struct {
	field field
	name  string // as the file spells it, without surrounding space
	key   string // of metadata
}

// plainName is a header name as it is compared: without regard to case, surrounding space or byte order mark.
func plainName(s string) string { return strings.ToLower(trimName(s)) }

func trimName(s string) string {
	return strings.Trim(s, " \t\u00a0\ufeff")
}

// lookUp finds the field of a header name. known is false for a name that is neither mapped nor known.
func (f Format) lookUp(name string) (c column, known bool) {
	plain := plainName(name)
	c.name = trimName(name)
	target := c.name
	for from, to := range f.Columns {
		if plainName(from) == plain {
			target, plain = strings.TrimSpace(to), plainName(to)
			return f.target(c, target, plain)
		}
	}
	for _, n := range f.IgnoreColumns {
		if plainName(n) == plain {
			return c, true
		}
	}
	if slices.Contains(ownColumns[:], plain) {
		return c, true
	}
	return f.target(c, target, plain)
}

// target fills in the field that a name stands for.
func (f Format) target(c column, name, plain string) (column, bool) {
	if plain == "" {
		return c, false
	}
	if i := slices.Index(fieldNames[:], plain); i > 0 {
		c.field = field(i)
		return c, true
	}
	if strings.HasPrefix(plain, metadataPrefix) {
		c.key = strings.TrimSpace(name[len(metadataPrefix):])
		n := utf8.RuneCountInString(c.key)
		if n < 1 || n > maxMetadataKey || invisible(c.key) >= 0 {
			return c, false
		}
		c.field = fieldMetadata
		return c, true
	}
	return c, false
}

// Validate reports everything in f that no file could be read with.
func (f Format) Validate() error {
	var errs []error
	if f.Amounts != Minor && f.Amounts != Major {
		errs = append(errs, errors.New("amounts: say minor (2000 = R20.00) or major (20.00 = R20.00)"))
	}
	if f.Currency != "" {
		if _, ok := MinorUnits(f.Currency); !ok {
			errs = append(errs, fmt.Errorf("currency: %q is not an ISO 4217 code, such as ZAR", f.Currency))
		}
	}
	for _, c := range f.Currencies {
		if _, ok := MinorUnits(c); !ok {
			errs = append(errs, fmt.Errorf("currencies: %q is not an ISO 4217 code, such as ZAR", c))
		}
	}
	if f.Currency != "" && len(f.Currencies) > 0 && !slices.Contains(f.Currencies, f.Currency) {
		errs = append(errs, fmt.Errorf("currency: %s is not among currencies", f.Currency))
	}
	if f.Delimiter != 0 && !slices.Contains(delimiters[:], f.Delimiter) {
		errs = append(errs, fmt.Errorf("delimiter: %q is none of , ; tab |", f.Delimiter))
	}
	switch f.Encoding {
	case "", "auto", "utf-8", "utf-16", "windows-1252":
	default:
		errs = append(errs, fmt.Errorf("encoding: %q is none of auto, utf-8, utf-16, windows-1252", f.Encoding))
	}
	if err := checkDateFormat(f.dateFormat()); err != nil {
		errs = append(errs, err)
	}
	if err := checkRegion(f.PhoneRegion); err != nil {
		errs = append(errs, err)
	}
	seen := map[string]string{}
	for from, to := range f.Columns {
		if other, twice := seen[plainName(from)]; twice {
			errs = append(errs, fmt.Errorf("columns: %q and %q are the same name", other, from))
		}
		seen[plainName(from)] = from
		if _, ok := f.target(column{}, strings.TrimSpace(to), plainName(to)); !ok {
			errs = append(errs, fmt.Errorf("columns: %q is mapped to %q, which is no field: use one of %s or metadata.KEY", from, to, strings.Join(fieldNames[1:fieldMetadata], ", ")))
		}
	}
	if f.MaxAmountDue < 0 || f.MaxAmountDue > maxAmount {
		errs = append(errs, fmt.Errorf("max_amount_due: %d is not between 0 and %d minor units", f.MaxAmountDue, maxAmount))
	}
	if f.MaxFileSize < 0 {
		errs = append(errs, errors.New("max_file_size: a size is never negative"))
	}
	return errors.Join(errs...)
}

func (f Format) dateFormat() string {
	if f.DateFormat == "" {
		return isoDate
	}
	return f.DateFormat
}

// readHeader cuts the header off the front of s, chooses the delimiter, and maps the columns.
func readHeader(s *splitter, f Format) (Layout, error) {
	var l Layout
	first, _, err := s.headLine(0)
	if err != nil {
		return l, err
	}
	if err := loneReturns(first, 1); err != nil {
		return l, err
	}
	candidates := delimiters[:]
	if f.Delimiter != 0 {
		candidates = []rune{f.Delimiter}
	}
	start := 0
	if d, ok, err := sepLine(first); err != nil {
		return l, err
	} else if ok {
		candidates, start, l.HeaderLines = []rune{d}, len(first), 1
	}
	best := headRecord{}
	for _, d := range candidates {
		h, err := s.head(start, l.HeaderLines, byte(d), f)
		if err != nil {
			return l, err
		}
		if best.delim == 0 || h.better(best) {
			best = h
		}
	}
	if best.err != nil {
		return l, best.err
	}
	l.Delimiter = rune(best.delim)
	l.HeaderLines += best.span
	l.Header = slices.Clone(s.rest[:best.end])
	for _, name := range best.names {
		l.Columns = append(l.Columns, trimName(name))
	}
	if l.columns, err = mapColumns(best.names, l.HeaderLines, f); err != nil {
		return l, err
	}
	s.rest = append(s.rest[:0], s.rest[best.end:]...)
	s.delim = best.delim
	s.line = l.HeaderLines
	return l, nil
}

// headLine returns the line that begins at from, reading as much as it takes.
func (s *splitter) headLine(from int) (line []byte, whole bool, err error) {
	for {
		if n := bytes.IndexByte(s.rest[min(from, len(s.rest)):], '\n'); n >= 0 {
			return s.rest[from : from+n+1], true, nil
		}
		if s.eof || len(s.rest) > from+maxRow {
			return s.rest[min(from, len(s.rest)):], false, nil
		}
		if s.rest, err = s.readMore(s.rest, 64<<10); err != nil {
			return nil, false, err
		}
	}
}

// headRecord is the header as one delimiter shows it.
type headRecord struct {
	delim byte
	names []string
	end   int // in rest
	span  int
	known int   // names that go to a field
	err   error // why it cannot be read so
}

// better: a readable header before an unreadable one, then more known names, then more columns.
func (h headRecord) better(than headRecord) bool {
	switch {
	case (h.err == nil) != (than.err == nil):
		return h.err == nil
	case h.known != than.known:
		return h.known > than.known
	}
	return len(h.names) > len(than.names)
}

// head reads the header record as delim cuts it. Its error is one that no other delimiter could mend.
func (s *splitter) head(start, lines int, delim byte, f Format) (headRecord, error) {
	h := headRecord{delim: delim, end: start}
	noHeader := func(detail string) (headRecord, error) {
		return h, &FileError{Code: CodeNoHeader, Line: lines + 1, Detail: lineText(lines+1) + " " + detail + ": the file must begin with a row of column names"}
	}
	var q quoting
	for {
		line, whole, err := s.headLine(h.end)
		if err != nil {
			return h, err
		}
		h.span++
		q.follow(line, delim, lines+h.span)
		h.end += len(line)
		switch {
		case !whole && !s.eof || h.end-start > maxRow:
			if q.open() {
				h.err = swallowed(q.opened)
				return h, nil
			}
			return noHeader("is longer than " + strconv.Itoa(maxRow>>10) + " KiB, so it is no header")
		case !whole && len(line) == 0 && h.span == 1:
			return noHeader("is missing")
		case !whole && q.open():
			h.err = &FileError{Code: CodeUnbalancedQuote, Line: q.opened, Detail: "the quotation mark that opens a column name on " + lineText(q.opened) + " is never closed: close it, or remove it"}
			return h, nil
		case !whole && !s.allowCut:
			return h, &FileError{Code: CodeTruncated, Line: lines + h.span, Detail: lineText(lines+h.span) + ", the header, has no line end: the upload looks cut off; send the whole file again"}
		}
		if !q.open() {
			break
		}
	}
	text := s.rest[start:h.end]
	if len(bytes.TrimSpace(text)) == 0 {
		return noHeader("is blank")
	}
	if q.fields >= maxColumns {
		return noHeader("has " + strconv.Itoa(q.fields+1) + " columns, more than the " + strconv.Itoa(maxColumns) + " that a bill file may have")
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma = rune(delim)
	names, err := r.Read()
	if err != nil {
		h.err = &FileError{Code: CodeNoHeader, Line: lines + 1, Detail: "the column names on " + lineText(lines+1) + " have a quotation mark where none may be: put quotation marks around whole names only"}
		return h, nil
	}
	h.names = names
	for _, name := range names {
		if c, ok := f.lookUp(name); ok && c.field != ignored {
			h.known++
		}
	}
	return h, nil
}

// sepLine reads Excel's first line "sep=;".
func sepLine(line []byte) (rune, bool, error) {
	text := strings.Trim(strings.TrimRight(string(line[:min(len(line), 16)]), "\r\n"), `"`)
	if len(text) < 4 || !strings.EqualFold(text[:4], "sep=") || bytes.IndexByte(line, '\n') < 0 {
		return 0, false, nil
	}
	for _, d := range delimiters {
		if text[4:] == string(d) {
			return d, true, nil
		}
	}
	if len(line) > 8 {
		return 0, false, nil // too long for a sep= line: a header, then
	}
	return 0, false, &FileError{Code: CodeNoHeader, Line: 1, Detail: "line 1 sets a delimiter that is none of , ; tab |: save the file with one of these"}
}

// mapColumns finds what every column goes to, or says what is wrong with the header.
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
		case !ok:
			unknown = append(unknown, i)
			continue
		case c.field == ignored:
			continue
		}
		known++
		target := fieldNames[c.field]
		if c.field == fieldMetadata {
			target = metadataPrefix + strings.ToLower(c.key)
		}
		if first := have[target]; first > 0 {
			double = append(double, fmt.Sprintf("columns %d and %d both are %s", first, i+1, target))
			continue
		}
		have[target] = i + 1
	}
	if known == 0 && looksLikeData(names) {
		return nil, &FileError{Code: CodeNoHeader, Line: line, Detail: lineText(line) + " looks like data, not like column names: begin the file with a row of column names"}
	}
	missing := missingColumns(have, f)
	var parts []string
	code := ""
	if len(missing) > 0 {
		code = CodeMissingColumn
		parts = append(parts, "no column "+strings.Join(missing, ", no column "))
	}
	if len(double) > 0 {
		code = cmpOr(code, CodeDuplicateColumn)
		parts = append(parts, double...)
	}
	if len(unknown) > 0 {
		code = cmpOr(code, CodeUnknownColumn)
		parts = append(parts, unknownColumns(names, unknown, known > 0, have, f)...)
	}
	if code == "" {
		return columns, nil
	}
	return nil, &FileError{Code: code, Line: line, Detail: strings.Join(parts, "; ") + ": correct the header, or set columns: and ignore_columns: for this feed"}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func missingColumns(have map[string]int, f Format) []string {
	var missing []string
	for _, need := range [...]field{fieldReference, fieldAmount, fieldCurrency} {
		if have[fieldNames[need]] == 0 && (need != fieldCurrency || f.Currency == "") {
			missing = append(missing, fieldNames[need])
		}
	}
	parties := fieldNames[fieldAccountReference : fieldCustomerID+1]
	if !slices.ContainsFunc(parties, func(n string) bool { return have[n] > 0 }) {
		missing = append(missing, strings.Join(parties, " or "))
	}
	return missing
}

// unknownColumns describes names that nothing is known of. They are quoted only where the rest of the line shows
// that it is a header: else they may be somebody's data.
func unknownColumns(names []string, unknown []int, quotable bool, have map[string]int, f Format) []string {
	var parts []string
	for n, i := range unknown {
		if n == 10 {
			parts = append(parts, fmt.Sprintf("and %d more unknown columns", len(unknown)-n))
			break
		}
		text := "column " + strconv.Itoa(i+1)
		name := trimName(names[i])
		switch {
		case name == "":
			text += " has no name"
		case !quotable:
			text += " is not known"
		default:
			text += ", " + quote(name) + ", is not known"
			if near := nearest(plainName(name), have); near != "" {
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

// looksLikeData reports whether some cell is what no column name would be: empty, a number, a date, a mail address.
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

// nearest is the known column, not there yet, whose name is like name; "" when none is.
func nearest(name string, have map[string]int) string {
	name = strings.NewReplacer(" ", "_", "-", "_").Replace(name)
	if len(name) > 40 {
		return ""
	}
	best, distance := "", 1+len(name)/3
	for _, known := range fieldNames[1:fieldMetadata] {
		if have[known] > 0 {
			continue
		}
		d := editDistance(name, known)
		if len(name) >= 5 && (strings.HasPrefix(known, name) || strings.HasSuffix(known, name)) {
			d = min(d, 1)
		}
		if d < distance || d == distance && best == "" {
			best, distance = known, d
		}
	}
	return best
}

// editDistance is how many letters have to be put in, left out or replaced to make b of a.
func editDistance(a, b string) int {
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
