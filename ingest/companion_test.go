package ingest

import (
	"strings"
	"testing"
)

func TestChecksumMismatch(t *testing.T) {
	sum := sha256Hex("abc")
	for _, c := range []struct {
		name      string
		companion []byte
		want      string // in the detail; "" = they agree
	}{
		{"none", nil, ""},
		{"as sha256sum writes it", []byte(sum + "  bills.csv\n"), ""},
		{"the hash alone, in capitals", []byte(strings.ToUpper(sum)), ""},
		{"byte order mark and CRLF", []byte("\ufeff" + sum + "\r\n"), ""},
		{"another hash", []byte(sha256Hex("abd")), "bills.csv.sha256 says " + sha256Hex("abd") + ", the file that arrived has " + sum},
		{"cut", []byte(sum[:40]), "says no SHA-256"},
		{"empty", []byte{}, "says no SHA-256"},
	} {
		wrong := ChecksumMismatch("bills.csv", sum, c.companion)
		switch {
		case (wrong == nil) != (c.want == ""):
			t.Errorf("%s: %v", c.name, wrong)
		case wrong != nil && (wrong.Code != "checksum_mismatch" || !strings.Contains(wrong.Detail, c.want)):
			t.Errorf("%s: %s: %s", c.name, wrong.Code, wrong.Detail)
		}
	}
}

func TestControl(t *testing.T) {
	sums := map[string]int64{"ZAR": 1500, "USD": 20}
	for companion, want := range map[string]string{
		`{"rows": 3, "amounts": {"ZAR": 1500, "USD": 20}}`: "",
		`{"rows": 3}`:                                  "",
		`{"amounts": {"ZAR": 1500, "USD": 20}}`:        "",
		`{"rows": 2}`:                                  "rows: the control file says 2, the file has 3",
		`{"amounts": {"ZAR": 1500}}`:                   "USD: the control file says 0, the file has 20 (minor units)",
		`{"amounts": {"USD": 20, "ZAR": 1, "EUR": 5}}`: "EUR: the control file says 5, the file has 0 (minor units); ZAR: the control file says 1, the file has 1500 (minor units)",
		`{}`:                      "unreadable",
		`{"rows": 3} {"rows": 3}`: "unreadable",
		`{"rows": 3, "sum": 1}`:   "unreadable",
		`{"rows": "3"}`:           "unreadable",
		``:                        "unreadable",
	} {
		got := "unreadable"
		if c, err := readControl([]byte(companion)); err == nil {
			got = strings.Join(c.mismatches(3, sums), "; ")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", companion, got, want)
		}
	}
}
