package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/gocarina/gocsv"
)

// recordInput gives a csv.Reader the bytes of one record and never a byte of the next, so
// that a broken record cannot affect others.
type recordInput struct {
	text []byte
	end  bool // a line end is still to follow
}

func (f *recordInput) set(text []byte) {
	f.text = text
	f.end = len(text) == 0 || text[len(text)-1] != '\n'
}

func (f *recordInput) Read(p []byte) (int, error) {
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

// parser reads the cells of one record and checks them. It is not safe for concurrent
// use.
type parser struct {
	columns []column
	delim   byte
	check   *checker
	input   recordInput
	rows    gocsv.SimpleDecoder
	most    int  // cells of a row
	pad     bool // a row may lack cells at its end
}

// newParser uses gocsv to read the cells of a record as text. It does not use gocsv's
// unmarshalling into structs, which goes by reflection and takes four times as long as
// reading. What a cell means is decided by checker.
func newParser(l Layout, f Format, phones *phoneReader) *parser {
	p := &parser{columns: l.columns, delim: byte(l.Delimiter), check: newChecker(l, f, phones), most: f.maxColumns(), pad: f.ShortRows}
	r := csv.NewReader(&p.input)
	r.Comma = l.Delimiter
	r.ReuseRecord = true
	r.FieldsPerRecord = -1
	p.rows = gocsv.NewSimpleDecoderFromCSVReader(r)
	return p
}

// parse fills in it from the bytes of a record, and compares it with the groups g that
// are known so far; nil means none. An error means that reading failed. What is wrong
// with the record is among its problems.
func (p *parser) parse(raw []byte, e *extent, row int, it *item, h hasher, g *groups) error {
	if err := p.read(raw, e, row, it); err != nil {
		return err
	}
	it.id = h.identity(it)
	if g != nil && g.any() {
		it.member = g.membership(it, h, len(p.check.found) == 0)
		if g.complete {
			g.addProblems(it, p.check)
		}
	}
	p.check.finish(it)
	return nil
}

// read fills in it from the bytes of a record, without other rows. It leaves the problems
// with the checker.
func (p *parser) read(raw []byte, e *extent, row int, it *item) error {
	*it = item{Record: Record{Row: row, Line: e.line, Span: e.span, Raw: raw, Size: int64(e.size)}}
	if e.large() {
		p.check.reportRecord(CodeRowTooLarge, "the row has "+strconv.Itoa(e.size)+" bytes, but a row may have at most "+strconv.Itoa(maxRow)+
			": look for a surplus quotation mark or a missing line end"+swallowedLines(e))
		return nil
	}
	if len(raw) > 4096 { // a row of very many cells is named by its delimiters, before it costs memory
		var q quoting
		for line := range bytes.Lines(raw) {
			q.follow(line, p.delim, e.line)
		}
		if q.state != broken && q.delims >= p.most {
			p.wrongCount(e, q.delims+1)
			return nil
		}
	}
	p.check.entities = bytes.IndexByte(raw, '&') >= 0
	p.input.set(raw)
	record, err := p.rows.GetCSVRow()
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad):
		p.reference(it, record)
		p.bareQuote(e, len(record), bad)
		return nil
	case err != nil:
		return fmt.Errorf("read bill file: line %d: %w", e.line, err)
	case e.span == 1 && p.mended(record):
		record = append(record, "", "")
	case p.pad && len(record) < len(p.columns):
		record = append(record, make([]string, len(p.columns)-len(record))...)
	case len(record) != len(p.columns):
		p.reference(it, record)
		p.wrongCount(e, len(record))
		return nil
	}
	p.check.record(record, swallowedLines(e), it)
	if i := p.check.nameless; i > 0 {
		return &FileError{Code: CodeUnknownColumn, Line: e.line, Detail: "column " + strconv.Itoa(i) + " has no name, and something stands in it on " + lineText(e.line) +
			`: give the column a name, or empty it; to pass it over, set ignore_columns: [""] for this feed`}
	}
	return nil
}

// mended reports whether a record lacks just the two cells that a rejects file adds. A
// stray quotation mark joins several rows, and the two cells are added once, behind the
// last of them. When the mark is removed, the other rows are without them.
func (p *parser) mended(record []string) bool {
	rest := len(p.columns) - len(ownColumns)
	if len(record) != rest || rest < len(ownColumns) {
		return false
	}
	for i, own := range ownColumns {
		if !strings.EqualFold(trim(p.columns[rest+i].name), own) {
			return false
		}
	}
	// A row that lacks two cells of its own still ends with its code.
	code := trim(record[rest-len(ownColumns)])
	return !slices.Contains(rowCodes[:], code) && !slices.Contains(otherCodes[:], code) && !strings.HasPrefix(code, "http_")
}

// bareQuote reports the quotation mark that makes a record unreadable, and the cell that
// it stands in.
func (p *parser) bareQuote(e *extent, cell int, bad *csv.ParseError) {
	column, label := "", "the row"
	if cell < len(p.columns) {
		column, label = p.columns[cell].name, p.check.labels[cell]
	}
	p.check.add(cell, column, CodeBareQuote, label+" has a misplaced quotation mark at position "+strconv.Itoa(bad.Column)+" of "+lineText(e.line+bad.Line-bad.StartLine)+
		": remove it, or put quotation marks around the whole field and double those inside"+swallowedLines(e))
}

func (p *parser) wrongCount(e *extent, n int) {
	p.check.reportRecord(CodeWrongFieldCount, "the row has "+count(n, "field")+", but the header has "+strconv.Itoa(len(p.columns))+
		": look for a missing or surplus delimiter or quotation mark"+swallowedLines(e))
}

// reference fills in the reference of a record that cannot be read as a whole.
func (p *parser) reference(it *item, record []string) {
	if i := p.check.at[fieldReference]; i >= 0 && i < len(record) {
		it.Bill.Reference = cutReference(trim(record[i]))
	}
}

// cutReference returns a reference as reports show it: at most 255 bytes, without a cut
// character.
func cutReference(s string) string {
	if len(s) <= maxReference {
		return s
	}
	return strings.ToValidUTF8(s[:maxReference], "")
}

// swallowedLines returns the text about the further lines of a quoted field.
func swallowedLines(e *extent) string {
	switch {
	case e.span < 2:
		return ""
	case e.span == 2:
		return "; a quoted field continues on " + lineText(e.line+1) + ", perhaps because of a stray quotation mark"
	}
	return "; a quoted field continues on lines " + strconv.Itoa(e.line+1) + " to " + strconv.Itoa(e.line+e.span-1) + ", perhaps because of a stray quotation mark"
}
