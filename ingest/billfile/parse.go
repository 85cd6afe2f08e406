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

// parser reads the cells of one record and checks them. Not for concurrent use.
type parser struct {
	columns []column
	delim   byte
	check   *checker
	feed    feed
	rows    gocsv.SimpleDecoder
	most    int  // cells of a row
	pad     bool // a row may lack cells at its end
}

// newParser uses gocsv for the cells of a record, as text. It leaves out gocsv's unmarshalling into structs, which goes by
// reflection and takes four times as long as reading does; what a cell means is decided by checker.
func newParser(l Layout, f Format, phones *phoneReader) *parser {
	p := &parser{columns: l.columns, delim: byte(l.Delimiter), check: newChecker(l, f, phones), most: f.maxColumns(), pad: f.ShortRows}
	r := csv.NewReader(&p.feed)
	r.Comma = l.Delimiter
	r.ReuseRecord = true
	r.FieldsPerRecord = -1
	p.rows = gocsv.NewSimpleDecoderFromCSVReader(r)
	return p
}

// parse fills in it from the bytes of a record, and compares it with other rows as far as f is known; nil = not at all. An
// error means that the machinery failed; what is wrong with the record is among its problems.
func (p *parser) parse(raw []byte, e *extent, row int, it *item, h hasher, f *groups) error {
	if err := p.read(raw, e, row, it); err != nil {
		return err
	}
	it.id = h.identity(it)
	if f != nil && f.any() {
		it.member = f.membership(it, h, len(p.check.found) == 0)
		if f.complete {
			f.addProblems(it, p.check)
		}
	}
	p.check.finish(it)
	return nil
}

// read fills in it from the bytes of a record alone. What is wrong with it is left with the checker.
func (p *parser) read(raw []byte, e *extent, row int, it *item) error {
	*it = item{Record: Record{Row: row, Line: e.line, Span: e.span, Raw: raw, Size: int64(e.size)}}
	if e.large() {
		p.check.reportRecord(CodeRowTooLarge, "the row has "+strconv.Itoa(e.size)+" bytes, more than the "+strconv.Itoa(maxRow)+
			" that a row may have; a quotation mark too many or a missing line end may be the cause: correct it"+swallowedLines(e))
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
	p.feed.set(raw)
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
		for len(record) < len(p.columns) {
			record = append(record, "")
		}
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

// mended reports whether a record lacks just the two cells that a rejects file adds. A stray quotation mark makes
// several rows one, which gets these cells once, behind the last of them; with the mark gone, the others are without.
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

// bareQuote names the quotation mark that makes a record unreadable, and the cell that it stands in.
func (p *parser) bareQuote(e *extent, cell int, bad *csv.ParseError) {
	column, label := "", "the row"
	if cell < len(p.columns) {
		column, label = p.columns[cell].name, p.check.labels[cell]
	}
	p.check.add(cell, column, CodeBareQuote, label+" has a quotation mark where none may be, at position "+strconv.Itoa(bad.Column)+" of "+lineText(e.line+bad.Line-bad.StartLine)+
		": put quotation marks around the whole field and double those inside, or remove it"+swallowedLines(e))
}

func (p *parser) wrongCount(e *extent, n int) {
	fields := " fields"
	if n == 1 {
		fields = " field"
	}
	p.check.reportRecord(CodeWrongFieldCount, "the row has "+strconv.Itoa(n)+fields+", the header has "+strconv.Itoa(len(p.columns))+
		": a delimiter or a quotation mark is missing or too many"+swallowedLines(e))
}

// reference fills in the reference of a record that cannot be read as a whole.
func (p *parser) reference(it *item, record []string) {
	if i := p.check.at[fieldReference]; i >= 0 && i < len(record) {
		it.Bill.Reference = cutReference(trim(record[i]))
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
func swallowedLines(e *extent) string {
	switch {
	case e.span < 2:
		return ""
	case e.span == 2:
		return "; a quoted field runs on to " + lineText(e.line+1) + ", which a stray quotation mark may have swallowed"
	}
	return "; a quoted field runs on, and a stray quotation mark may have swallowed lines " + strconv.Itoa(e.line+1) + " to " + strconv.Itoa(e.line+e.span-1)
}
