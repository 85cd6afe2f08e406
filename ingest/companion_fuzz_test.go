package ingest

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzCompanion: whatever a companion holds, it is read or refused in few words of ours, without
// control characters.
func FuzzCompanion(f *testing.F) {
	for _, s := range []string{"", sha256Hex("abc") + "  a.csv\n", "SHA256 (a.csv) = " + sha256Hex("abc"), `{"rows": 3, "amounts": {"ZAR": 1}}`,
		`{"amounts": {"\u001b]0;x\u0007": 1}}`, "\xff\xfe{\x00}\x00", "\ufeff{}", "{\"rows\": 1e999}"} {
		f.Add([]byte(s), "a.csv")
	}
	f.Fuzz(func(t *testing.T, companion []byte, name string) {
		sum, err := readChecksum(name, companion)
		checkWords(t, sum, err)
		if err == nil && len(sum) != 64 {
			t.Errorf("a checksum of %d characters: %q", len(sum), sum)
		}
		if wrong := ChecksumMismatch("a.csv", sha256Hex("abc"), companion); wrong != nil && (len(wrong.Detail) > 1_000 || unclean(wrong.Detail)) {
			t.Errorf("detail %q", wrong.Detail)
		}
		c, err := readControl(companion)
		checkWords(t, "", err)
		if err != nil {
			return
		}
		for _, wrong := range c.mismatches(3, map[string]int64{"ZAR": 1}) {
			if unclean(wrong) || len(wrong) > 200 {
				t.Errorf("mismatch %q", wrong)
			}
		}
	})
}

func checkWords(t *testing.T, text string, err error) {
	t.Helper()
	if err != nil {
		text = err.Error()
	}
	if len(text) > 300 || unclean(text) {
		t.Errorf("text %q", text)
	}
}

func unclean(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf) {
			return true
		}
	}
	return false
}
