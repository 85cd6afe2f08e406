package delivery

import (
	"regexp"
	"strings"
	"unicode"

	"billdrop/client"
	"billdrop/ingest/billfile"
)

// redacted stands for what was taken out of a text.
const redacted = "[withheld]"

var (
	anyMail = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)
	// anyPhone matches seven digits or more, grouped as people write them.
	anyPhone = regexp.MustCompile(`\+?\d(?:[ ()./-]*\d){6,}`)
)

// redact takes out of a text of the API what a row says about people, in whatever spelling: the
// API may quote what it was sent. References of bills, amounts and dates stay.
func redact(text string, b *billfile.Bill) string {
	if text == "" {
		return "" // as for every row of a clean run: what follows compiles expressions
	}
	text = anyMail.ReplaceAllString(text, redacted)
	if phone := digits(b.CustomerPhone); phone != "" {
		text = anyPhone.ReplaceAllStringFunc(text, func(found string) string {
			if d := digits(found); strings.HasSuffix(d, phone[max(0, len(phone)-7):]) {
				return redacted
			}
			return found
		})
	}
	// Billers use identity numbers as customer references.
	private := []string{b.CustomerName, b.AccountName, b.CustomerReference}
	for _, m := range b.Metadata {
		private = append(private, m.Value)
	}
	if local, _, ok := strings.Cut(b.CustomerEmail, "@"); ok {
		private = append(private, local)
	}
	for _, whole := range private {
		text = redactText(text, whole, 3)
	}
	for _, name := range private {
		for _, word := range strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			text = redactText(text, word, 4)
		}
	}
	return text
}

// redactPage takes out of the title of a gateway's page what the row says about people, before
// the title becomes a reason that is logged.
func (d *delivery) redactPage(a *client.Answer) {
	if a.Page != "" {
		a.Page = redact(a.Page, &d.bill)
	}
}

// redactText takes a private text out, in any letter case, if it has at least so many
// characters. A shorter one identifies no person, and would tear other words apart.
func redactText(text, private string, least int) string {
	if len([]rune(private)) < least {
		return text
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(private)).ReplaceAllLiteralString(text, redacted)
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}
