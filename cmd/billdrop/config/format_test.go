package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestFormatKeys: the keys that say how files are written and how much is read of them.
func TestFormatKeys(t *testing.T) {
	const rest = `
merchant: acme
api: {key_file: /etc/billdrop/api.key}
ledger: sqlite:/var/lib/billdrop/ledger.db
spool_dir: /var/lib/billdrop/spool
`
	for feed, says := range map[string]string{
		`amounts: major, decimal_separator: ","`:                   "",
		`preset: moment-daily, decimal_separator: ","`:             "",
		`amounts: minor, decimal_separator: "."`:                   "",
		`amounts: minor, short_rows: blank, total_row: allow`:      "",
		`amounts: minor, max_rows: 0, max_invalid_rows: 0`:         "",
		`amounts: minor, max_columns: 10000, ignore_columns: [""]`: "",
		`amounts: minor, decimal_separator: ","`:                   "decimal_separator",
		`amounts: major, decimal_separator: ";"`:                   "decimal_separator",
		`amounts: minor, short_rows: pad`:                          "short_rows",
		`amounts: minor, total_row: keep`:                          "total_row",
		`amounts: minor, max_columns: 0`:                           "max_columns",
		`amounts: minor, max_columns: 10001`:                       "max_columns",
		`amounts: minor, max_rows: -1`:                             "max_rows",
		`amounts: minor, max_invalid_rows: -5`:                     "max_invalid_rows",
	} {
		_, problems := parse([]byte(rest+"feeds: [{name: bills, "+feed+"}]\n"), "/", noEnv, Needs{})
		var text strings.Builder
		for _, p := range problems {
			fmt.Fprintln(&text, p)
		}
		if says == "" && len(problems) > 0 || says != "" && (len(problems) != 1 || !strings.Contains(text.String(), says)) {
			t.Errorf("%s: %s", feed, text.String())
		}
	}
}
