package billfile

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/gocarina/gocsv"
)

// cells are the cells of one record as text. gocsv fills them in by their tags; what they mean is decided elsewhere.
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
	Others            []string `csv:"other" csv[]:"256"` // of all other columns, in their order
}

// at is the cell of a column.
func (c *cells) at(col *column) *string {
	switch col.field {
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
	}
	return &c.Others[col.other]
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

// unread is the name of columns that gocsv has no cell for.
const unread = "-"

// parser turns the bytes of one record into cells and checks them. Not for concurrent use.
type parser struct {
	columns []column
	code    int // column, see mended
	others  int // columns without a cell of their own
	check   *checker
	feed    feed
	csv     *csv.Reader
	rows    *gocsv.Unmarshaller
}

// newParser makes a parser of all columns, or with wanted, of those that go to the fields for which it is true.
func newParser(l Layout, f Format, phones *phoneReader, wanted func(field) bool) (*parser, error) {
	code := codeColumn(l.columns)
	if wanted != nil {
		l.columns = slices.Clone(l.columns)
		for i, c := range l.columns {
			if !wanted(c.to) && i != code {
				l.columns[i] = column{name: c.name, unread: true}
			}
		}
		number(l.columns)
	}
	p := &parser{columns: l.columns, code: code, check: newChecker(l, f, phones)}
	names := make([]string, len(l.columns))
	for i, c := range l.columns {
		switch {
		case c.unread:
			names[i] = unread
		case fieldNames[c.field] != "":
			names[i] = fieldNames[c.field]
		default:
			names[i] = "other[" + strconv.Itoa(c.other) + "]"
			p.others++
		}
	}
	p.csv = csv.NewReader(&p.feed)
	p.csv.Comma = l.Delimiter
	p.csv.ReuseRecord = true
	p.csv.FieldsPerRecord = -1
	p.feed.set([]byte(strings.Join(names, string(l.Delimiter)) + "\n"))
	var err error
	if p.rows, err = gocsv.NewUnmarshaller(p.csv, &cells{}); err != nil {
		return nil, fmt.Errorf("read bill file: map columns: %w", err)
	}
	for _, name := range p.rows.MismatchedHeaders { // the library drops their cells without an error
		if name != unread {
			return nil, fmt.Errorf("read bill file: map columns: no cell is called %s", name)
		}
	}
	return p, nil
}

// parse fills in it from the bytes of a record. An error means that the machinery failed; what is wrong with the record
// is among its problems.
func (p *parser) parse(raw []byte, e *extent, row int, it *item) error {
	*it = item{Record: Record{Row: row, Line: e.line, Span: e.span, Raw: raw, Size: int64(e.size)}}
	if e.large() {
		p.check.whole(it, CodeRowTooLarge, "the row has "+strconv.Itoa(e.size)+" bytes, more than the "+strconv.Itoa(maxRow)+
			" that a row may have; a quotation mark too many or a missing line end may be the cause: correct it"+swallowedLines(e))
		return nil
	}
	count := e.cells + 1
	readable := raw
	switch {
	case e.state == broken:
		readable = raw[:e.whole]
	case count > maxColumns && len(raw) > 4096: // not worth the memory
		p.wrongCount(it, e)
		return nil
	}
	c, err := p.read(readable)
	if err != nil {
		return fmt.Errorf("read bill file: line %d: %w", e.line, err)
	}
	switch {
	case e.state == broken:
		it.Bill.Reference = cutReference(trim(c.Reference))
		p.bareQuote(it, e)
	case count == len(p.columns), p.mended(c, e):
		p.check.swallowed = swallowedLines(e)
		p.check.record(c, it)
	default:
		it.Bill.Reference = cutReference(trim(c.Reference))
		p.wrongCount(it, e)
	}
	return nil
}

// read has gocsv read the cells of one record that is known to be well-formed. Cells that it lacks are blank.
func (p *parser) read(record []byte) (*cells, error) {
	if len(record) == 0 {
		return &cells{Others: make([]string, p.others)}, nil
	}
	p.feed.set(record)
	before := p.csv.InputOffset()
	v, err := p.rows.Read()
	if err != nil {
		return nil, err
	}
	if n := p.csv.InputOffset() - before - int64(len(record)); n < 0 || n > 1 {
		return nil, fmt.Errorf("%d bytes more were read than the record has", n)
	}
	c, ok := v.(*cells)
	if !ok {
		return nil, fmt.Errorf("unexpected row type %T", v)
	}
	if missing := p.others - len(c.Others); missing > 0 {
		c.Others = append(c.Others, make([]string, missing)...)
	}
	return c, nil
}

// mended reports whether a record lacks just the two cells that a rejects file adds. A stray quotation mark makes
// several rows one, which gets these cells once, behind the last of them; with the mark gone, the others are without.
// A row that lacks two cells of its own still ends with its code.
func (p *parser) mended(c *cells, e *extent) bool {
	if p.code == none || e.span > 1 || e.cells+1 != len(p.columns)-len(ownColumns) {
		return false
	}
	code := trim(*c.at(&p.columns[p.code]))
	return !slices.Contains(rowCodes[:], code) && !slices.Contains(otherCodes[:], code) && !strings.HasPrefix(code, "http_")
}

// codeColumn is where the code of a row stands that lacks two cells of a rejects file; none in other files.
func codeColumn(columns []column) int {
	rest := len(columns) - len(ownColumns)
	for i, own := range ownColumns {
		if rest < len(ownColumns) || !strings.EqualFold(trim(columns[rest+i].name), own) {
			return none
		}
	}
	return rest - len(ownColumns)
}

// bareQuote names the quotation mark that makes a record unreadable, and the cell that it stands in.
func (p *parser) bareQuote(it *item, e *extent) {
	column, label := "", "the row"
	if e.cells < len(p.columns) {
		column, label = p.columns[e.cells].name, p.check.labels[e.cells]
	}
	before := it.Raw[:e.mark]
	line := e.line + bytes.Count(before, []byte{'\n'})
	position := e.mark - bytes.LastIndexByte(before, '\n')
	p.check.add(e.cells, column, CodeBareQuote, label+" has a quotation mark where none may be, at position "+strconv.Itoa(position)+" of "+lineText(line)+
		": put quotation marks around the whole field and double those inside, or remove it"+swallowedLines(e))
	p.check.finish(it)
}

// otherCodes are what stands in a rejects file's error_code for rows that are not invalid.
var otherCodes = [...]string{"conflict", "rejected", "failed", "unknown", "not_sent", "unknown_account", "attempts_exhausted", "no_answer"}

func (p *parser) wrongCount(it *item, e *extent) {
	fields := " fields"
	if e.cells == 0 {
		fields = " field"
	}
	p.check.whole(it, CodeWrongFieldCount, "the row has "+strconv.Itoa(e.cells+1)+fields+", the header has "+strconv.Itoa(len(p.columns))+
		": a delimiter or a quotation mark is missing or too many"+swallowedLines(e))
}

// cutReference is a reference as reports show it: 255 bytes at most, no character cut.
func cutReference(s string) string {
	if len(s) <= maxReference {
		return s
	}
	return strings.ToValidUTF8(s[:maxReference], "")
}

// swallowedLines names the lines that a quoted field took with it.
func swallowedLines(e *extent) string {
	switch {
	case e.span < 2:
		return ""
	case e.span == 2:
		return "; a quoted field runs on to " + lineText(e.line+1) + ", which a stray quotation mark may have swallowed"
	}
	return "; a quoted field runs on, and a stray quotation mark may have swallowed lines " + strconv.Itoa(e.line+1) + " to " + strconv.Itoa(e.line+e.span-1)
}
