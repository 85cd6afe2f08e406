package billfile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Format is how a feed's files are to be read. Its zero value cannot be used: Amounts has
// no default.
type Format struct {
	Preset              string            // name of a preset; "" = columns are named as fields are
	BillReference       string            // template for files without a column of references; "" = the preset's, else the column is needed
	Amounts             Amounts           // unset = the preset's
	Currency            string            // default for rows without the column; "" = the column is needed
	Currencies          []string          // what may be billed in; empty = every ISO 4217 currency
	Delimiter           rune              // 0 = auto: sep= line, else the one of , ; tab | that the header speaks for
	Encoding            string            // "" or auto, utf-8, utf-16, windows-1252
	DateFormat          string            // Go layout; "" = 2006-01-02
	PhoneRegion         string            // ISO 3166 two letters, for national numbers; "" = only international ones
	Columns             map[string]string // the file's header → field
	IgnoreColumns       []string
	AllowNoFinalNewline bool  // the opposite of require_final_newline, so that the zero value is the safe one
	DecimalComma        bool  // amounts in major units have a decimal comma, and perhaps spaces between thousands
	ShortRows           bool  // cells missing at the end of a row are blank
	AllowTotalRow       bool  // the last row may look like a total
	MaxAmountDue        int64 // minor units; 0 = the API's own limit
	MaxFileSize         int64 // bytes; 0 = no limit
	MaxRows             int   // records; 0 = no limit
	MaxColumns          int   // of the header; 0 = 1000
}

// Amounts is how amount_due is written.
type Amounts uint8

const (
	AmountsUnset Amounts = iota
	Minor                // 2000 = R20.00
	Major                // 20.00 = R20.00
)

// Validate returns everything in f with which no file could be read, each with its key in
// the configuration.
func (f Format) Validate() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	p, known := presetOf(f.Preset)
	refuse(!known && f.Preset != "", "preset: %q is not one of %s", f.Preset, strings.Join(presetNames(), ", "))
	if f.BillReference != "" {
		err := CheckTemplate(f.BillReference)
		refuse(err != nil, "bill_reference: %w", err)
	}
	amounts := f.amounts()
	otherThanPreset := known && amounts != p.Amounts
	refuse(otherThanPreset, "amounts: preset %s sets how amounts are written: leave amounts out", f.Preset)
	refuse(!otherThanPreset && amounts != Minor && amounts != Major, "amounts: write minor (2000 means R20.00) or major (20.00 means R20.00)")
	if f.Currency != "" {
		_, ok := MinorUnits(f.Currency)
		refuse(!ok, "currency: %q is not an ISO 4217 code, such as ZAR", f.Currency)
	}
	for _, c := range f.Currencies {
		_, ok := MinorUnits(c)
		refuse(!ok, "currencies: %q is not an ISO 4217 code, such as ZAR", c)
	}
	refuse(f.Currency != "" && len(f.Currencies) > 0 && !slices.Contains(f.Currencies, f.Currency), "currency: %s is not one of currencies", f.Currency)
	refuse(f.Delimiter != 0 && !slices.Contains(delimiters[:], f.Delimiter), "delimiter: %q is not one of , ; tab |", f.Delimiter)
	refuse(!slices.Contains([]string{"", "auto", "utf-8", "utf-16", "windows-1252"}, f.Encoding),
		"encoding: %q is not one of auto, utf-8, utf-16, windows-1252", f.Encoding)
	errs = append(errs, checkDateFormat(f.dateFormat()), checkRegion(f.PhoneRegion)) // nil where nothing is wrong
	seen := map[string]string{}
	for from, to := range f.Columns {
		other, twice := seen[plainName(from)]
		refuse(twice, "columns: %q and %q are the same name", other, from)
		seen[plainName(from)] = from
		_, ok := f.target(column{}, strings.TrimSpace(to), plainName(to))
		refuse(!ok, "columns: %q is mapped to %q, which is not a field: use one of %s or metadata.KEY", from, to, strings.Join(fieldNames[1:fieldMetadata], ", "))
	}
	refuse(f.MaxAmountDue < 0, "max_amount_due: must not be negative; 0 means the API's own limit")
	refuse(f.DecimalComma && amounts == Minor, "decimal_separator: amounts in minor units have no decimals: leave it out, or set amounts: major")
	refuse(f.MaxRows < 0, "max_rows: a number of rows is never negative; 0 = no limit")
	refuse(f.MaxColumns < 0 || f.MaxColumns > mostColumns, "max_columns: write a number from 1 to %d; 0 = %d", mostColumns, defaultColumns)
	refuse(f.MaxFileSize < 0, "max_file_size: must not be negative")
	return errors.Join(errs...)
}

// amounts returns the feed's amounts, or else the preset's.
func (f Format) amounts() Amounts {
	p, _ := presetOf(f.Preset)
	return cmp.Or(f.Amounts, p.Amounts)
}

// template returns the feed's template, or else the preset's; none if it is not valid.
func (f Format) template() template {
	p, _ := presetOf(f.Preset)
	t, _ := parseTemplate(cmp.Or(f.BillReference, p.BillReference))
	return t
}

func (f Format) maxColumns() int { return cmp.Or(f.MaxColumns, defaultColumns) }

func presetNames() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}

func (f Format) dateFormat() string { return cmp.Or(f.DateFormat, isoDate) }

// FileError means that a file cannot be used as a whole: nothing of it is sent, and it
// goes to rejected/.
type FileError struct {
	Code   string // one of the file-level codes
	Line   int    // physical line that it is about; 0 = the file as a whole
	Detail string // what is wrong and what to do; no personal data
}

func (e *FileError) Error() string { return e.Code + ": " + e.Detail }

// Fingerprint identifies how f reads rows: 32 hexadecimal digits. Two formats with the same
// fingerprint read a file the same way. Only settings that are set are part of it, so a
// version with one more setting gives the same for files that do not use it. MaxFileSize,
// MaxRows and MaxColumns are not part of it, because they say nothing about rows.
//
// The ledger keeps fingerprints of files under way, so the names and the layout below never
// change, whatever the fields of Format are called.
func (f Format) Fingerprint() string {
	var set strings.Builder
	for _, s := range []struct {
		name  string
		isSet bool
		value any
	}{
		{"Preset", f.Preset != "", f.Preset},
		{"BillReference", f.BillReference != "", f.BillReference},
		{"Amounts", f.Amounts != AmountsUnset, uint8(f.Amounts)},
		{"Currency", f.Currency != "", f.Currency},
		{"Currencies", f.Currencies != nil, f.Currencies},
		{"Delimiter", f.Delimiter != 0, int32(f.Delimiter)},
		{"Encoding", f.Encoding != "", f.Encoding},
		{"DateFormat", f.DateFormat != "", f.DateFormat},
		{"PhoneRegion", f.PhoneRegion != "", f.PhoneRegion},
		{"Columns", f.Columns != nil, f.Columns}, // fmt prints a map in the order of its keys
		{"IgnoreColumns", f.IgnoreColumns != nil, f.IgnoreColumns},
		{"AllowNoFinalNewline", f.AllowNoFinalNewline, f.AllowNoFinalNewline},
		{"DecimalComma", f.DecimalComma, f.DecimalComma},
		{"ShortRows", f.ShortRows, f.ShortRows},
		{"AllowTotalRow", f.AllowTotalRow, f.AllowTotalRow},
		{"MaxAmountDue", f.MaxAmountDue != 0, f.MaxAmountDue},
	} {
		if s.isSet {
			fmt.Fprintf(&set, "%s=%v\n", s.name, s.value)
		}
	}
	sum := sha256.Sum256([]byte(set.String()))
	return hex.EncodeToString(sum[:16])
}
