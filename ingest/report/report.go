// Package report turns the ledger's record of a file into the biller's reports: the
// acknowledgement, the results of every row, the rejects (the rows to correct) and the summary.
//
// It is pure: it reads and writes what its caller passes, and has no clock, network or file of
// its own. The same inputs give the same bytes on every machine and after every restart, so a
// report that a crash cut short is written again whole. Results and rejects are streamed, in
// constant memory, from one walk over the bill file and its outcomes side by side. A walk that
// finds a difference between the two returns an error.
//
// Different reports may be made concurrently, but not with the same writers.
package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	hashDigits = 8   // of the SHA-256, in a stem
	maxStem    = 200 // bytes; file names have 255, of which a temporary name's ending needs some
)

// Names are the file names of one file's reports.
type Names struct {
	Ack     string
	Results string
	Rejects string
	Summary string
	Verify  string // of billdrop verify
}

// NamesOf returns the names that belong to a stem.
func NamesOf(stem string) Names {
	return Names{
		Ack:     stem + ".ack.json",
		Results: stem + ".results.csv",
		Rejects: stem + ".rejects.csv",
		Summary: stem + ".summary.json",
		Verify:  stem + ".verify.csv",
	}
}

// Stem returns the beginning of the names of a file's reports: NAME-HHHHHHHH, or
// NAME-HHHHHHHH-n for the n-th delivery of the same content (from 2; the first has no suffix).
// NAME is name without its last extension, HHHHHHHH the first 8 digits of sha256 (hex), or
// "unread" for a file without one, which was refused unread. A long
// NAME is cut between characters, so that the names of reports and their temporary names fit
// into 255 bytes.
func Stem(name, sha256 string, n int) string {
	base := name
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		base = name[:dot]
	}
	base = cmp.Or(strings.TrimLeft(base, "."), "file") // a leading dot would hide the reports
	tail := "-" + cmp.Or(strings.ToLower(sha256[:min(hashDigits, len(sha256))]), "unread")
	if n > 1 {
		tail += "-" + strconv.Itoa(n)
	}
	if room := maxStem - len(tail); len(base) > room {
		for room > 0 && !utf8.RuneStart(base[room]) {
			room--
		}
		base = base[:room]
	}
	return base + tail
}

// Timestamp is a time as reports write it: RFC 3339, UTC, milliseconds; null if zero. It is cut
// to milliseconds so that a time from memory and one from a ledger give the same bytes. It is read
// as any time.Time.
type Timestamp struct{ time.Time }

// At returns t as a Timestamp.
func At(t time.Time) Timestamp {
	if t.IsZero() {
		return Timestamp{}
	}
	return Timestamp{t.UTC().Truncate(time.Millisecond)}
}

const timestampLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON implements json.Marshaler.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(t.UTC().Format(`"` + timestampLayout + `"`)), nil
}

// Ack confirms to a biller that a file arrived. Its size and hash show whether it arrived whole.
type Ack struct {
	FileID     string    `json:"file_id"`
	File       string    `json:"file"`
	Size       int64     `json:"size"`   // bytes
	SHA256     string    `json:"sha256"` // hex; "" if not known yet
	ReceivedAt Timestamp `json:"received_at"`
}

// Bytes returns the acknowledgement as it is published: indented JSON with a final line end.
func (a Ack) Bytes() []byte { return encode(a) }

// encode returns v as indented JSON. It gets only types of this package, which always encode.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic("report: encode " + fmt.Sprintf("%T", v) + ": " + err.Error())
	}
	return b.Bytes()
}
