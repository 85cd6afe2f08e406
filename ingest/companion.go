package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"billdrop/ingest/billfile"
	"billdrop/ingest/ledger"
	"billdrop/ingest/transfer"
)

// ChecksumMismatch compares the SHA-256 (hex) of a file with its checksum companion, which
// may be nil. It returns nil when they agree, and when the companion cannot be read.
func ChecksumMismatch(name, sha256 string, companion []byte) *billfile.FileError {
	want, err := readChecksum(name, companion)
	if companion == nil || err != nil || want == sha256 {
		return nil
	}
	return &billfile.FileError{Code: ledger.CodeChecksumMismatch, Detail: fmt.Sprintf(
		"the sidecar %s%s says %s, the file that arrived has %s: the transfer was damaged or the sidecar is of another file; deliver both again",
		name, transfer.ChecksumSuffix, want, sha256)}
}

var (
	// digest matches a SHA-256 in hex that stands alone: sha256sum, shasum --tag, openssl,
	// PowerShell's Get-FileHash, and certutil write it so.
	digest = regexp.MustCompile(`(?i)(?:^|[^0-9a-z])([0-9a-f]{64})(?:[^0-9a-z]|$)`)
	// spacedDigest matches the line of an older certutil, with a space between the bytes.
	spacedDigest = regexp.MustCompile(`(?im)^[ \t]*([0-9a-f]{2}(?: [0-9a-f]{2}){31})[ \t]*$`)
)

// readChecksum returns the SHA-256 (hex) that a checksum companion holds for a file. If it
// holds several, the lines that end in the name of the file decide.
func readChecksum(name string, companion []byte) (string, error) {
	text := plainText(companion)
	var all, named []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for _, m := range append(digest.FindAllStringSubmatch(line, -1), spacedDigest.FindAllStringSubmatch(line, -1)...) {
			sum := strings.ToLower(strings.ReplaceAll(m[1], " ", ""))
			all = append(all, sum)
			if names(line, name) {
				named = append(named, sum)
			}
		}
	}
	for _, sums := range [][]string{all, named} {
		slices.Sort(sums)
		if sums = slices.Compact(sums); len(sums) == 1 {
			return sums[0], nil
		}
	}
	if len(all) > 1 {
		return "", errors.New("it holds several SHA-256, and not one for this file")
	}
	return "", errors.New("it holds no SHA-256 (64 hexadecimal digits)")
}

// names reports whether a line of a checksum companion names the file, with any path before
// it.
func names(line, name string) bool {
	before, found := strings.CutSuffix(line, name)
	if !found {
		return strings.Contains(line, "("+name+")") // SHA256 (name) = …
	}
	return before == "" || strings.ContainsAny(before[len(before)-1:], ` */\`)
}

// plainText decodes a text of a companion: UTF-8 or UTF-16, with or without a byte order
// mark. Companions hold ASCII, so the zeros of UTF-16 without a mark may go.
func plainText(b []byte) string {
	text, _, err := transform.Bytes(unicode.BOMOverride(transform.Nop), b)
	if err != nil {
		text = b
	}
	return string(bytes.ReplaceAll(text, []byte{0}, nil))
}

// companion reads a companion of the file; nil if there is none. If it cannot be used, it
// returns why the file is held.
func (j *job) companion(ctx context.Context, suffix string) ([]byte, *holdReason, error) {
	raw, err := j.place.Companion(ctx, placed(j.file), suffix)
	if errors.Is(err, transfer.ErrUnusableCompanion) {
		return nil, j.unreadableCompanion(suffix, err), nil
	}
	return raw, nil, err
}

func (j *job) unreadableCompanion(suffix string, why error) *holdReason {
	return &holdReason{ledger.CodeUnreadableCompanion, fmt.Sprintf("the companion %s%s cannot be used: %v", path.Base(j.file.Name), suffix, why) + HoldAdvice(j.file.ID)}
}

// control is a biller's own count of a file, in the companion NAME.control.json.
type control struct {
	Rows    *int             `json:"rows"`
	Amounts map[string]int64 `json:"amounts"` // currency → minor units, of all rows
}

// readControl parses a control file.
func readControl(companion []byte) (control, error) {
	var c control
	dec := json.NewDecoder(strings.NewReader(plainText(companion)))
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)
	if err == nil && (dec.More() || c.Rows == nil && c.Amounts == nil) {
		err = errors.New("it says nothing, or more than one thing")
	}
	if err != nil {
		return c, errors.New(`it has to look like {"rows": 1000, "amounts": {"ZAR": 123456}}`) // err may quote it
	}
	amounts := make(map[string]int64, len(c.Amounts))
	for key, sum := range c.Amounts {
		currency := strings.ToUpper(key)
		_, twice := amounts[currency]
		if _, ok := billfile.MinorUnits(currency); !ok || twice {
			return c, fmt.Errorf("%s is not a currency of ISO 4217, such as ZAR, or stands there twice", strconv.QuoteToASCII(key[:min(len(key), 16)]))
		}
		amounts[currency] = sum
	}
	if c.Amounts != nil {
		c.Amounts = amounts
	}
	return c, nil
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
