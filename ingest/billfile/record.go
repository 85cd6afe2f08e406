package billfile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Bill is one validated row: what is to be raised. Strings are trimmed and normalised
// (phones E.164, dates YYYY-MM-DD, currency upper case); an absent field is "".
type Bill struct {
	Reference         string
	Currency          string // ISO 4217
	Amount            int64  // amount due, minor units of Currency
	BillDate          string // YYYY-MM-DD
	DueDate           string // YYYY-MM-DD
	AccountReference  string
	AccountID         string
	CustomerReference string
	CustomerID        string
	AccountName       string
	CustomerName      string
	CustomerEmail     string
	CustomerPhone     string // E.164
	Metadata          []Pair // in column order; empty values are left out
}

// text returns a text field of b.
func (b *Bill) text(f field) *string {
	return [fieldCount]*string{
		fieldReference: &b.Reference, fieldCurrency: &b.Currency, fieldBillDate: &b.BillDate, fieldDueDate: &b.DueDate,
		fieldAccountReference: &b.AccountReference, fieldAccountID: &b.AccountID,
		fieldCustomerReference: &b.CustomerReference, fieldCustomerID: &b.CustomerID,
		fieldAccountName: &b.AccountName, fieldCustomerName: &b.CustomerName,
		fieldCustomerEmail: &b.CustomerEmail, fieldCustomerPhone: &b.CustomerPhone,
	}[f]
}

// Pair is one metadata entry.
type Pair struct{ Key, Value string }

// Record is one record of a bill file: a bill, or the problems that it has.
type Record struct {
	Row  int // ordinal among the data records, from 1
	Line int // physical line on which it starts (the header's first line is 1)
	Span int // physical lines it covers, 1 or more
	// Raw holds the record's bytes with its line end, in UTF-8; Layout.Encoder gives the
	// file's own bytes back. It is valid until the next call of Next, or until visit
	// returns. It is empty if the record exceeds the row limit (row_too_large with
	// Column ""): such bytes are never held.
	Raw []byte
	// Size is the record's length in bytes of UTF-8, with its line end. It is len(Raw)
	// unless the record exceeds the row limit.
	Size int64
	// Bill holds what could be read. All of it can be relied on only if there are no
	// problems. Reference is the cell as read, at most 255 bytes of it, even if it is
	// invalid; it is blank if it could not be made from a template. Amount is 0 if it
	// could not be read.
	Bill     Bill
	Problems []Problem // in column order; empty: valid
}

// Problem is one thing wrong with one record. It is a value, never an error.
type Problem struct {
	Line   int
	Row    int
	Column string // header of the column as the file spells it; "" for the record as a whole
	Code   string // one of the row codes
	Detail string // what is wrong and what to do; never a name, mail address, phone number or metadata value
}

// CutLineEnd splits a record into its body and its line end: LF, CRLF or nothing.
func CutLineEnd(raw []byte) (body, end []byte) {
	n := len(raw)
	switch {
	case bytes.HasSuffix(raw, []byte("\r\n")):
		n -= 2
	case bytes.HasSuffix(raw, []byte("\n")):
		n--
	}
	return raw[:n], raw[n:]
}

// ContentDigest identifies what a row says. It is the SHA-256 of every field of b, each
// after its length, with metadata in the order of its keys, so that the order of columns
// does not matter. Idempotency keys rest on it: it must never change for the same
// content. It is safe for concurrent use, and b is not changed.
func ContentDigest(b *Bill) [32]byte {
	var space [768]byte
	text := append(space[:0], "billdrop bill 1\n"...)
	field := func(s string) {
		text = binary.BigEndian.AppendUint32(text, uint32(len(s)))
		text = append(text, s...)
	}
	field(b.Reference)
	field(b.Currency)
	text = binary.BigEndian.AppendUint64(text, uint64(b.Amount))
	for _, s := range [...]string{
		b.BillDate, b.DueDate,
		b.AccountReference, b.AccountID, b.CustomerReference, b.CustomerID,
		b.AccountName, b.CustomerName, b.CustomerEmail, b.CustomerPhone,
	} {
		field(s)
	}
	pairs := b.Metadata
	byKey := func(x, y Pair) int { return cmp.Compare(x.Key, y.Key) }
	if !slices.IsSortedFunc(pairs, byKey) {
		pairs = slices.Clone(pairs)
		slices.SortStableFunc(pairs, byKey)
	}
	text = binary.BigEndian.AppendUint32(text, uint32(len(pairs)))
	for _, p := range pairs {
		field(p.Key)
		field(p.Value)
	}
	return sha256.Sum256(text)
}
