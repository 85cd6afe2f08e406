package report

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"

	"golang.org/x/text/encoding/charmap"
)

// The two columns that a rejects file has in addition to the bill file's. billfile passes them
// over.
const (
	codeColumn   = "error_code"
	detailColumn = "error_detail"
)

// codeLetters are the characters of codes and statuses. A cell of these has no quotes.
const codeLetters = "abcdefghijklmnopqrstuvwxyz0123456789_"

// maxDetail bounds an error_detail, in bytes, so that no row becomes too large to be read again.
// The results file has the whole text.
const maxDetail = 4096

// rejects writes the rejects file: the header of the bill file and the rows that need
// attention, each with its original bytes and two more cells, error_code and error_detail.
//
// The file must be readable again as a whole, corrected or not. One rule follows from that: the
// number of cells of a row is right in the rejects file if and only if it was right in the bill
// file. So nothing is padded: a row that lacks a cell would become one with its cells in the
// wrong columns. In detail:
//
//   - The two cells go before the line end of the record, LF or CRLF. A record without a line
//     end (the last of the file) gets the one of the header.
//   - error_detail is always quoted, and begins with neither a quote nor a delimiter. So its
//     opening quote closes a quote that a broken row left open, and is followed by a character
//     that may not follow a closing quote. A strict reader finds the error on this line and
//     continues with the next: a broken row never swallows the row after it.
//   - A broken record of several lines stays one record, with the two cells at its end. The
//     reader meets the same bytes in the same state, and stops at the same error.
//   - A file that has the two columns already is a rejects file that was delivered again. It
//     keeps its header, and the two cells are replaced. See extend for rows in which they cannot
//     be found.
//   - A row that was too large to be held becomes an empty cell and the two cells. Its bytes have
//     to be taken from the bill file.
type rejects struct {
	w      io.Writer
	layout billfile.Layout
	out    *bufio.Writer // set with the first row
	enc    io.WriteCloser
	buf    []byte
	ends   []int // reused: the ends of a record's cells

	delim     byte
	cells     int            // of the header
	code      int            // column of error_code, -1 = the file lacks it
	detail    int            // column of error_detail, -1 = the file lacks it
	headerEnd []byte         // line end of the header
	own       *regexp.Regexp // the two cells at the end of a row as this writer writes them
}

func newRejects(w io.Writer, l billfile.Layout) (*rejects, error) {
	if l.Delimiter < 1 || l.Delimiter >= utf8.RuneSelf || len(l.Columns) == 0 {
		return nil, fmt.Errorf("write rejects: a header of %d columns with delimiter %q", len(l.Columns), l.Delimiter)
	}
	r := &rejects{w: w, layout: l, delim: byte(l.Delimiter), cells: len(l.Columns)}
	r.code, r.detail = columnOf(l, codeColumn), columnOf(l, detailColumn)
	delim := regexp.QuoteMeta(string(l.Delimiter))
	r.own = regexp.MustCompile(delim + "[" + codeLetters + "]+" + delim + `"(?:[^"]|"")*"$`)
	if _, r.headerEnd = billfile.CutLineEnd(l.Header); len(r.headerEnd) == 0 {
		r.headerEnd = []byte("\n")
	}
	return r, nil
}

// columnOf returns the index of a column, -1 where the file does not have it.
func columnOf(l billfile.Layout, name string) int {
	return slices.IndexFunc(l.Columns, func(c string) bool { return strings.EqualFold(c, name) })
}

// row writes one record.
func (r *rejects) row(rec *billfile.Record, o *ledger.Outcome) error {
	if r.out == nil {
		if err := r.begin(); err != nil {
			return err
		}
	}
	body, end := billfile.CutLineEnd(rec.Raw)
	if len(end) == 0 {
		end = r.headerEnd
	}
	r.buf = r.extend(r.buf[:0], body, shapeOf(rec), o)
	r.buf = append(r.buf, end...)
	_, err := r.out.Write(r.buf)
	return err
}

// begin writes the header.
func (r *rejects) begin() error {
	r.enc = r.layout.Encoder(r.w)
	r.out = bufio.NewWriterSize(r.enc, 64<<10)
	body, _ := billfile.CutLineEnd(r.layout.Header)
	b := append(r.buf[:0], body...)
	if r.code < 0 {
		b = append(append(b, r.delim), codeColumn...)
	}
	if r.detail < 0 {
		b = append(append(b, r.delim), detailColumn...)
	}
	r.buf = append(b, r.headerEnd...)
	_, err := r.out.Write(r.buf)
	return err
}

// close flushes the file. It writes nothing if there was no row.
func (r *rejects) close() error {
	if r.out == nil {
		return nil
	}
	if err := r.out.Flush(); err != nil {
		return err
	}
	return r.enc.Close()
}

// shape is whether the cells of a record can be told apart.
type shape uint8

const (
	regular shape = iota // as many cells as the header
	ragged               // more or fewer cells
	broken               // its quotes do not form cells
)

// shapeOf returns the shape of a record by its problems.
func shapeOf(rec *billfile.Record) shape {
	s := regular
	for _, p := range rec.Problems {
		switch p.Code {
		case billfile.CodeWrongFieldCount:
			s = max(s, ragged)
		case billfile.CodeBareQuote:
			s = broken
		}
	}
	return s
}

// extend appends body, a record without its line end, and its two cells to b.
func (r *rejects) extend(b, body []byte, s shape, o *ledger.Outcome) []byte {
	last := r.code == r.cells-2 && r.detail == r.cells-1
	if len(body) == 0 { // the row was too large
		return r.addBoth(b, o)
	}
	if s == regular {
		r.ends = cellEnds(r.ends[:0], body, r.delim)
		if len(r.ends) == r.cells {
			return r.addMissing(r.replace(b, body, o), o)
		}
		if len(r.ends) == r.cells-2 && last { // the reader accepts a row without the two columns
			return r.addBoth(append(b, body...), o)
		}
		if n := r.cells - len(r.ends); n > 0 { // short_rows: blank, so the cells that it lacks are added
			body = append(slices.Clone(body), bytes.Repeat([]byte{r.delim}, n)...)
			r.ends = cellEnds(r.ends[:0], body, r.delim)
			return r.addMissing(r.replace(b, body, o), o)
		}
	}
	if last {
		// The cells cannot be told apart. The two stand at the end of the line if this writer
		// wrote them.
		if own := r.own.FindIndex(body); own != nil {
			return r.addBoth(append(b, body[:own[0]]...), o)
		}
	}
	if s == broken {
		return r.addBoth(append(b, body...), o)
	}
	// A ragged row gets the cells of new columns alone: others could make its number of cells
	// right by accident. Its problem is in the results file.
	return r.addMissing(append(b, body...), o)
}

// replace appends a regular record. Its cells of the two columns, if it has them, are replaced.
func (r *rejects) replace(b, body []byte, o *ledger.Outcome) []byte {
	start := 0
	for i, end := range r.ends {
		if i > 0 {
			b = append(b, r.delim)
		}
		switch i {
		case r.code:
			b = r.appendCode(b, o)
		case r.detail:
			b = r.appendDetail(b, o)
		default:
			b = append(b, body[start:end]...)
		}
		start = end + 1
	}
	return b
}

// addMissing appends the cells of those of the two columns that the bill file lacks.
func (r *rejects) addMissing(b []byte, o *ledger.Outcome) []byte {
	if r.code < 0 {
		b = r.appendCode(append(b, r.delim), o)
	}
	if r.detail < 0 {
		b = r.appendDetail(append(b, r.delim), o)
	}
	return b
}

// addBoth appends the two cells.
func (r *rejects) addBoth(b []byte, o *ledger.Outcome) []byte {
	b = r.appendCode(append(b, r.delim), o)
	return r.appendDetail(append(b, r.delim), o)
}

// appendCode appends the error_code: the code of the row, or its status if it has no code.
func (r *rejects) appendCode(b []byte, o *ledger.Outcome) []byte {
	code := cmp.Or(o.Code, string(o.Status))
	if strings.Trim(code, codeLetters) != "" {
		return r.appendQuoted(b, code)
	}
	return append(b, code...)
}

// advice is the error_detail of a row whose outcome has no detail.
var advice = map[ledger.Status]string{
	ledger.Conflict: "a bill with this reference exists with other content",
	ledger.Rejected: "the billing API refused this row",
	ledger.Failed:   "not created: the attempts were used up; retry the file, or deliver the row again",
	ledger.Unknown:  "sent without an answer: it is not known whether the bill exists; retry the file to find out",
	ledger.NotSent:  "nothing wrong with this row: not sent because other rows of the file are invalid",
}

// appendDetail appends the error_detail, quoted.
func (r *rejects) appendDetail(b []byte, o *ledger.Outcome) []byte {
	return r.appendQuoted(b, cmp.Or(o.Detail, advice[o.Status]))
}

// appendQuoted appends s as a quoted cell without line breaks, without characters that the
// file's encoding lacks, and without a quote or delimiter at its beginning.
func (r *rejects) appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	if s == "" || s[0] == '"' || s[0] == r.delim {
		b = append(b, ' ')
	}
	latin := r.layout.Encoding == "windows-1252"
	start := len(b)
	for _, c := range Visible(s) {
		if latin {
			if _, ok := charmap.Windows1252.EncodeRune(c); !ok {
				c = '?'
			}
		}
		if len(b)-start > maxDetail {
			b = append(b, "... (see the results file)"...)
			break
		}
		if c == '"' {
			b = append(b, '"')
		}
		b = utf8.AppendRune(b, c)
	}
	return append(b, '"')
}

// cellEnds appends to ends the end of each cell of a record, by its quotes and delimiters.
func cellEnds(ends []int, body []byte, delim byte) []int {
	quoted := false
	for i, c := range body {
		if c == '"' {
			quoted = !quoted
		}
		if c == delim && !quoted {
			ends = append(ends, i)
		}
	}
	return append(ends, len(body))
}
