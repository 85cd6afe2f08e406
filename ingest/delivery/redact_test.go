package delivery

import (
	"testing"

	"billdrop/ingest/billfile"
)

func TestRedact(t *testing.T) {
	b := &billfile.Bill{
		Reference: "INV-0821234567", CustomerName: "Zoë van der Merwe", AccountName: "Shop 12", CustomerEmail: "zoe.merwe@example.co.za",
		CustomerPhone: "+27821234567", Metadata: []billfile.Pair{{Key: "meter", Value: "M-4711"}},
	}
	for text, want := range map[string]string{
		"Unprocessable: customer Zoë van der Merwe exists":   "Unprocessable: customer [withheld] exists",
		"ZOË VAN DER MERWE is taken":                         "[withheld] is taken",
		"name has 'Merwe' in it":                             "name has '[withheld]' in it",
		"email zoe.merwe@example.co.za (somebody@else.test)": "email [withheld] ([withheld])",
		"phone 082 123 4567 or +27 82 123-4567":              "phone [withheld] or [withheld]",
		"bill 2026110112 of 99999999 cents, due 2026-12-01":  "bill 2026110112 of 99999999 cents, due 2026-12-01",
		"metadata m-4711":                                    "metadata [withheld]",
		"the amount is too large":                            "the amount is too large",
	} {
		if got := redact(text, b); got != want {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
}
