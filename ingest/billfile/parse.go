package billfile

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/gocarina/gocsv"
)

// cells are the fields of one record, as text: every meaning is given to them here, none by the CSV library. The library
// fills them in by their tags, and in most records rowParser.cut does, by the same names.
type cells struct {
	Reference         string   `csv:"bill_reference"`
	Amount            string   `csv:"amount_due"`
	Currency          string   `csv:"currency"`
	BillDate          string   `csv:"bill_date"`
	DueDate           string   `csv:"due_date"`
	AccountReference  string   `csv:"account_reference"`
	AccountID         string   `csv:"account_id"`
	CustomerReference string   `csv:"customer_reference"`
	CustomerID        string   `csv:"customer_id"`
	AccountName       string   `csv:"account_name"`
	CustomerName      string   `csv:"customer_name"`
	CustomerEmail     string   `csv:"customer_email"`
	CustomerPhone     string   `csv:"customer_phone"`
	Others            []string `csv:"other" csv[]:"256"` // metadata and parts, in column order
}

// at is the cell of a field; slot is its place among metadata and parts.
func (c *cells) at(f field, slot int) *string {
	switch f {
	case fieldReference:
		return &c.Reference
	case fieldAmount:
		return &c.Amount
	case fieldCurrency:
		return &c.Currency
	case fieldBillDate:
		return &c.BillDate
	case fieldDueDate:
		return &c.DueDate
	case fieldAccountReference:
		return &c.AccountReference
	case fieldAccountID:
		return &c.AccountID
	case fieldCustomerReference:
		return &c.CustomerReference
	case fieldCustomerID:
		return &c.CustomerID
	case fieldAccountName:
		return &c.AccountName
	case fieldCustomerName:
		return &c.CustomerName
	case fieldCustomerEmail:
		return &c.CustomerEmail
	case fieldCustomerPhone:
		return &c.CustomerPhone
	case fieldMetadata, fieldPart:
		return &c.Others[slot]
	}
	return nil
}

// feed hands a csv.Reader one record at a time, never a byte of the next: a broken record cannot take others with it.
type feed struct {
	text []byte
	end  bool // a line end is still to follow
}

func (f *feed) set(text []byte) {
	f.text = text
	f.end = len(text) == 0 || text[len(text)-1] != '\n'
}

func (f *feed) Read(p []byte) (int, error) {
	n := copy(p, f.text)
	f.text = f.text[n:]
	if n < len(p) && f.end {
		p[n] = '\n'
		f.end = false
		n++
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// rowParser turns the bytes of one record into cells, and has them checked. Not for concurrent use.
type rowParser struct {
	columns []column
	delim   byte
	between string // delim as text
	check   *checker
	cells   cells // of the record that was cut last
	feed    feed
	csv     *csv.Reader
	rows    *gocsv.Unmarshaller
	// loose reads what the first reader refuses, to tell what is wrong with it.
	loose     *csv.Reader
	looseFeed feed
}

func newRowParser(l Layout, f Format, phones *phoneReader) (*rowParser, error) {
	p := &rowParser{columns: l.columns, delim: byte(l.Delimiter), between: string(l.Delimiter), check: newChecker(l, f, phones)}
	p.cells.Others = make([]string, p.check.others)
	names := make([]string, len(l.columns))
	for i, c := range l.columns {
		switch c.field {
		case ignored:
			names[i] = "-"
		case fieldMetadata, fieldPart:
			names[i] = "other[" + strconv.Itoa(c.slot) + "]"
		default:
			names[i] = fieldNames[c.field]
		}
	}
	p.csv = csv.NewReader(&p.feed)
	p.csv.Comma = l.Delimiter
	p.csv.ReuseRecord = true
	p.csv.FieldsPerRecord = len(l.columns)
	p.feed.set([]byte(strings.Join(names, string(l.Delimiter)) + "\n"))
	var err error
	if p.rows, err = gocsv.NewUnmarshaller(p.csv, &cells{}); err != nil {
		return nil, fmt.Errorf("read bill file: map columns: %w", err)
	}
	for _, name := range p.rows.MismatchedHeaders { // the library would drop their cells in silence
		if name != "-" {
			return nil, fmt.Errorf("read bill file: map columns: no cell is called %s", name)
		}
	}
	p.loose = csv.NewReader(&p.looseFeed)
	p.loose.Comma = l.Delimiter
	p.loose.ReuseRecord = true
	p.loose.FieldsPerRecord = -1
	return p, nil
}

// parse fills in it from a record: its bytes, and the same as a text, of which the strings of its bill are parts.
// An error means that the machinery failed; what is wrong with the record is among its problems.
func (p *rowParser) parse(raw []byte, text string, t slot, row int, it *item) error {
	*it = item{Record: Record{Row: row, Line: t.line, Span: t.span, Raw: raw, Size: t.size}}
	if t.large {
		p.check.whole(it, CodeRowTooLarge, "the row has "+strconv.FormatInt(t.size, 10)+" bytes, more than the "+strconv.Itoa(maxRow)+
			" that a row may have; a quotation mark too many or a missing line end may be the cause: correct it"+swallowedLines(t))
		return nil
	}
	if len(it.Raw) > 4096 { // a row of very many fields is told by its delimiters, before it costs memory
		var q quoting
		q.follow(it.Raw, p.delim, t.line)
		if q.state != broken && q.fields >= maxColumns {
			p.wrongCount(it, t, q.fields+1)
			return nil
		}
	}
	if t.span > 1 {
		return p.parseLoose(it, t)
	}
	if !p.cut(text) {
		return p.parseCSV(it, t)
	}
	p.check.record(&p.cells, isPlain(trimLineEnd(it.Raw)), it)
	return nil
}

// cut takes a short cut for most records: those with as many cells as the header, each without quotation marks or
// between two. Every delimiter outside of them ends a cell there, and nothing has to be put together, so the library,
// which boxes every cell, need not be asked. It is false for all other records: those the library reads. (It cuts no
// record otherwise than the library does: a fuzz test compares.)
func (p *rowParser) cut(text string) bool {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	quotes, more := strings.IndexByte(text, '"') >= 0, true
	for i := range p.columns {
		if !more {
			return false
		}
		var cell string
		if quotes && strings.HasPrefix(text, `"`) {
			closed := false
			cell, text, closed = strings.Cut(text[1:], `"`)
			if text, more = strings.CutPrefix(text, p.between); !closed || !more && text != "" {
				return false
			}
		} else {
			cell = text
			end := strings.IndexByte(text, p.delim)
			if more = end >= 0; more {
				cell, text = text[:end], text[end+1:]
			}
			if quotes && strings.IndexByte(cell, '"') >= 0 {
				return false
			}
		}
		if col := &p.columns[i]; col.field != ignored {
			*p.cells.at(col.field, col.slot) = cell
		}
	}
	return !more
}

// parseCSV has the CSV library read a record of one line.
func (p *rowParser) parseCSV(it *item, t slot) error {
	p.feed.set(it.Raw)
	before := p.csv.InputOffset()
	v, err := p.rows.Read()
	if err != nil {
		return p.parseLoose(it, t)
	}
	if n := p.csv.InputOffset() - before; n != int64(len(it.Raw)) && !(t.cut && n == int64(len(it.Raw))+1) {
		return fmt.Errorf("read bill file: line %d: the record's end is in doubt (%d bytes cut, %d read)", t.line, len(it.Raw), n)
	}
	c, ok := v.(*cells)
	if !ok {
		return fmt.Errorf("read bill file: line %d: unexpected row type %T", t.line, v)
	}
	p.check.record(c, isPlain(trimLineEnd(it.Raw)), it)
	return nil
}

func trimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return b
}

// parseLoose reads a record that spans lines or is not as the header says, field by field.
func (p *rowParser) parseLoose(it *item, t slot) error {
	p.looseFeed.set(it.Raw)
	record, err := p.loose.Read()
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad):
		p.reference(it, record)
		column := ""
		label := "the row"
		if len(record) < len(p.columns) {
			column = p.columns[len(record)].name
			label = p.check.labels[len(record)]
		}
		p.check.add(len(record), column, CodeBareQuote, label+" has a quotation mark where none may be, at position "+strconv.Itoa(bad.Column)+" of "+lineText(t.line+bad.Line-bad.StartLine)+
			": put quotation marks around the whole field and double those inside, or remove it"+swallowedLines(t))
		p.check.finish(it)
		return nil
	case err != nil:
		return fmt.Errorf("read bill file: line %d: %w", t.line, err)
	case t.span == 1 && p.mended(record):
		record = append(record, "", "")
	case len(record) != len(p.columns):
		p.reference(it, record)
		p.wrongCount(it, t, len(record))
		return nil
	}
	c := cells{Others: make([]string, p.check.others)}
	for i, col := range p.columns {
		switch {
		case col.field != ignored:
			*c.at(col.field, col.slot) = record[i]
		case strings.ContainsAny(record[i], "\r\n"):
			p.check.add(i, col.name, CodeControlCharacter, p.check.labels[i]+" has a line break: remove it"+swallowedLines(t))
		}
	}
	p.check.swallowed = swallowedLines(t)
	p.check.record(&c, false, it)
	p.check.swallowed = ""
	return nil
}

// mended reports whether a record lacks just the two cells that a rejects file adds. A stray quotation mark makes several rows
// one, which gets these cells once, behind the last of them; with the mark gone, the others are without.
func (p *rowParser) mended(record []string) bool {
	rest := len(p.columns) - len(ownColumns)
	if len(record) == 0 || len(record) != rest {
		return false
	}
	for i, own := range ownColumns {
		if !strings.EqualFold(trim(p.columns[rest+i].name), own) {
			return false
		}
	}
	// A row that lacks two cells of its own still ends with its code.
	if len(record) < 2 {
		return true
	}
	code := trim(record[len(record)-2])
	return !slices.Contains(rowCodes[:], code) && !slices.Contains(otherCodes[:], code) && !strings.HasPrefix(code, "http_")
}

// otherCodes are what stands in a rejects file's error_code for rows that are not invalid.
var otherCodes = [...]string{"conflict", "rejected", "failed", "unknown", "not_sent", "unknown_account", "attempts_exhausted", "no_answer"}

func (p *rowParser) wrongCount(it *item, t slot, n int) {
	fields := " fields"
	if n == 1 {
		fields = " field"
	}
	p.check.whole(it, CodeWrongFieldCount, "the row has "+strconv.Itoa(n)+fields+", the header has "+strconv.Itoa(len(p.columns))+
		": a delimiter or a quotation mark is missing or too many"+swallowedLines(t))
}

// reference fills in the reference of a record that cannot be read as a whole.
func (p *rowParser) reference(it *item, record []string) {
	for i, c := range p.columns {
		if c.field == fieldReference && i < len(record) {
			it.Bill.Reference = cutReference(trim(record[i]))
		}
	}
}

// cutReference is a reference as reports show it: 255 bytes at most, no character cut.
func cutReference(s string) string {
	if len(s) <= maxReference {
		return s
	}
	return strings.ToValidUTF8(s[:maxReference], "")
}

// swallowedLines names the lines that a quoted field took with it.
func swallowedLines(t slot) string {
	switch {
	case t.span < 2:
		return ""
	case t.span == 2:
		return "; a quoted field runs on to " + lineText(t.line+1) + ", which a stray quotation mark may have swallowed"
	}
	return "; a quoted field runs on, and a stray quotation mark may have swallowed lines " + strconv.Itoa(t.line+1) + " to " + strconv.Itoa(t.line+t.span-1)
}
