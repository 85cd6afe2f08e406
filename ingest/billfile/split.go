package billfile

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

// quoting follows the quotation marks of RFC 4180 through the bytes of one record, in
// step with encoding/csv's strict mode. The end of a record is so known before it is
// parsed. The zero value is the start of a record.
type quoting struct {
	state  quoteState
	delims int // delimiters between cells so far
	size   int // bytes followed so far
	opened int // line on which the last quoted cell opened
}

type quoteState uint8

const (
	cellStart   quoteState = iota // before a cell's first byte
	plainCell                     // in a cell without quotation marks
	quotedCell                    // between a cell's quotation marks
	afterQuote                    // behind a quotation mark in a quoted cell: its end, or the first of two
	afterReturn                   // behind a quotation mark and a carriage return
	broken                        // behind a quotation mark where none may be: the rest of the line has no meaning
)

// follow takes the next bytes of the record: a line, or a part of one. line is its
// number.
func (q *quoting) follow(b []byte, delim byte, line int) {
	q.size += len(b)
	for len(b) > 0 {
		switch q.state {
		case cellStart:
			if b[0] == '"' {
				q.state, q.opened, b = quotedCell, line, b[1:]
				continue
			}
			q.state = plainCell
		case plainCell:
			cell := b
			i := bytes.IndexByte(b, delim)
			if i >= 0 {
				cell = b[:i]
			}
			if bytes.IndexByte(cell, '"') >= 0 {
				q.state = broken
				return
			}
			if i < 0 {
				return
			}
			q.state, b = cellStart, b[i+1:]
			q.delims++
		case quotedCell:
			i := bytes.IndexByte(b, '"')
			if i < 0 {
				return
			}
			q.state, b = afterQuote, b[i+1:]
		case afterQuote:
			switch b[0] {
			case '"':
				q.state = quotedCell
			case delim:
				q.state = cellStart
				q.delims++
			case '\r':
				q.state = afterReturn
			case '\n':
				return
			default:
				q.state = broken
				return
			}
			b = b[1:]
		case afterReturn:
			if b[0] != '\n' {
				q.state = broken
			}
			return
		case broken:
			return
		}
	}
}

// open reports, at the end of a line, whether the record goes on in the next line.
func (q *quoting) open() bool { return q.state == quotedCell }

// extent is the place of one record in a batch.
type extent struct {
	quoting
	off  int // of its bytes in the batch
	line int // on which it begins
	span int // lines
}

// large reports whether the record exceeds the row limit. Then its bytes are not kept.
func (e *extent) large() bool { return e.size > maxRow }

// of returns the record's bytes.
func (e *extent) of(batch []byte) []byte {
	if e.large() {
		return nil
	}
	return batch[e.off : e.off+e.size]
}

// splitter cuts text into records and blank lines without parsing cells. It holds one
// record at most besides the batch that it fills. It is not safe for concurrent use.
type splitter struct {
	src      io.Reader // valid UTF-8
	delim    byte
	allowCut bool
	maxRows  int    // 0 = no limit
	rest     []byte // read, not cut yet
	eof      bool
	line     int // lines cut so far
	blank    int // of them
	data     int // of them
	rows     int
}

// batchSize is how many bytes a batch holds; minRead is the least that one read asks for.
const (
	batchSize = 128 << 10
	minRead   = 4096
)

// readMore appends the result of one read. It sets eof at the end of the text.
func (s *splitter) readMore(b []byte, want int) ([]byte, error) {
	if cap(b)-len(b) < want {
		b = append(make([]byte, 0, len(b)+want+minRead), b...) // room for the short read that may follow
	}
	n, err := s.src.Read(b[len(b) : len(b)+want])
	b = b[:len(b)+n]
	if errors.Is(err, io.EOF) {
		s.eof = true
		return b, nil
	}
	return b, err
}

// next cuts the next records, with their bytes, into buf. It returns io.EOF if there are
// none left, and a *FileError for a quotation mark that is not closed, for an end that is
// cut off, and for lines that end with carriage returns.
func (s *splitter) next(buf []byte, records []extent) ([]byte, []extent, error) {
	buf, records = append(buf[:0], s.rest...), records[:0]
	s.rest = s.rest[:0]
	pos := 0
	for want := batchSize; ; {
		var err error
		for !s.eof && len(buf)-pos < want {
			if buf, err = s.readMore(buf, max(want-(len(buf)-pos), minRead)); err != nil {
				return buf, nil, err
			}
		}
		if pos, records, err = s.cut(buf, pos, records); err != nil {
			return buf, nil, err
		}
		switch {
		case s.eof && pos < len(buf):
			return s.last(buf, pos, records)
		case len(records) > 0:
			s.rest = append(s.rest[:0], buf[pos:]...)
			return buf[:pos], records, nil
		case s.eof:
			return buf, nil, io.EOF
		case len(buf)-pos > maxRow:
			records, err = s.skip(buf[pos:], records)
			return buf[:pos], records, err
		default: // blank lines only so far, and perhaps a record longer than what was read
			buf = buf[:copy(buf, buf[pos:])]
			pos = 0
			want = min(2*len(buf)+batchSize, maxRow+minRead)
		}
	}
}

// cut cuts all whole records of buf from pos on.
func (s *splitter) cut(buf []byte, pos int, records []extent) (int, []extent, error) {
	for pos < len(buf) {
		n := bytes.IndexByte(buf[pos:], '\n')
		if n < 0 {
			return pos, records, nil
		}
		end := pos + n + 1
		if s.isBlank(buf[pos:end]) {
			s.line++
			s.blank++
			pos = end
			continue
		}
		e := extent{off: pos, span: 1}
		if bytes.IndexByte(buf[pos:end], '"') < 0 {
			e.size = end - pos
		} else {
			e.follow(buf[pos:end], s.delim, s.line+1)
		}
		for e.open() {
			n := bytes.IndexByte(buf[end:], '\n')
			if n < 0 {
				return pos, records, nil
			}
			e.follow(buf[end:end+n+1], s.delim, s.line+e.span+1)
			end += n + 1
			e.span++
			if e.large() && e.open() {
				return pos, records, swallowed(e.opened)
			}
		}
		records = s.add(records, e)
		pos = end
	}
	return pos, records, nil
}

func (s *splitter) add(records []extent, e extent) []extent {
	e.line = s.line + 1
	s.line += e.span
	s.data += e.span
	s.rows++
	return append(records, e)
}

// isBlank reports whether a line holds nothing: only spaces and tabs, or cells that are all empty,
// with quotation marks or without.
func (s *splitter) isBlank(line []byte) bool {
	if c := line[0]; c > '"' && c < utf8.RuneSelf && c != s.delim {
		return false // by far the most
	}
	inside, closed := false, false // quotation marks of a cell
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == s.delim:
			if inside {
				return false
			}
			closed = false
		case c == ' ', c == '\t':
		case c == '\n', c == '\r':
			if inside {
				return false
			}
		case c == '"':
			if closed {
				return false
			}
			inside, closed = !inside, inside
		case c < utf8.RuneSelf:
			return false
		default:
			r, size := utf8.DecodeRune(line[i:])
			if !isSpace(r) {
				return false
			}
			i += size - 1
		}
	}
	return !inside
}

// last handles what stands behind the last line end.
func (s *splitter) last(buf []byte, pos int, records []extent) ([]byte, []extent, error) {
	text := buf[pos:]
	e := extent{off: pos}
	for line := range bytes.Lines(text) {
		e.span++
		e.follow(line, s.delim, s.line+e.span)
	}
	if err := s.mayEnd(&e, hasLoneReturn(text)); err != nil {
		return buf, nil, err
	}
	if s.isBlank(text) {
		s.line++
		s.blank++
		return buf, records, nil
	}
	return buf, s.add(records, e), nil
}

// mayEnd returns the error of a text that ends with a record without a line end; nil if
// it may.
func (s *splitter) mayEnd(e *extent, lone bool) error {
	at := s.line + e.span
	switch {
	case e.open():
		return neverClosed("a field", e.opened)
	case lone:
		return badLineEnds(s.line + 1)
	case !s.allowCut:
		return &FileError{Code: CodeTruncated, Line: at, Detail: lineText(at) + ", the last, has no line end, so the upload seems to be cut off: send the whole file again (or set require_final_newline: false if your files always end like this)"}
	}
	return nil
}

// skip reads to the end of a line that exceeds the row limit and keeps none of it. What
// follows is left in rest.
func (s *splitter) skip(text []byte, records []extent) ([]extent, error) {
	e := extent{span: 1}
	lone := false
	for chunk := slices.Clone(text); ; {
		for len(chunk) > 0 {
			n := bytes.IndexByte(chunk, '\n') + 1
			if n == 0 {
				lone = lone || hasLoneReturn(chunk)
				e.follow(chunk, s.delim, s.line+e.span)
				break
			}
			e.follow(chunk[:n], s.delim, s.line+e.span)
			chunk = chunk[n:]
			if !e.open() {
				s.rest = append(s.rest[:0], chunk...)
				return s.add(records, e), nil
			}
			if e.large() {
				return nil, swallowed(e.opened)
			}
			e.span++
		}
		if s.eof {
			s.rest = s.rest[:0]
			if err := s.mayEnd(&e, lone); err != nil {
				return nil, err
			}
			return s.add(records, e), nil
		}
		var err error
		if chunk, err = s.readMore(chunk[:0], 64<<10); err != nil {
			return nil, err
		}
	}
}

func neverClosed(what string, line int) error {
	return &FileError{Code: CodeUnbalancedQuote, Line: line, Detail: "the quotation mark that opens " + what + " on " + lineText(line) + " is never closed: close it, or remove it"}
}

func swallowed(line int) error {
	return &FileError{Code: CodeUnbalancedQuote, Line: line, Detail: "the quotation mark that opens a field on " + lineText(line) +
		" is not closed within " + strconv.Itoa(maxRow>>10) + " KiB, so the end of the row is unknown: close it, or remove it"}
}

// hasLoneReturn reports whether text has a carriage return without a line feed behind it,
// other than as its last byte. Quoted fields are no exception, because a carriage return
// in one may also be a line end.
func hasLoneReturn(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\r')
		if i < 0 || i+1 == len(text) {
			return false
		}
		if text = text[i+1:]; text[0] != '\n' {
			return true
		}
	}
}

func badLineEnds(line int) error {
	return &FileError{Code: CodeBadLineEnds, Line: line, Detail: lineText(line) + " has carriage returns without line feeds, as old Mac programs write them: save the file with CRLF or LF line ends"}
}
