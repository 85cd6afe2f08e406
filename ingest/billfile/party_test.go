package billfile

import (
	"net/mail"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// isHost is isHostName, label by label.
func isHost(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(l, func(r rune) bool { return r != '-' && !unicode.In(r, unicode.Letter, unicode.Mark, unicode.Nd) }) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(labels) > 1 && len(s) <= 253 && len(last) > 1 && strings.Trim(last, "-0123456789") != ""
}

// isAddress and net/mail are of one mind on addresses without quoted parts and with a dotted
// domain.
func FuzzIsAddress(f *testing.F) {
	for _, s := range []string{
		"a@b.co", "a.b+c%d_e-f@g-h.i.jo", "-a@b.co", "a@-b.c", "a@1.2", ".a@b.c", "a.@b.c", "a@b..c", "@b.c", "a@b.c@d.e", "o'neil@b.c", "zoë@b.c", "a@bücher.de", "a@b", "a@[1.2]",
		"\"a\"@b.c", "a@ b.c", " a@b.c", "a@b.c ", "a b@c.d", "A <a@b.c>", "<a@b.c>", "a@b.c (x)", "(x)a@b.c", "a@b.c,d@e.f", "g:a@b.c;", "=?utf-8?q?a?=@b.c", "a@b.c\x7f", "a@b\u00a0.c", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return // no cell of a file that was read
		}
		addr, err := mail.ParseAddress(s)
		_, domain, _ := strings.Cut(s, "@")
		want := err == nil && addr.Address == s && addr.Name == "" && len(s)-len(domain) <= 65 && isHost(domain)
		if got := isAddress(s); got != want {
			t.Errorf("%q: got %v, the library says %v, %v", s, got, addr, err)
		}
	})
}
