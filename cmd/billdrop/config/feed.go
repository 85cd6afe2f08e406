package config

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/inbox"
)

// maxAmount is the Billing API's own limit for one bill, in minor units.
const maxAmount = 99_999_999

// fields are what a column of a bill file may be mapped to, besides metadata.KEY.
var fields = []string{
	"bill_reference", "amount_due", "currency", "bill_date", "due_date", "account_reference", "account_id",
	"customer_reference", "customer_id", "account_name", "customer_name", "customer_email", "customer_phone",
}

var (
	currencyRule = regexp.MustCompile(`^[A-Z]{3}$`)
	regionRule   = regexp.MustCompile(`^[A-Z]{2}$`)
	metadataRule = regexp.MustCompile(`^metadata\..{1,50}$`)
)

func (k *checker) checkFeed(i int, f *Feed) {
	at := feedPath(i)
	k.required(join(at, "name"), f.Name, "a short name for the feed, such as bills")
	if f.Name != "" && !nameRule.MatchString(f.Name) {
		k.problem(join(at, "name"), "is not valid; write %s", nameWords)
	}
	if k.has(join(at, "merchant")) && !nameRule.MatchString(f.Merchant) {
		k.problem(join(at, "merchant"), "is not valid; write %s", nameWords)
	}
	if k.has(join(at, "api")) {
		k.checkAPI(join(at, "api"), &f.API)
	}
	k.checkWatch(at, f)
	k.checkFormat(at, f)
	k.oneOf(join(at, "on_invalid"), f.OnInvalid, "continue", "reject")
	k.within(join(at, "max_amount_due"), f.MaxAmountDue, 0, maxAmount)
	k.within(join(at, "max_rows"), int64(f.MaxRows), 0, 1<<31-1)
	k.within(join(at, "max_columns"), int64(f.MaxColumns), 1, 10_000)
	k.within(join(at, "max_invalid_rows"), int64(f.MaxInvalidRows), 0, 1<<31-1)
	k.within(join(at, "hold.max_invalid_percent"), int64(f.Hold.MaxInvalidPercent), 0, 100)
	k.within(join(at, "hold.max_rows"), int64(f.Hold.MaxRows), 0, 1<<40)
	for _, currency := range slices.Sorted(maps.Keys(f.Hold.MaxTotal)) {
		key := join(at, "hold.max_total."+printable(currency))
		if !currencyRule.MatchString(currency) {
			k.problem(key, "is not a currency; write its three letters, such as ZAR")
		}
		k.within(key, f.Hold.MaxTotal[currency], 0, 1<<60)
	}
	k.checkExpect(join(at, "expect"), f)
	k.checkPayments(at, f)
	k.checkPresent(at, f)
}

// checkWatch checks which names in the inbox are bill files, and when they are complete.
func (k *checker) checkWatch(at string, f *Feed) {
	globs := map[string]string{"pattern": f.Pattern}
	for i, g := range f.Ignore {
		globs[indexed("ignore", i)] = g
	}
	for _, key := range slices.Sorted(maps.Keys(globs)) {
		if globs[key] == "" || !isPattern(globs[key]) {
			k.problem(join(at, key), "is not valid; write a pattern for file names such as \"*.csv\"%s", patternHelp)
		}
	}
	// A file that `check` writes into the inbox has such a name for a moment.
	temporary := k.config.SFTP.Account().TemporaryName("billdrop-check")
	watch := inbox.Watch{Pattern: f.Pattern, Ignore: f.Ignore, Marker: f.Marker}
	if inbox.NewSettler(watch).Takes(inbox.Entry{Name: temporary, Regular: true}) {
		k.problem("sftp.temporary_name", "fits the pattern of %s, which would take such a file for a bill file; write another name, or list it under ignore", at)
	}
	k.between(join(at, "settle"), f.Settle, 0, 24*time.Hour)
	if strings.ContainsAny(f.Marker, "/*?[") || strings.TrimSpace(f.Marker) != f.Marker {
		k.problem(join(at, "marker"), "is not valid; write the ending of the marker's name, such as \".done\", or \"\" for none")
	}
}

const patternHelp = " (*, ? and [a-z] stand for others; no /)"

// isPattern reports whether glob matches names in one directory.
func isPattern(glob string) bool {
	_, err := path.Match(glob, "")
	return err == nil && !strings.Contains(glob, "/")
}

func (k *checker) checkFormat(at string, f *Feed) {
	preset := k.checkPreset(at, f)
	k.checkAmounts(join(at, "amounts"), f, preset)
	k.checkCurrencies(at, f)
	k.oneOf(join(at, "delimiter"), f.Delimiter, "auto", ",", ";", "tab", "|")
	k.oneOf(join(at, "encoding"), f.Encoding, "auto", "utf-8", "utf-16", "windows-1252")
	k.oneOf(join(at, "short_rows"), f.ShortRows, "refuse", "blank")
	k.oneOf(join(at, "total_row"), f.TotalRow, "refuse", "allow")
	k.oneOf(join(at, "decimal_separator"), f.DecimalSeparator, ".", ",")
	if f.DecimalSeparator == "," && (f.Amounts == "minor" || f.Amounts == "" && preset.Amounts == billfile.Minor) {
		k.problem(join(at, "decimal_separator"), "does not go with amounts: minor, which have no decimals; leave it out, or write amounts: major")
	}
	if !dateLayout(f.DateFormat) || (billfile.Format{Amounts: billfile.Minor, DateFormat: f.DateFormat}).Validate() != nil {
		k.problem(join(at, "date_format"), "is not valid; write the day 2 January 2006 in your format: \"2006-01-02\", \"02/01/2006\", \"20060102\", …")
	}
	if f.PhoneRegion != "" && !regionRule.MatchString(f.PhoneRegion) {
		k.problem(join(at, "phone_region"), "is not valid; write a country's two capital letters, such as ZA, or \"\" to take international numbers only")
	} else if (billfile.Format{Amounts: billfile.Minor, PhoneRegion: f.PhoneRegion}).Validate() != nil {
		k.problem(join(at, "phone_region"), "is not a country that has telephone numbers; write its two letters, such as ZA, or \"\" to take international numbers only")
	}
	known := slices.Concat(fields, preset.Parts())
	for _, header := range slices.Sorted(maps.Keys(f.Columns)) {
		field := f.Columns[header]
		key := join(at, "columns."+printable(header))
		if strings.TrimSpace(header) == "" {
			k.problem(key, "maps a header without a name; write {\"Your Header\": field}")
		}
		if slices.Contains(known, field) || metadataRule.MatchString(field) {
			continue
		}
		if near := nearest(field, known); near != "" {
			k.problem(key, "is not mapped to a known field; did you mean %s?", near)
		} else {
			k.problem(key, "is not mapped to a known field; write one of %s, or metadata.KEY", strings.Join(known, ", "))
		}
	}
}

func (k *checker) checkAmounts(key string, f *Feed, preset billfile.Preset) {
	const which = "write minor if 2000 means R20.00, or major if 20.00 does"
	names := map[billfile.Amounts]string{billfile.Minor: "minor", billfile.Major: "major"}
	switch {
	case preset.Name != "":
		if f.Amounts != "" && f.Amounts != names[preset.Amounts] {
			k.problem(key, "is not how files of preset %s write amounts; leave amounts out", preset.Name)
		}
	case f.Amounts == "":
		k.problem(key, "is missing; %s", which)
	case f.Amounts != "minor" && f.Amounts != "major":
		k.problem(key, "is not valid; %s", which)
	}
}

func (k *checker) checkCurrencies(at string, f *Feed) {
	const unknown = "is not a currency of ISO 4217; write its code, such as ZAR"
	key := join(at, "currency")
	if f.Currency != "" && !currencyRule.MatchString(f.Currency) {
		k.problem(key, "is not valid; write three capital letters, such as ZAR, or \"\" when every file has the column")
	} else if f.Currency != "" {
		if len(f.Currencies) > 0 && !slices.Contains(f.Currencies, f.Currency) {
			k.problem(key, "is not among currencies; add it there, or write one of them")
		}
		if _, known := billfile.MinorUnits(f.Currency); !known {
			k.problem(key, unknown)
		}
	}
	for i, c := range f.Currencies {
		key := join(at, indexed("currencies", i))
		if !currencyRule.MatchString(c) {
			k.problem(key, "is not valid; write three capital letters, such as ZAR")
		} else if _, known := billfile.MinorUnits(c); !known {
			k.problem(key, unknown)
		}
	}
}

// checkPreset returns the feed's preset; the zero Preset if there is none.
func (k *checker) checkPreset(at string, f *Feed) billfile.Preset {
	if f.BillReference != "" {
		if err := billfile.CheckTemplate(f.BillReference); err != nil {
			k.problem(join(at, "bill_reference"), "%s", err)
		}
	}
	var names []string
	for _, p := range billfile.Presets() {
		if p.Name == f.Preset {
			return p
		}
		names = append(names, p.Name)
	}
	if f.Preset != "" {
		k.problem(join(at, "preset"), "is not a known preset; write one of %s, or leave it out", strings.Join(names, ", "))
	}
	return billfile.Preset{}
}

// dateLayout reports whether a layout keeps year, month and day of a date.
func dateLayout(layout string) bool {
	for _, day := range [...]time.Time{
		time.Date(2006, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2027, 11, 30, 0, 0, 0, 0, time.UTC), time.Date(2031, 12, 9, 0, 0, 0, 0, time.UTC),
	} {
		back, err := time.Parse(layout, day.Format(layout))
		if err != nil || !back.Equal(day) {
			return false
		}
	}
	return true
}
