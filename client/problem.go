package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxTitle  = 200      // bytes of a title that are kept
	maxDetail = 500      // bytes of a detail that are kept
	maxText   = 16 << 10 // bytes of a problem's texts that are classified
	// maxNesting is how deep the texts of a problem's extension members are looked for.
	maxNesting = 4

	minRetryAfter = time.Second
	maxRetryAfter = 15 * time.Minute
)

// textMembers are the members in which APIs put what went wrong: those of RFC 9457,
// section 3.1, and usual extensions. Others are ignored, above all instance and echoes of
// the request.
var textMembers = [...]string{"type", "title", "detail", "code", "error", "errors", "message", "messages", "reason",
	"violations", "invalid_params", "invalid-params", "invalidParams"}

// readProblem makes a Problem of any error body. Strings are bounded and cleaned, members
// of another type are ignored (RFC 9457, section 3.1), and Status is that of HTTP. The
// text is everything that the body says, in lower case. It is for classification only: it
// is not cleaned, and must not be shown.
func readProblem(status int, body []byte, clean cleaner) (p Problem, text string) {
	p.Status = status
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err == nil {
		p.Type = clean(textOf(members["type"]), maxTitle)
		p.Title = clean(textOf(members["title"]), maxTitle)
		p.Detail = clean(textOf(members["detail"]), maxDetail)
		var b strings.Builder
		for _, name := range textMembers {
			collect(&b, members[name], maxNesting)
		}
		text = b.String()
	} else {
		text = string(body[:min(len(body), maxText)])
	}
	if p.Title == "" {
		p.Title = http.StatusText(status)
	}
	if p.Title == "" {
		p.Title = fmt.Sprintf("status %d", status)
	}
	return p, strings.ToLower(text)
}

// textOf returns the string that raw holds, or "" if it is not a string.
func textOf(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// collect appends the texts in raw: a string, the strings of a list, and those of an
// object's textMembers.
func collect(b *strings.Builder, raw json.RawMessage, depth int) {
	if len(raw) == 0 || depth == 0 || b.Len() >= maxText {
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
			// In {"errors": {"external_reference": ["has already been taken"]}} texts are
			// under field names.
			if slices.Contains(textMembers[:], name) || (len(value) > 0 && value[0] == '[') {
				collect(b, value, depth-1)
			}
		}
	}
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3), in seconds or as a date, and
// clamps it to 1 s…15 min. It returns 0 when there is none or it cannot be read. A date
// is compared with the answer's own Date, so that a wrong clock does no harm.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > math.MaxInt64/int64(time.Second) {
			return maxRetryAfter // what overflows is above the limit
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
