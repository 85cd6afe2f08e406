package postgres

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"billdrop/ingest/ledger"
)

// A text of PostgreSQL is valid UTF-8 without a NUL. File names of a server need not be: what
// cannot be stored is escaped, byte by byte, as the characters U+E000 to U+E0FF, which have no
// meaning. Where these stand themselves, their bytes are escaped too, so that every string
// comes back.
const (
	escapes = 0xE000
	// escapeLead is the first byte of every escape.
	escapeLead = 0xEE
)

// stored is how a string is stored.
func stored(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] == 0 || s[i] >= utf8.RuneSelf {
			return escaped(s)
		}
	}
	return s
}

func escaped(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 && strings.IndexByte(s, escapeLead) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == 0 || r == utf8.RuneError && n == 1 || isEscape(r) {
			for i := range n {
				b.WriteRune(escapes + rune(s[i]))
			}
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func isEscape(r rune) bool { return r >= escapes && r <= escapes+0xFF }

// read is the inverse of stored.
func read(s string) string {
	if strings.IndexByte(s, escapeLead) >= 0 {
		return unescaped(s)
	}
	return s
}

func unescaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if isEscape(r) {
			b.WriteByte(byte(r - escapes))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// allStored is stored, of each string.
func allStored(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = stored(s)
	}
	return out
}

// given are rows that a statement takes, each with its values in the order of the statement's
// columns, and with strings that are not escaped yet.
type given [][]any

func (g *given) add(values []any) { *g = append(*g, values) }

// args returns the columns of the rows as arrays, for unnest, and then what else the statement
// takes. There is a row at least.
func (g given) args(more ...any) []any {
	args := make([]any, len(g[0]), len(g[0])+len(more))
	for i := range args {
		args[i] = column{g, i}
	}
	return append(args, more...)
}

// column is one of the columns of rows, as an array of pgx. It reads the rows where they are,
// which costs less than a copy.
type column struct {
	rows given
	no   int
}

func (c column) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(c.rows)), LowerBound: 1}}
}

func (c column) Index(i int) any {
	v := c.rows[i][c.no]
	if text, ok := v.(string); ok && stored(text) != text {
		return stored(text)
	}
	return v
}

func (c column) IndexType() any { return nil }

// micros is how a time of the ledger is stored: microseconds since 1970 UTC, NULL for the zero
// time.
func micros(t time.Time) pgtype.Int8 {
	if t.IsZero() {
		return pgtype.Int8{}
	}
	return pgtype.Int8{Int64: t.UnixMicro(), Valid: true}
}

// tableRow is a row of a result.
type tableRow struct{ pgx.Row }

// Scan is that of pgx, and the inverse of how strings, times and digests are stored.
func (r tableRow) Scan(into ...any) error {
	for i, v := range into {
		switch v := v.(type) {
		case *string:
			into[i] = (*storedText)(v)
		case *time.Time:
			into[i] = (*storedTime)(v)
		case *ledger.Digest:
			into[i] = (*storedDigest)(v)
		}
	}
	return r.Row.Scan(into...)
}

// What pgx scans into. NULL is the zero value.
type (
	storedText   string
	storedTime   time.Time
	storedDigest ledger.Digest
	serverTime   time.Time // of the server's clock, which is not stored as micros
)

func (t *storedText) ScanText(v pgtype.Text) error {
	*t = storedText(read(v.String))
	return nil
}

func (t *storedTime) ScanInt64(v pgtype.Int8) error {
	*t = storedTime{}
	if v.Valid {
		*t = storedTime(time.UnixMicro(v.Int64).UTC())
	}
	return nil
}

func (d *storedDigest) ScanBytes(b []byte) error {
	*d = storedDigest{}
	copy(d[:], b)
	return nil
}

func (t *serverTime) ScanTimestamptz(v pgtype.Timestamptz) error {
	*t = serverTime(v.Time.UTC())
	return nil
}
