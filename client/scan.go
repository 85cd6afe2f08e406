package client

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// readBill is json.Unmarshal into v, for the answer that every row gets. What is plain is read in one pass; whatever is not
// (escapes, null, capitals in names, odd numbers, any fault) is encoding/json's to judge, from the start.
func readBill(body []byte, v *Bill) error {
	s := scanner{b: body}
	if s.bill(v) && s.end() {
		return nil
	}
	*v = Bill{}
	return json.Unmarshal(body, v)
}

// bill reads a bill, as far as it is plain.
func (s *scanner) bill(v *Bill) bool {
	return s.members(func(name []byte) bool {
		var into *string
		switch string(name) {
		case "id":
			into = &v.ID
		case "external_reference":
			into = &v.ExternalReference
		case "customer_id":
			into = &v.CustomerID
		case "account_id":
			into = &v.AccountID
		case "status":
			into = &v.Status
		case "currency":
			into = &v.Currency
		case "bill_date":
			into = &v.BillDate
		case "due_date":
			into = &v.DueDate
		case "amount_due":
			digits, ok := s.integer()
			if !ok {
				return false
			}
			n, err := strconv.ParseInt(string(digits), 10, 64)
			v.AmountDue = n
			return err == nil
		default:
			// encoding/json takes "ID" for "id".
			return !bytes.ContainsFunc(name, func(r rune) bool { return 'A' <= r && r <= 'Z' || r >= utf8.RuneSelf }) && s.skip(maxPlainNesting)
		}
		value, ok := s.text()
		*into = string(value)
		return ok
	})
}

// maxPlainNesting is how deep a value may nest to be plain.
const maxPlainNesting = 8

// scanner reads JSON, and stops at whatever is not plain. Each method begins at the next token and reports whether it could
// be read; all that it takes is valid JSON, and means to encoding/json what it says.
type scanner struct {
	b []byte
	i int
}

// next is the next byte that is no space; 0 at the end.
func (s *scanner) next() byte {
	for ; s.i < len(s.b); s.i++ {
		if c := s.b[s.i]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
	}
	return 0
}

func (s *scanner) end() bool { return s.next() == 0 && s.i == len(s.b) }

// take reads one byte, if it is the next.
func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.i++
	return true
}

// text reads a string without escapes, and gives what is between its quotes.
func (s *scanner) text() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	start, ascii := s.i, true
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			text := s.b[start:s.i]
			s.i++
			return text, ascii || utf8.Valid(text)
		case c == '\\' || c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// integer reads digits, perhaps after a minus sign. What follows them is not looked at.
func (s *scanner) integer() ([]byte, bool) {
	s.next()
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	digits := s.digits()
	return s.b[start:s.i], len(digits) == 1 || len(digits) > 1 && digits[0] != '0'
}

func (s *scanner) digits() []byte {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.b[start:s.i]
}

// members reads an object; each reads the value of a member.
func (s *scanner) members(each func(name []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	return s.list('}', func() bool {
		name, ok := s.text()
		return ok && s.take(':') && each(name)
	})
}

// list reads what is separated by commas, up to end.
func (s *scanner) list(end byte, item func() bool) bool {
	if s.take(end) {
		return true
	}
	for {
		if !item() {
			return false
		}
		if s.take(end) {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

// skip reads any value that nests at most depth deep.
func (s *scanner) skip(depth int) bool {
	if depth == 0 {
		return false
	}
	switch s.next() {
	case '"':
		_, ok := s.text()
		return ok
	case '{':
		return s.members(func([]byte) bool { return s.skip(depth - 1) })
	case '[':
		s.take('[')
		return s.list(']', func() bool { return s.skip(depth - 1) })
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	if _, ok := s.integer(); !ok {
		return false
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		return len(s.digits()) > 0
	}
	return true
}

func (s *scanner) word(w string) bool {
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return false
	}
	s.i += len(w)
	return true
}
