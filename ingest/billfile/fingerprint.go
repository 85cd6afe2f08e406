package billfile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

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
