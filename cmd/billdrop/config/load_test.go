package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// base is a valid configuration; tests put lines in or replace some.
const base = `merchant: acme
api:
  key_file: api.key
sftp:
  address: sftp.example.com
  user: acme
  password_file: password
  known_hosts_file: /etc/known_hosts
ledger: sqlite:ledger.db
spool_dir: spool
feeds:
  - name: bills
    amounts: minor
`

var all = Needs{Key: true, SFTP: true}

func load(t *testing.T, text string, env map[string]string, needs Needs) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, needs)
}

func TestLoadBase(t *testing.T) {
	c, err := load(t, base, nil, all)
	if err != nil {
		t.Fatal(err)
	}
	if c.SFTP.Address != "sftp.example.com:22" {
		t.Errorf("address %q, want port 22 put after it", c.SFTP.Address)
	}
	for _, path := range []string{c.API.KeyFile, c.Feeds[0].API.KeyFile, c.SFTP.PasswordFile, c.LedgerPlace().Path, c.SpoolDir} {
		if !filepath.IsAbs(path) {
			t.Errorf("path %q is not taken from the configuration's directory", path)
		}
	}
	if c.Feeds[0].Merchant != "acme" || c.Feeds[0].Settle != 10*time.Second || c.API.Concurrency != 32 {
		t.Errorf("defaults are missing: %+v", c)
	}
}

// TestProblems: each mistake is reported with its line, its key, what is wrong and what
// to write.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(string) string
		want []string // each in one problem, in order
	}{
		{"unknown key", replace("spool_dir: spool", "spool_dir: spool\nspool_dri: x"), []string{":11: spool_dri: is not a known key; did you mean spool_dir?"}},
		{"unknown key, nothing near", replace("merchant: acme", "merchant: acme\nzzzzzz: 1"), []string{":2: zzzzzz: is not a known key; remove it"}},
		{"misplaced key", replace("merchant: acme", "merchant: acme\nconcurrency: 4"), []string{":2: concurrency: does not belong here; it belongs at api.concurrency"}},
		{"misplaced top-level key", replace("  user: acme", "  user: acme\n  poll_interval: 4s"), []string{":7: sftp.poll_interval: does not belong here; move it to the top level"}},
		{"inline key", replace("  key_file: api.key", "  key: sk_live_SECRET"), []string{":3: api.key: is not a key: the API key never stands in this file", "api.key_file: is missing"}},
		{"inline password", replace("  user: acme", "  user: acme\n  password: SECRET"), []string{":7: sftp.password: is not a key: secrets never stand"}},
		{"duplicate key", replace("spool_dir: spool", "spool_dir: spool\nspool_dir: other"), []string{":11: spool_dir: is given twice, first on line 10"}},
		{"second document", func(s string) string { return s + "---\nmerchant: x\n" }, []string{"a second YAML document starts here"}},
		{"empty", func(string) string { return " \n" }, []string{":1: the file is empty"}},
		{"comments only", func(string) string { return "# nothing\n" }, []string{":1: the file has comments only"}},
		{"not a section", func(string) string { return "- a\n- b\n" }, []string{":1: must be a section"}},
		{"syntax", replace("merchant: acme", "merchant: [acme"), []string{"not valid YAML"}},
		{"unquoted star", replace("    amounts: minor", "    amounts: minor\n    pattern: *SECRET.csv"), []string{"a value starts with * or &"}},
		{"wrong types", replace("  key_file: api.key", "  key_file: api.key\n  concurrency: many\n  timeout: 30\n  live: yes\n  rate_limit: 010"),
			[]string{":4: api.concurrency: is not valid; write a whole number", ":5: api.timeout: is not valid; write a number with its unit", ":6: api.live: is not valid; write true or false", ":7: api.rate_limit: is not valid"}},
		{"list for a value", replace("merchant: acme", "merchant: [acme]"), []string{":1: merchant: must be a single value"}},
		{"value for a list", replace("    amounts: minor", "    amounts: minor\n    ignore: \"*.part\""), []string{":14: feeds[0].ignore: must be a list"}},
		{"value for a section", replace("spool_dir: spool", "spool_dir: spool\npoll_interval: {a: 1}"), []string{":11: poll_interval: must be a single value"}},
		{"no value", replace("merchant: acme", "merchant:"), []string{":1: merchant: has no value"}},
		{"all missing", func(string) string { return "poll_interval: 5s\n" }, []string{"api.key_file: is missing", "feeds: is missing", "ledger: is missing", "merchant: is missing", "sftp.address: is missing", "sftp.known_hosts_file: is missing", "sftp.user: is missing", "spool_dir: is missing"}},
		{"amounts missing", replace("    amounts: minor\n", ""), []string{"feeds[0].amounts: is missing; write minor if 2000 means R20.00"}},
		{"amounts wrong", replace("amounts: minor", "amounts: cents"), []string{":13: feeds[0].amounts: is not valid; write minor"}},
		{"postgres without slashes", replace("sqlite:ledger.db", "postgres:u:SECRET@h/db"), []string{":9: ledger: lacks the // after postgres:; write it as postgres://USER@HOST/DATABASE"}},
		{"postgres with a bad port", replace("sqlite:ledger.db", "postgres://u:SECRET@h:port/db"), []string{":9: ledger: is not a valid address of a database"}},
		{"postgres with a number sign", replace("sqlite:ledger.db", "'postgres://u:SECRET#x@h/db'"), []string{":9: ledger: is not a valid address of a database"}},
		{"postgres with a fragment", replace("sqlite:ledger.db", "'postgres://u@h/db#SECRET'"), []string{":9: ledger: has a #"}},
		{"two passwords", replace("ledger: sqlite:ledger.db", "ledger: postgres://u:SECRET@h/db\nledger_password_file: pw"), []string{":10: ledger_password_file: is the second password"}},
		{"two passwords, one a parameter", replace("ledger: sqlite:ledger.db", "ledger: postgres://u@h/db?password=SECRET\nledger_password_file: pw"), []string{":10: ledger_password_file: is the second password"}},
		{"password for SQLite", replace("spool_dir: spool", "spool_dir: spool\nledger_password_file: pw"), []string{":11: ledger_password_file: is for PostgreSQL"}},
		{"inline ledger password", replace("spool_dir: spool", "spool_dir: spool\nledger_password: SECRET"), []string{":11: ledger_password: is not a key: secrets never stand"}},
		{"worker", replace("spool_dir: spool", "spool_dir: spool\nworker:\n  name: a b\n  lost_after: 1s"), []string{":12: worker.name: is not valid", ":13: worker.lost_after: is out of range; write a duration between 2s and 1h"}},
		{"no scheme", replace("sqlite:ledger.db", "ledger.db"), []string{":9: ledger: is not valid; write sqlite:"}},
		{"http", replace("  key_file: api.key", "  key_file: api.key\n  base_url: http://api.example.com"), []string{":4: api.base_url: is http to \"api.example.com\", which anyone on the way can read; write https"}},
		{"user in URL", replace("  key_file: api.key", "  key_file: api.key\n  base_url: https://u:SECRET@api.example.com"), []string{":4: api.base_url: has a user or password in it; leave it out"}},
		{"proxy by TLS", replace("  key_file: api.key", "  key_file: api.key\n  proxy: https://proxy.example.com:3128"), []string{":4: api.proxy: has the scheme \"https\"; write one such as http://proxy"}},
		{"password in the proxy", replace("  key_file: api.key", "  key_file: api.key\n  proxy: http://u:SECRET@proxy.example.com:3128"), []string{":4: api.proxy: has a password in it; write the password into"}},
		{"inline proxy password", replace("  key_file: api.key", "  key_file: api.key\n  proxy_password: SECRET"), []string{":4: api.proxy_password: is not a key: secrets never stand"}},
		{"proxy password alone", replace("  key_file: api.key", "  key_file: api.key\n  proxy_password_file: x"), []string{":4: api.proxy_password_file: needs proxy"}},
		{"client certificate alone", replace("  key_file: api.key", "  key_file: api.key\n  client_cert_file: x"), []string{":4: api.client_cert_file: needs client_key_file"}},
		{"client key alone", replace("  key_file: api.key", "  key_file: api.key\n  client_key_file: x"), []string{":4: api.client_key_file: needs client_cert_file"}},
		{"undefined variable", replace("merchant: acme", "merchant: ${NOBODY_SET_THIS}"), []string{":1: merchant: names the environment variable NOBODY_SET_THIS, which is not set"}},
		{"broken variable", replace("merchant: acme", "merchant: a${b"), []string{":1: merchant: has a `${` that names no environment variable"}},
		{"ranges", replace("  key_file: api.key", "  key_file: api.key\n  concurrency: 0\n  backoff_min: 5s\n  backoff_max: 1s\n  max_attempts: -1"),
			[]string{":4: api.concurrency: is out of range; write a number between 1 and 1024", ":6: api.backoff_max: is less than backoff_min (5s)", ":7: api.max_attempts: is out of range"}},
		{"inline passphrase", replace("  user: acme", "  user: acme\n  passphrase: SECRET"), []string{":7: sftp.passphrase: is not a key: secrets never stand"}},
		{"passphrase without a key", replace("  user: acme", "  user: acme\n  private_key_passphrase_file: x"), []string{":7: sftp.private_key_passphrase_file: needs private_key_file"}},
		{"certificate without a key", replace("  user: acme", "  user: acme\n  certificate_file: x"), []string{":7: sftp.certificate_file: needs private_key_file"}},
		{"bad jump", replace("  user: acme", "  user: acme\n  proxy_jump: http://proxy:3128"), []string{":7: sftp.proxy_jump: is not valid; write user@bastion"}},
		{"jump with a password", replace("  user: acme", "  user: acme\n  proxy_jump: a@bastion"), []string{":7: sftp.proxy_jump: needs private_key_file"}},
		{"no connections", replace("  user: acme", "  user: acme\n  connections: 0"), []string{":7: sftp.connections: is out of range"}},
		{"bad temporary name", replace("  user: acme", "  user: acme\n  temporary_name: x.tmp"), []string{":7: sftp.temporary_name: is not valid"}},
		{"temporary name of a bill file", replace("  user: acme", "  user: acme\n  temporary_name: '{name}.csv'"), []string{":7: sftp.temporary_name: fits the pattern of feeds[0]"}},
		{"empty temporary name", replace("  user: acme", "  user: acme\n  temporary_name: ''"), []string{":7: sftp.temporary_name: is not valid"}},
		{"same name", func(s string) string {
			return s + "  - name: bills\n    inbox: /other\n    amounts: major\n"
		}, []string{":14: feeds[1].name: is the name of feeds[0] too (line 12)"}},
		{"same inbox", func(s string) string {
			return s + "  - name: more\n    inbox: /inbox/\n    amounts: major\n"
		}, []string{":15: feeds[1].inbox: is the inbox of feeds[0] too"}},
		{"results in the inbox", replace("    amounts: minor", "    amounts: minor\n    results: /inbox"), []string{":14: feeds[0].results: is the inbox of feeds[0] too"}},
		{"archive in processing", replace("    amounts: minor", "    amounts: minor\n    archive: /processing"), []string{":14: feeds[0].archive: is the processing directory too"}},
		{"format", replace("    amounts: minor", "    amounts: minor\n    delimiter: x\n    encoding: latin1\n    date_format: DD/MM/YYYY\n    phone_region: ZAF\n    currency: EUR\n    on_invalid: stop\n    pattern: \"[\"\n    max_file_size: 1 potato"),
			[]string{"delimiter: is not valid; write one of auto", "encoding: is not valid; write one of auto, utf-8", "date_format: is not valid; write the day", "phone_region: is not valid", "currency: is not among currencies", "on_invalid: is not valid; write one of continue, reject", "pattern: is not valid", "max_file_size: is not valid; write a size"}},
		{"columns", replace("    amounts: minor", "    amounts: minor\n    columns: {Invoice: bill_referense}"), []string{":14: feeds[0].columns.Invoice: is not mapped to a known field; did you mean bill_reference?"}},
		{"hold", replace("    amounts: minor", "    amounts: minor\n    hold: {max_invalid_percent: 101, max_total: {rand: 5}}"), []string{"hold.max_invalid_percent: is out of range", "hold.max_total.rand: is not a currency"}},
		{"one merchant, two ways", func(s string) string {
			return s + "  - name: more\n    inbox: /more\n    amounts: major\n    api: {concurrency: 4}\n"
		}, []string{":17: feeds[1].api: differs from the api of feeds[0] (feeds bills and more) though both have the same merchant"}},
		{"one merchant, two addresses", func(s string) string {
			return s + "  - name: more\n    inbox: /more\n    amounts: major\n    api: {base_url: 'https://other.example'}\n"
		}, []string{":17: feeds[1].api: differs from the api of feeds[0] (feeds bills and more) though both have the same merchant"}},
		{"feed's api", func(s string) string {
			return s + "  - name: more\n    merchant: other\n    inbox: /more\n    amounts: major\n    api:\n      timeout: 0s\n"
		}, []string{":19: feeds[1].api.timeout: is out of range"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.edit(base), nil, all)
			var problems *Errors
			if !errors.As(err, &problems) {
				t.Fatalf("error %v, want *Errors", err)
			}
			lines := problems.Lines()
			if len(lines) != len(c.want) {
				t.Errorf("%d problems, want %d:\n%s", len(lines), len(c.want), err)
			}
			for i := range min(len(lines), len(c.want)) {
				if !strings.Contains(lines[i], c.want[i]) {
					t.Errorf("problem %d:\n got %s\nwant %s", i, lines[i], c.want[i])
				}
				if !strings.Contains(lines[i], "config.yaml:") {
					t.Errorf("problem without file and line: %s", lines[i])
				}
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("a value is quoted: %s", err)
			}
		})
	}
}

func replace(old, with string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic(fmt.Sprintf("the base configuration has no %q", old))
		}
		return strings.Replace(s, old, with, 1)
	}
}

func TestNeeds(t *testing.T) {
	bare := strings.Replace(base, "api:\n  key_file: api.key\n", "", 1)
	sftp := bare[strings.Index(bare, "sftp:"):strings.Index(bare, "ledger:")]
	bare = strings.Replace(bare, sftp, "", 1)
	if _, err := load(t, bare, nil, Needs{}); err != nil {
		t.Errorf("a command that needs neither key nor sftp: %v", err)
	}
	if _, err := load(t, bare, map[string]string{EnvAPIKey: "sk_test_x"}, Needs{Key: true}); err != nil {
		t.Errorf("the key in the environment: %v", err)
	}
	if _, err := load(t, bare, nil, Needs{Key: true}); err == nil || !strings.Contains(err.Error(), "api.key_file: is missing") {
		t.Errorf("no key: error %v", err)
	}
	if _, err := load(t, bare, nil, Needs{SFTP: true}); err == nil || !strings.Contains(err.Error(), "sftp.address: is missing") {
		t.Errorf("no sftp: error %v", err)
	}
	half := bare + "sftp: {user: x}\n"
	if _, err := load(t, half, nil, Needs{}); err == nil || !strings.Contains(err.Error(), "sftp.address: is missing") {
		t.Errorf("an sftp section that is half filled in is wrong for every command: error %v", err)
	}
}

func TestExpand(t *testing.T) {
	text := strings.NewReplacer("merchant: acme", "merchant: ${WHO}", "  key_file: api.key", "  key_file: ${DIR}/api.key\n  concurrency: ${N}").Replace(base)
	c, err := load(t, text, map[string]string{"WHO": "umgeni", "DIR": "/keys", "N": "7"}, all)
	if err != nil {
		t.Fatal(err)
	}
	if c.Merchant != "umgeni" || c.API.KeyFile != "/keys/api.key" || c.API.Concurrency != 7 {
		t.Errorf("expanded to %q, %q, %d", c.Merchant, c.API.KeyFile, c.API.Concurrency)
	}
	if _, err := load(t, text, map[string]string{"WHO": "x: {y", "DIR": "/", "N": "7"}, all); err == nil || !strings.Contains(err.Error(), "merchant: is not valid") {
		t.Errorf("a variable's text was read as YAML: %v", err)
	}
}

func TestFeedOverridesKeyByKey(t *testing.T) {
	c, err := load(t, base+"  - name: loans\n    merchant: acme-loans\n    inbox: /loans\n    amounts: major\n    api: {key_file: /loans.key, concurrency: 4}\n", nil, all)
	if err != nil {
		t.Fatal(err)
	}
	loans := c.Feeds[1]
	want := c.API
	want.KeyFile, want.Concurrency = "/loans.key", 4
	if loans.API != want || loans.Merchant != "acme-loans" {
		t.Errorf("feed has %+v of %s, want %+v", loans.API, loans.Merchant, want)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "12": 12, "1kB": 1000, "1KiB": 1024, "500MB": 500e6, "1 GiB": 1 << 30, "7B": 7} {
		if got, ok := parseSize(text); !ok || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5GiB", "GiB", "9999999TiB", "1gb", "0x10", "+5"} {
		if got, ok := parseSize(text); ok {
			t.Errorf("parseSize(%q) = %d, want it refused", text, got)
		}
	}
}

func TestReadSecret(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such rights")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a key")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(" SECRET\n", 0o600)
	if got, err := ReadSecret("api.key_file", path); err != nil || got != "SECRET" {
		t.Errorf("got %q, %v", got, err)
	}
	write("\xef\xbb\xbfSECRET\r\n", 0o600)
	if got, err := ReadSecret("api.key_file", path); err != nil || got != "SECRET" {
		t.Errorf("from Windows: got %q, %v", got, err)
	}
	write("\xff\xfeS\x00E\x00C\x00R\x00E\x00T\x00\r\x00\n\x00", 0o600)
	if got, err := ReadSecret("api.key_file", path); err != nil || got != "SECRET" {
		t.Errorf("in UTF-16: got %q, %v", got, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660, 0o601} {
		write("SECRET", mode)
		_, err := ReadSecret("api.key_file", path)
		var refused *Error
		if !errors.Is(err, ErrSecret) || !errors.As(err, &refused) || refused.Advice() != "close it: chmod 600 '"+path+"'" || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("mode %o: error %v", mode, err)
		}
		if CheckSecret("sftp.private_key_file", path) == nil {
			t.Errorf("mode %o is accepted by CheckSecret", mode)
		}
	}
	write("\n \n", 0o600)
	if _, err := ReadSecret("k", path); !errors.Is(err, ErrSecret) {
		t.Errorf("empty file: error %v", err)
	}
	if _, err := ReadSecret("k", dir); !errors.Is(err, ErrSecret) {
		t.Errorf("a directory: error %v", err)
	}
	if _, err := ReadSecret("k", filepath.Join(dir, "gone")); !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: error %v", err)
	}
}

// TestCheckFiles: a wrong passphrase, and any other file that is of no use for a login, is found
// before anything is connected to.
func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encrypted, err := os.ReadFile("../../../ingest/inbox/testdata/encrypted_key") // with the passphrase sesame
	if err != nil {
		t.Fatal(err)
	}
	good := SFTP{
		Address: "sftp.example.com:22", User: "acme", KnownHostsFile: write("known_hosts", ""),
		PrivateKeyFile: write("key", string(encrypted)), PassphraseFile: write("passphrase", "sesame\n"), PasswordFile: write("password", "x\n"),
	}
	for name, c := range map[string]struct {
		change func(*SFTP)
		want   string
	}{
		"all good":            {func(*SFTP) {}, ""},
		"wrong passphrase":    {func(s *SFTP) { s.PassphraseFile = s.PasswordFile }, "cannot be opened with the passphrase"},
		"no passphrase":       {func(s *SFTP) { s.PassphraseFile = "" }, "is encrypted with a passphrase"},
		"missing passphrase":  {func(s *SFTP) { s.PassphraseFile = dir + "/none" }, "sftp.private_key_passphrase_file: cannot read"},
		"missing certificate": {func(s *SFTP) { s.CertificateFile = dir + "/none" }, "read the certificate"},
		"empty password":      {func(s *SFTP) { s.PasswordFile = write("empty", "\n") }, "exactly one line"},
		"agent":               {func(s *SFTP) { s.PrivateKeyFile, s.PassphraseFile, s.PasswordFile = "", "", "" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			c.change(&s)
			err := s.CheckFiles()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestSecretOfAnotherUser: systemd hands over credentials as files of root with an access
// list for our user. The list's mask shows as rights of the group.
func TestSecretOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	for mode, good := range map[os.FileMode]bool{0o400: true, 0o440: true, 0o640: true, 0o444: false, 0o644: false} {
		path := filepath.Join(dir, mode.String())
		if err := errors.Join(os.WriteFile(path, []byte("SECRET"), 0o600), os.Chmod(path, mode), os.Chown(path, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSecret("api.key_file", path); (err == nil) != good {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	if path, err := Find("given.yaml"); path != "given.yaml" || err != nil {
		t.Errorf("Find(given) = %q, %v", path, err)
	}
	if err := os.WriteFile("config.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := Find(""); path != "config.yaml" || err != nil {
		t.Errorf("Find() = %q, %v", path, err)
	}
}

func TestWithoutKey(t *testing.T) {
	got := WithoutKey([]string{"A=1", "BILLDROP_API_KEY=sk_test_x", "BILLDROP_API_KEYS=2", "billdrop_api_key=x"})
	if !slices.Equal(got, []string{"A=1", "BILLDROP_API_KEYS=2"}) {
		t.Errorf("%q", got)
	}
}

func TestShellWord(t *testing.T) {
	for path, want := range map[string]string{
		"/a/b.csv": "/a/b.csv", "/a b": "'/a b'", "/it's": `'/it'\''s'`, "$HOME": "'$HOME'", "~x": "'~x'",
	} {
		if got := ShellWord(path); got != want {
			t.Errorf("%s becomes %s, want %s", path, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m",
		time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v becomes %s, want %s", d, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(base)
	f.Add("a: &a [*a]")
	f.Add("merchant: ${")
	f.Add("feeds: [{columns: {? [a] : b}}]")
	f.Fuzz(func(t *testing.T, text string) {
		c, problems := parse([]byte(text), "/", noEnv, all)
		if len(problems) == 0 && (c == nil || len(c.Feeds) == 0 || c.Merchant == "" || c.Feeds[0].Amounts == "") {
			t.Error("accepted without what is required")
		}
		for _, p := range problems {
			if p.Line < 1 || p.What == "" {
				t.Errorf("problem without line or text: %+v", p)
			}
		}
	})
}
