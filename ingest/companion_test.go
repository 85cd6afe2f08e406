package ingest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"unicode"
	"unicode/utf16"

	"billdrop/ingest/ledger"
	"billdrop/ingest/transfer"
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
		{"unreadable", []byte(sum[:40]), ""}, // such a file is held
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

// utf16LE is a text as PowerShell writes it.
func utf16LE(mark bool, s string) []byte {
	var b []byte
	if mark {
		b = append(b, 0xff, 0xfe)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

// A checksum is read in every form in which the usual programs write it.
func TestReadChecksum(t *testing.T) {
	sum, other := sha256Hex("abc"), sha256Hex("abd")
	capitals := strings.ToUpper(sum)
	var spaced []string
	for i := 0; i < len(sum); i += 2 {
		spaced = append(spaced, sum[i:i+2])
	}
	table := "\r\nAlgorithm       Hash                                                                   Path\r\n" +
		"---------       ----                                                                   ----\r\n" +
		"SHA256          " + capitals + "       C:\\bills\\bills.csv\r\n\r\n\r\n"
	for _, c := range []struct {
		name      string
		companion []byte
		want      string // "" = unreadable
	}{
		{"sha256sum", []byte(sum + "  bills.csv\n"), sum},
		{"sha256sum, binary", []byte(sum + " *bills.csv\r\n"), sum},
		{"sha256sum, an escaped name", []byte(`\` + sum + `  a\\bills.csv` + "\n"), sum},
		{"the hash alone", []byte(capitals), sum},
		{"byte order mark", []byte("\ufeff" + sum), sum},
		{"--tag", []byte("SHA256 (bills.csv) = " + sum + "\n"), sum},
		{"openssl", []byte("SHA2-256(bills.csv)= " + sum + "\n"), sum},
		{"certutil", []byte("SHA256 hash of bills.csv:\r\n" + sum + "\r\nCertUtil: -hashfile command completed successfully.\r\n"), sum},
		{"certutil of Windows 7", []byte("SHA256 hash of file bills.csv:\r\n" + strings.Join(spaced, " ") + "\r\nCertUtil: -hashfile command completed successfully.\r\n"), sum},
		{"certutil in German", []byte("SHA256-Hash von bills.csv:\r\n" + sum + "\r\nCertUtil: -hashfile-Befehl wurde erfolgreich ausgef\xfchrt.\r\n"), sum},
		{"Get-FileHash", []byte(table), sum},
		{"Get-FileHash, redirected", utf16LE(true, table), sum},
		{"UTF-16 without a mark", utf16LE(false, table), sum},
		{"Get-FileHash | Format-List", []byte("Algorithm : SHA256\r\nHash      : " + capitals + "\r\nPath      : C:\\bills\\bills.csv\r\n"), sum},
		{"of several files", []byte(other + "  other.csv\n" + sum + "  ./bills.csv\n"), sum},
		{"of several files, --tag", []byte("SHA256 (other-bills.csv) = " + other + "\nSHA256 (bills.csv) = " + sum + "\n"), sum},
		{"of another file", []byte(other + "  other.csv\n"), other},

		{"of several other files", []byte(other + "  other.csv\n" + sum + "  my-bills.csv\n"), ""},
		{"cut", []byte(sum[:40]), ""},
		{"empty", []byte{}, ""},
		{"SHA-512", []byte(sum + sum + "  bills.csv\n"), ""},
		{"SHA-1", []byte(sum[:40] + "  bills.csv\n"), ""},
		{"words", []byte("please see the mail\n"), ""},
	} {
		got, err := readChecksum("bills.csv", c.companion)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v", c.name, got, err)
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
		`{}`:                                       "unreadable",
		`{"rows": 3} {"rows": 3}`:                  "unreadable",
		"\ufeff{\"rows\": 3}\r\n":                  "",
		string(utf16LE(true, `{"rows": 3}`)):       "",
		string(utf16LE(false, `{"rows": 3}`)):      "",
		`{"amounts": {"zar": 1500, "USD": 20}}`:    "",
		`{"amounts": {"zar": 1500, "ZAR": 1500}}`:  "unreadable",
		`{"amounts": {"R": 1500}}`:                 "unreadable",
		`{"amounts": {"\u001b]0;owned\u0007": 1}}`: "unreadable",
		`{"rows": 3, "sum": 1}`:                    "unreadable",
		`{"rows": "3"}`:                            "unreadable",
		``:                                         "unreadable",
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

// A companion that cannot be used holds its file, and blames the companion. Approved, the
// file is sent; rejected, it ends. What the companion holds does not reach the detail raw.
func TestUnusableCompanionsHold(t *testing.T) {
	for _, c := range []struct {
		suffix, content, code, detail string
	}{
		{transfer.ChecksumSuffix, "please see the mail\n", ledger.CodeUnreadableCompanion, "a.csv.sha256 cannot be used: it holds no SHA-256"},
		{transfer.ChecksumSuffix, strings.Repeat("x", transfer.CompanionLimit+1), ledger.CodeUnreadableCompanion, "a.csv.sha256 cannot be used: it has 65537 bytes"},
		{transfer.ControlSuffix, strings.Repeat(" ", transfer.CompanionLimit+1), ledger.CodeUnreadableCompanion, "a.csv.control.json cannot be used: it has 65537 bytes"},
		{transfer.ControlSuffix, `{"amounts": {"\u001b]0;owned\u0007\u202e": 1}}`, ledger.CodeControlTotalMismatch, `"\x1b]0;owned\a\u202e" is not a currency`},
	} {
		for _, o := range []Order{OrderApprove, OrderReject} {
			t.Run(fmt.Sprintf("%s %s %s", c.suffix, c.code, o), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, simConfig{Seed: 1})
					w.files.put("/inbox/a.csv"+c.suffix, []byte(c.content))
					worker := w.worker(t, alive())
					summaries, err := worker.Poll(t.Context())
					if err != nil || len(summaries) != 2 {
						t.Fatalf("%+v, %v", summaries, err)
					}
					s := summaries[0]
					if s.Outcome != ledger.FileHeld || s.Code != c.code || !strings.Contains(s.Detail, c.detail) || strings.ContainsFunc(s.Detail, unicode.IsControl) {
						t.Errorf("%s (%s): %s", s.Outcome, s.Code, s.Detail)
					}
					if _, err := LeaveOrder(t.Context(), w.ledger, w.spool, o, s.FileID); err != nil {
						t.Fatal(err)
					}
					if err := w.run(t); err != nil {
						t.Fatal(err)
					}
					if f, err := w.ledger.File(t.Context(), s.FileID); err != nil || f.State != ledger.Done || (f.Outcome == ledger.FileRejected) != (o == OrderReject) {
						t.Errorf("after the order: %+v, %v", f, err)
					}
				})
			})
		}
	}
}
