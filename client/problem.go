package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxTitle  = 200 // bytes
	maxDetail = 500 // bytes
	// maxSaid is how much text of a problem is listened to, in bytes.
	maxSaid = 16 << 10
	// maxNesting is how deep the texts of a problem's extension members are looked for.
	maxNesting = 4

	minRetryAfter = time.Second
	maxRetryAfter = 15 * time.Minute
)

// sayings are the members in which APIs put what went wrong: those of RFC 9457, and the usual extensions. Others,
// instance and echoes of the request above all, are not listened to.
var sayings = [...]string{"type", "title", "detail", "code", "error", "errors", "message", "messages", "reason",
	"violations", "invalid_params", "invalid-params", "invalidParams"}

// readProblem makes a Problem of an error body, whatever it is: strings bounded and cleaned, members of a wrong
// type passed over, Status the one of HTTP. Said is everything that the body says, in lower case, for
// classification only: it is not cleaned, and is never shown.
func readProblem(status int, body []byte) (p Problem, said string) {
	p.Status = status
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err == nil {
		p.Type = clean(withoutKeys(textOf(members["type"])), maxTitle)
		p.Title = clean(withoutKeys(textOf(members["title"])), maxTitle)
		p.Detail = clean(withoutKeys(textOf(members["detail"])), maxDetail)
		var b strings.Builder
		for _, name := range sayings {
			collect(&b, members[name], maxNesting)
		}
		said = b.String()
	} else {
		said = string(body[:min(len(body), maxSaid)])
	}
	if p.Title == "" {
		p.Title = http.StatusText(status)
	}
	if p.Title == "" {
		p.Title = fmt.Sprintf("status %d", status)
	}
	return p, strings.ToLower(said)
}

var (
	// aKey is what a key of the API looks like: after its prefix, all that ParseKey takes.
	aKey = regexp.MustCompile(`\b[sp]k_[!-~]+`)
	// halfSaid is the end of a text that was cut off: the last word, of which part may be gone, and the parts of a number
	// before it, as people space phone numbers out.
	halfSaid = regexp.MustCompile(`(?:^| )(?:[+0-9()./-]+ +)*[^ ]*$`)
)

// withoutKeys takes keys out of a text: an API may quote the one that it refuses, and problems are shown.
func withoutKeys(s string) string { return aKey.ReplaceAllLiteralString(s, "[key]") }

// textOf is raw as a string, "" when it is none.
func textOf(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// collect appends the texts in raw: a string, the strings of a list, and of an object those under a sayings name.
func collect(b *strings.Builder, raw json.RawMessage, depth int) {
	if len(raw) == 0 || depth == 0 || b.Len() >= maxSaid {
		return
	}
	switch raw[0] {
	case '"':
		b.WriteString(textOf(raw))
		b.WriteByte('\n')
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) == nil {
			for _, item := range list {
				collect(b, item, depth-1)
			}
		}
	case '{':
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(members)) {
			value := members[name]
			// {"errors": {"external_reference": ["has already been taken"]}} has its texts under field names.
			if slices.Contains(sayings[:], name) || (len(value) > 0 && value[0] == '[') {
				collect(b, value, depth-1)
			}
		}
	}
}

// clean is s as one line of valid UTF-8 of at most limit bytes, cut between words: half a name would not be found by who
// looks for the whole of it, to take it out. Control and format characters (bidirectional overrides, zero-width) are gone,
// for the text ends up on terminals and in reports.
func clean(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp):
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			return strings.TrimSpace(halfSaid.ReplaceAllLiteralString(b.String(), ""))
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// retryAfter reads Retry-After, in seconds or as an HTTP date, clamped to 1 s…15 min; 0 when it is not there or cannot be
// read. A date is taken against the answer's own Date, so that a clock that is off does no harm.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > math.MaxInt64/int64(time.Second) {
			return maxRetryAfter // more than fits is more than the limit
		}
		return clampRetry(time.Duration(seconds) * time.Second)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return clampRetry(at.Sub(now))
}

func clampRetry(d time.Duration) time.Duration { return min(max(d, minRetryAfter), maxRetryAfter) }
