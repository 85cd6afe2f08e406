package client

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EncodeBill returns the body of POST /billing/bills for r: compact JSON, members in a
// fixed order, metadata sorted by key, no HTML escaping and no line end. Equal requests
// give equal bytes.
//
// It is written by hand because those bytes must outlive releases of Go. An idempotency
// key stands for one body: the API refuses a key that comes with other bytes. After a
// crash the body is built again, perhaps by another version of billdrop, and sent under
// the key of the first. encoding/json promises valid JSON, not the same JSON for ever. A
// test pins the bytes, and another compares them with those of encoding/json.
func EncodeBill(r BillRequest) []byte {
	var buf [1024]byte // most bills fit, and then the clone is the only allocation
	return bytes.Clone(appendBill(buf[:0], &r))
}

func appendBill(b []byte, r *BillRequest) []byte {
	b = appendText(append(b, `{"external_reference":`...), r.ExternalReference)
	b = appendText(append(b, `,"currency":`...), r.Currency)
	b = strconv.AppendInt(append(b, `,"amount_due":`...), r.AmountDue, 10)
	b = appendGiven(b, `,"bill_date":`, r.BillDate)
	b = appendGiven(b, `,"due_date":`, r.DueDate)
	if a := r.Account; a != nil {
		b = append(b, `,"account":`...)
		if a.New != nil {
			b = appendAccount(b, a.New)
		} else {
			b = appendText(b, a.ID)
		}
	}
	b = appendCustomerRef(b, r.Customer)
	b = appendMetadata(b, r.Metadata)
	return append(b, '}')
}

// appendAccount appends a new account. It has no id yet, and members of answers are left
// out.
func appendAccount(b []byte, a *Account) []byte {
	b = appendText(append(b, `{"external_reference":`...), a.ExternalReference)
	b = appendGiven(b, `,"name":`, a.Name)
	b = appendCustomerRef(b, a.Customer)
	return append(b, '}')
}

// appendCustomerRef appends the member customer, if there is one: an id as a string, or a
// new customer.
func appendCustomerRef(b []byte, c *CustomerRef) []byte {
	if c == nil {
		return b
	}
	b = append(b, `,"customer":`...)
	if c.New == nil {
		return appendText(b, c.ID)
	}
	b = append(b, '{')
	if c.New.ID != "" {
		b = append(appendText(append(b, `"id":`...), c.New.ID), ',')
	}
	b = appendText(append(b, `"external_reference":`...), c.New.ExternalReference)
	b = appendGiven(b, `,"name":`, c.New.Name)
	b = appendGiven(b, `,"email":`, c.New.Email)
	b = appendGiven(b, `,"phone":`, c.New.Phone)
	return append(b, '}')
}

// appendMetadata appends the member metadata, if there is any, sorted by key.
func appendMetadata(b []byte, m map[string]string) []byte {
	if len(m) == 0 {
		return b
	}
	keys := make([]string, 0, 20) // the most that a bill may have
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	b = append(b, `,"metadata":`...)
	sep := byte('{')
	for _, key := range keys {
		b = appendText(append(b, sep), key)
		b = appendText(append(b, ':'), m[key])
		sep = ','
	}
	return append(b, '}')
}

// appendGiven appends a member that is left out when it is empty. The name comes with its
// comma, quotes and colon.
func appendGiven(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

// appendText appends s as a JSON string. encoding/json writes the rare one that needs an
// escape.
func appendText(b []byte, s string) []byte {
	if verbatim(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	quoted, err := encode(s)
	if err != nil {
		panic("client: encode string: " + err.Error()) // cannot happen: every string has a JSON form
	}
	return append(b, quoted...)
}

// verbatim reports whether encoding/json writes s as it is: valid UTF-8 without a quote,
// a backslash, a control character, or one of the line separators U+2028 and U+2029,
// which JavaScript did not accept.
func verbatim(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c == '"', c == '\\':
			return false
		case c >= utf8.RuneSelf:
			rest := s[i:]
			return utf8.ValidString(rest) && !strings.ContainsAny(rest, "\"\\\u2028\u2029") && !strings.ContainsFunc(rest, func(r rune) bool { return r < ' ' })
		}
	}
	return true
}
