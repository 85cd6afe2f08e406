package client

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestReadProblem(t *testing.T) {
	long := strings.Repeat("é", 400)      // 800 bytes
	words := strings.Repeat("said ", 120) // 600 bytes
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   Problem
	}{
		{"a document", 422, `{"type":"u","title":"T","status":422,"detail":"D","instance":"/x","more":[1]}`, Problem{"u", "T", 422, "D"}},
		{"html", 502, "<html>CANARY</html>", Problem{"", "Bad Gateway", 502, ""}},
		{"nothing", 500, "", Problem{"", "Internal Server Error", 500, ""}},
		{"a string", 400, `"no"`, Problem{"", "Bad Request", 400, ""}},
		{"a list", 400, `[{"title":"x"}]`, Problem{"", "Bad Request", 400, ""}},
		{"null", 400, `null`, Problem{"", "Bad Request", 400, ""}},
		{"wrong types", 400, `{"type":1,"title":{"a":1},"status":"400","detail":["x"]}`, Problem{"", "Bad Request", 400, ""}},
		{"another status", 409, `{"title":"T","status":500}`, Problem{"", "T", 409, ""}},
		{"a status without a name", 499, `{}`, Problem{"", "status 499", 499, ""}},
		{"control characters", 400, `{"title":"a\u0000b\u001b[31m\r\nc\td","detail":"x\u202ey\u200bz\u2028w"}`, Problem{"", "ab[31m  c d", 400, "xyz w"}},
		{"bytes that are no text", 400, "{\"title\":\"a\xff\xfeb\"}", Problem{"", "a\uFFFD\uFFFDb", 400, ""}},
		{"too long", 400, `{"title":"é ` + words + `","detail":"` + words + `"}`, Problem{"", "é " + words[:194], 400, words[:499]}},
		{"too long, in a name", 400, `{"title":"` + words[:190] + `Qann Qanname"}`, Problem{"", words[:190] + "Qann", 400, ""}},
		{"too long, in a phone number", 400, `{"title":"` + words[:185] + `+27 (82) 555 0199"}`, Problem{"", words[:184], 400, ""}},
		{"too long, between words", 400, `{"title":"` + words[:195] + `abcde f"}`, Problem{"", words[:194], 400, ""}},
		{"as long as may be", 400, `{"title":"` + words[:195] + `abcde"}`, Problem{"", words[:195] + "abcde", 400, ""}},
		{"one word, and too long", 400, `{"title":"` + long + `","detail":"` + long + `"}`, Problem{"", "Bad Request", 400, ""}},
		{"keys", 401, `{"title":"sk_test_a","detail":"no: sk_live-A.b/c+d=e~; \"pk_1\" at risk_a"}`, Problem{"", "[key]", 401, `no: [key] "[key] at risk_a`}},
		{"keys that are broken up", 401, `{"title":"sk_te\u200bst_\ufeff\u00ada\u2060b\ufe0fc\u034fd","detail":"s\u202ek_x p\u0000k_y"}`, Problem{"", "[key]", 401, "[key] [key]"}},
		{"the own key, whole", 401, `{"title":"key sk_live_0Canary0 refused"}`, Problem{"", "key [key] refused", 401, ""}},
		{"the own key, without its prefix", 401, `{"title":"key=live_0Canary0, refused","detail":"LIVE_0CANARY0/live_0\u200bCana\u200dry0"}`,
			Problem{"", "key=[key], refused", 401, "[key]/[key]"}},
		{"a key at the end of a text that is cut", 401, `{"title":"` + words[:195] + `sk_live_0Canary0"}`, Problem{"", words[:194], 401, ""}},
	} {
		if got, _ := readProblem(tc.status, []byte(tc.body), newCleaner("sk_live_0Canary0")); got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

// TestShortKeysAreLeftAlone: what stands behind the prefix of a very short key is in too
// many words to be looked for.
func TestShortKeysAreLeftAlone(t *testing.T) {
	if got := newCleaner("sk_test_an")("an answer about an account", maxTitle); got != "an answer about an account" {
		t.Errorf("got %q", got)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, tc := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"7", "", 7 * time.Second},
		{" 7 ", "", 7 * time.Second},
		{"0", "", time.Second},
		{"900", "", 15 * time.Minute},
		{"901", "", 15 * time.Minute},
		{"9223372036", "", 15 * time.Minute},
		{"9223372037", "", 15 * time.Minute}, // overflows as nanoseconds
		{"9223372036854775808", "", 15 * time.Minute},
		{strings.Repeat("9", 500), "", 15 * time.Minute},
		{"-1", "", 0},
		{"+1", "", 0},
		{"1.5", "", 0},
		{"1e3", "", 0},
		{"soon", "", 0},
		{"2026-11-01T12:00:10Z", "", 0},
		{at(10 * time.Second), "", 10 * time.Second},
		{at(-time.Hour), "", time.Second},
		{at(time.Hour), "", 15 * time.Minute},
		{at(2 * time.Hour), at(2*time.Hour - 30*time.Second), 30 * time.Second}, // our clock is two hours off
		{at(10 * time.Second), "garbage", 10 * time.Second},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", 15 * time.Minute},
	} {
		h := http.Header{}
		if tc.value != "" {
			h.Set("Retry-After", tc.value)
		}
		if tc.date != "" {
			h.Set("Date", tc.date)
		}
		if got := retryAfter(h, now); got != tc.want {
			t.Errorf("Retry-After %q, Date %q: got %v, want %v", tc.value, tc.date, got, tc.want)
		}
	}
}
