package billfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Layout is how one file is written, as found from its beginning.
type Layout struct {
	Encoding    string   // utf-8, utf-16le, utf-16be or windows-1252
	BOM         bool     // the file begins with a byte order mark
	Delimiter   rune     // one of , ; tab |
	Header      []byte   // the header's bytes in UTF-8, any sep= line and the line ends included, without byte order mark
	HeaderLines int      // physical lines in Header
	Columns     []string // header names as the file spells them, without surrounding space
	columns     []column
}

// delimiters are the ones that a file may have.
var delimiters = [...]rune{',', ';', '\t', '|'}

// readHeader cuts the header off the front of s, chooses the delimiter, and maps the columns. Where
// that fails although a line further down is a header, the error says which.
func readHeader(s *splitter, f Format) (Layout, error) {
	l, err := s.header(f)
	bad, ok := errors.AsType[*FileError](err)
	if ok && slices.Contains([]string{CodeNoHeader, CodeMissingColumn, CodeUnknownColumn}, bad.Code) {
		if detail := s.headerHint(f); detail != "" {
			return l, &FileError{Code: bad.Code, Line: bad.Line, Detail: detail}
		}
	}
	return l, err
}

// headerSearch is how many lines are looked at to find a header that is not on line 1.
const headerSearch = 50

// headerHint says what is wrong with the beginning of a file whose first line is not a header that
// can be read: the header stands further down, or its line is in quotation marks as a whole. It
// returns "" where neither is so.
func (s *splitter) headerHint(f Format) string {
	n, first := 0, 0
	for line := range bytes.Lines(s.rest) {
		if n++; n > headerSearch || len(line) > maxRow {
			break
		}
		text := strings.TrimSpace(string(line))
		known := knownNames(text, f)
		if n == 1 {
			first = known
			whole := len(text) > 2 && text[0] == '"' && text[len(text)-1] == '"' && strings.IndexByte(text[1:len(text)-1], '"') < 0
			if whole && knownNames(text[1:len(text)-1], f) >= 2 {
				return "line 1 is in quotation marks as a whole, so it is one column: take the quotation marks away from the ends of all lines, or export the file again"
			}
			continue
		}
		if known >= 2 && known > first {
			return "the column names are not on line 1 but on " + lineText(n) + ": remove the lines above them"
		}
	}
	return ""
}

// knownNames is how many names a line has that are columns of a bill file, by the delimiter that
// shows the most. Spaces and hyphens in the place of underscores do not count.
func knownNames(line string, f Format) int {
	most := 0
	for _, d := range delimiters {
		n := 0
		for name := range strings.SplitSeq(line, string(d)) {
			name = strings.Trim(name, `" `)
			if c, ok := f.lookUp(name); ok && c.field != ignored {
				n++
			} else if c, ok := f.lookUp(underscored(name)); ok && c.field != ignored {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// header is readHeader without the search for what the error is about.
func (s *splitter) header(f Format) (Layout, error) {
	var l Layout
	first, _, err := s.headLine(0)
	if err != nil {
		return l, err
	}
	if hasLoneReturn(first) {
		return l, badLineEnds(1)
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
	var wide error
	for _, d := range candidates {
		h, err := s.head(start, l.HeaderLines, byte(d), f)
		if err != nil {
			return l, err
		}
		if best.delim == 0 || h.better(best) {
			best = h
		}
		if h.wide != nil {
			wide = h.wide
		}
	}
	if wide != nil && best.known == 0 {
		return l, wide
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
	if own := ownReport(l.Columns, l.HeaderLines); own != nil {
		return l, own
	}
	if l.columns, err = mapColumns(best.names, l.HeaderLines, f); err != nil {
		return l, err
	}
	s.rest = append(s.rest[:0], s.rest[best.end:]...)
	s.delim = best.delim
	s.line = l.HeaderLines
	return l, nil
}

// headLine returns the line that begins at from. It reads as much as that takes.
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

// headRecord is the header as split by one delimiter.
type headRecord struct {
	delim byte
	names []string
	end   int // in rest
	span  int
	known int   // names that go to a field
	err   error // why it cannot be read so
	wide  error // it has too many columns
}

// better prefers a readable header, then more known names, then more columns.
func (h headRecord) better(than headRecord) bool {
	switch {
	case (h.err == nil) != (than.err == nil):
		return h.err == nil
	case h.known != than.known:
		return h.known > than.known
	}
	return len(h.names) > len(than.names)
}

// head reads the header record with a delimiter. Its error is one that no other delimiter
// could avoid.
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
			return noHeader("is longer than " + strconv.Itoa(maxRow>>10) + " KiB, so it is not a header")
		case !whole && len(line) == 0 && h.span == 1:
			return noHeader("is missing")
		case !whole && q.open():
			h.err = neverClosed("a column name", q.opened)
			return h, nil
		case !whole && !s.allowCut:
			return h, &FileError{Code: CodeTruncated, Line: lines + h.span, Detail: lineText(lines+h.span) + ", the header, has no line end, so the upload seems to be cut off: send the whole file again"}
		}
		if !q.open() {
			break
		}
	}
	text := s.rest[start:h.end]
	if len(bytes.TrimSpace(text)) == 0 {
		return noHeader("is blank")
	}
	if most := f.maxColumns(); q.delims >= most {
		h.wide = &FileError{Code: CodeTooManyColumns, Line: lines + 1, Detail: lineText(lines+1) + " has " + strconv.Itoa(q.delims+1) + " columns, more than the " + strconv.Itoa(most) + " that max_columns allows: leave out columns that are not needed, or raise the limit"}
		h.err = h.wide
		return h, nil
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma = rune(delim)
	names, err := r.Read()
	if err != nil {
		h.err = &FileError{Code: CodeNoHeader, Line: lines + 1, Detail: "the column names on " + lineText(lines+1) + " have a misplaced quotation mark: put quotation marks around whole names only"}
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
	return 0, false, &FileError{Code: CodeNoHeader, Line: 1, Detail: "line 1 sets a delimiter that is not one of , ; tab |: save the file with one of these"}
}

// CodeOwnReport refuses a file that is a report of billdrop's.
const CodeOwnReport = "own_report"

// ownHeaders are the columns with which reports begin. Later versions may add some at the end.
// A rejects file has the columns of its bill file, so it is known by its content alone.
var ownHeaders = []struct{ report, columns string }{
	{"a results file", "line,bill_reference,status,code,detail,bill_id,customer_id,account_id,currency,amount_due,attempts,idempotency_key"},
	{"a verify file", "line,bill_reference,bill_id,finding,detail,bill_status,amount_due,amount_paid,amount_remaining"},
	{"a payments file", "received_at,event_id,type,payment_id,obligation_id,currency,amount,matched_by,bill_reference,bill_id,account_id,customer_id," +
		"bill_status,bill_amount_due,bill_amount_paid,bill_amount_remaining"},
}

// ownReport returns the refusal of a file with the header of a report; nil if it has another.
func ownReport(columns []string, line int) *FileError {
	header := strings.ToLower(strings.Join(columns, ","))
	for _, own := range ownHeaders {
		if rest, ok := strings.CutPrefix(header, own.columns); ok && (rest == "" || rest[0] == ',') {
			return &FileError{Code: CodeOwnReport, Line: line, Detail: "the file is " + own.report +
				" that billdrop wrote, not a bill file: deliver the bill file; rows to correct are in its rejects file"}
		}
	}
	return nil
}

// OwnReport returns the refusal of a file that begins with the header of a report, in any usual
// encoding and with any delimiter; nil if it does not. It reads the beginning of the file alone.
func OwnReport(r io.Reader) (*FileError, error) {
	b := make([]byte, 4096)
	n, err := io.ReadFull(r, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	// The headers are ASCII: without its marks and zeros, UTF-16 is the same.
	b = bytes.TrimPrefix(b[:n], []byte("\xef\xbb\xbf"))
	b = bytes.TrimLeft(b, "\xff\xfe")
	text := strings.ReplaceAll(string(b), "\x00", "")
	lines := strings.SplitN(text, "\n", 3)
	for i, line := range lines[:min(2, len(lines))] {
		for _, d := range delimiters {
			columns := strings.Split(strings.TrimSuffix(line, "\r"), string(d))
			for c := range columns {
				columns[c] = trimName(strings.Trim(columns[c], `"`))
			}
			if own := ownReport(columns, i+1); own != nil {
				return own, nil
			}
		}
	}
	return nil, nil
}
