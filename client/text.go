package client

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// minSecret is the fewest characters that a key without its prefix must have to be looked
// for in texts. A shorter one would tear words apart, and is not a secret.
const minSecret = 8

// maskedKey stands for a key that was taken out of a text.
const maskedKey = "[key]"

var (
	// keyPattern matches what looks like a key of the API: after its prefix, all that
	// ParseKey accepts.
	keyPattern = regexp.MustCompile(`\b[sp]k_[!-~]+`)
	// lastWord matches the end of a text that was cut off: the last word, of which part
	// may be missing, and the parts of a number before it, because people write phone
	// numbers with spaces.
	lastWord = regexp.MustCompile(`(?:^| )(?:[+0-9()./-]+ +)*[^ ]*$`)
)

// cleaner makes a text of the API fit to be shown: as cleanText does, and without keys.
type cleaner func(text string, limit int) string

// newCleaner returns a cleaner that also finds the client's own key where it stands without
// its prefix, in any letter case. An API may quote the key that it refuses. The text is
// cleaned first, because invisible characters could break a key up.
func newCleaner(own Key) cleaner {
	secret := strings.TrimPrefix(strings.TrimPrefix(string(own), testPrefix), secretPrefix)
	patterns := []*regexp.Regexp{keyPattern}
	if len(secret) >= minSecret {
		patterns = append(patterns, regexp.MustCompile(`(?i)`+regexp.QuoteMeta(secret)))
	}
	return func(text string, limit int) string {
		text = cleanText(text, limit)
		if len(text) < len(secret) && !strings.Contains(text, "k_") {
			return text // as all the words of a bill: too short for the key, and without a prefix of one
		}
		for _, p := range patterns {
			text = p.ReplaceAllLiteralString(text, maskedKey)
		}
		return cleanText(text, limit) // a mask may be longer than what it stands for
	}
}

// cleanText returns s as one line of valid UTF-8 of at most limit bytes. It cuts between
// words, because code that redacts names could not find half of one. It drops control,
// format and other invisible characters (bidirectional overrides, zero-width), because the
// text is shown on terminals and in reports.
func cleanText(s string, limit int) string {
	if len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return strings.TrimSpace(s)
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp,
			unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			return strings.TrimSpace(lastWord.ReplaceAllLiteralString(b.String(), ""))
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
