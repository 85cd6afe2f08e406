package ingest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/transfer"
)

// ChecksumMismatch compares the SHA-256 (hex) of a file with its checksum companion, which
// may be nil. It returns nil when they agree.
func ChecksumMismatch(name, sha256 string, companion []byte) *billfile.FileError {
	if companion == nil {
		return nil
	}
	// As sha256sum writes it: the hash, then the name.
	want, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(string(companion), "\ufeff")), " ")
	want = strings.ToLower(want)
	if want == sha256 {
		return nil
	}
	if _, err := hex.DecodeString(want); err != nil || len(want) != 64 {
		want = "no SHA-256"
	}
	return &billfile.FileError{Code: ledger.CodeChecksumMismatch, Detail: fmt.Sprintf(
		"the sidecar %s%s says %s, the file that arrived has %s: the transfer was damaged or the sidecar is of another file; deliver both again",
		name, transfer.ChecksumSuffix, want, sha256)}
}

// control is a biller's own count of a file, in the companion NAME.control.json.
type control struct {
	Rows    *int             `json:"rows"`
	Amounts map[string]int64 `json:"amounts"` // currency → minor units, of all rows
}

// readControl parses a control file.
func readControl(companion []byte) (control, error) {
	var c control
	dec := json.NewDecoder(bytes.NewReader(companion))
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)
	if err == nil && (dec.More() || c.Rows == nil && c.Amounts == nil) {
		err = errors.New("it says nothing, or more than one thing")
	}
	return c, err
}

// mismatches compares the control totals with a file's rows and sums (currency → minor
// units). Invalid rows count as well, where their amounts can be read: the totals are of
// the file, not of what is sent.
func (c control) mismatches(rows int, sums map[string]int64) []string {
	var wrong []string
	if c.Rows != nil && *c.Rows != rows {
		wrong = append(wrong, fmt.Sprintf("rows: the control file says %d, the file has %d", *c.Rows, rows))
	}
	if c.Amounts == nil {
		return wrong
	}
	currencies := maps.Clone(sums)
	maps.Copy(currencies, c.Amounts)
	for _, currency := range slices.Sorted(maps.Keys(currencies)) {
		if c.Amounts[currency] != sums[currency] {
			wrong = append(wrong, fmt.Sprintf("%s: the control file says %d, the file has %d (minor units)", currency, c.Amounts[currency], sums[currency]))
		}
	}
	return wrong
}
