package describe

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"billdrop/ingest/billfile"
)

// Number writes n with a comma between thousands.
func Number(n int) string { return humanize.Comma(int64(n)) }

// Count writes how many there are of a thing: "1 row", "1,234 rows", "0 entries".
func Count(n int, thing string) string { return Number(n) + " " + plural(n, thing) }

func plural(n int, thing string) string {
	if n == 1 {
		return thing
	}
	if stem, ok := strings.CutSuffix(thing, "y"); ok {
		thing = stem + "ie"
	}
	return thing + "s"
}

// more ends a list that leaves things out; "" if it leaves out none.
func more(cut int, thing, flag string) string {
	if cut <= 0 {
		return ""
	}
	return fmt.Sprintf("  … and %s more %s; %s 0 lists all\n", Number(cut), plural(cut, thing), flag)
}

// Money writes an amount in major units: 1234567 minor units of ZAR are 12,345.67. An
// amount in an unknown currency stays as it is.
func Money(currency string, minor int64) string {
	decimals, known := billfile.MinorUnits(currency)
	if !known || decimals == 0 {
		return humanize.Comma(minor)
	}
	sign := ""
	if minor < 0 {
		sign, minor = "-", -minor
	}
	scale := int64(1)
	for range decimals {
		scale *= 10
	}
	return fmt.Sprintf("%s%s.%0*d", sign, humanize.Comma(minor/scale), decimals, minor%scale)
}

// Amounts writes "ZAR 1,234.56" for each currency, by name.
func Amounts(amounts map[string]int64) []string {
	var texts []string
	for _, currency := range slices.Sorted(maps.Keys(amounts)) {
		texts = append(texts, currency+" "+Money(currency, amounts[currency]))
	}
	return texts
}
