package config

import (
	"strings"
	"testing"
)

// feedWith is a configuration whose only feed has more keys.
func feedWith(keys string) string {
	return "merchant: acme\nledger: sqlite:ledger.db\nspool_dir: spool\nfeeds:\n  - {name: bills" + keys + "}\n"
}

func TestPresetAndTemplate(t *testing.T) {
	for keys, want := range map[string]string{ // key and part of what is said about it; "" = valid
		", preset: moment-daily":                 "",
		", preset: moment-daily, amounts: major": "",
		", preset: moment-daily, bill_reference: \"M-{customer_reference}-{due_date}\"": "",
		", preset: moment-daily, columns: {Surname: last_name, Cell: customer_phone}":   "",
		", amounts: minor, bill_reference: \"{account_reference}_{metadata.period}\"":   "",
		", preset: moment-daily, amounts: minor":                                        "feeds[0].amounts: is not how files of preset moment-daily write amounts; leave amounts out",
		", preset: moment-weekly, amounts: minor":                                       "feeds[0].preset: is not a known preset; write one of moment-daily",
		", preset: moment-weekly":                                                       "feeds[0].amounts: is missing",
		", amounts: minor, columns: {Surname: last_name}":                               "feeds[0].columns.Surname: is not mapped to a known field",
		", preset: moment-daily, columns: {Surname: lastname}":                          "did you mean last_name?",
		", amounts: minor, bill_reference: \"{due_day}\"":                               "feeds[0].bill_reference: names a field that does not exist",
		", amounts: minor, bill_reference: \"{customer_email}\"":                        "feeds[0].bill_reference: names customer_email",
		", amounts: minor, bill_reference: \"2026-11\"":                                 "feeds[0].bill_reference: names no field",
		", amounts: minor, bill_reference: \"{due_date\"":                               "feeds[0].bill_reference: has a brace that is not closed",
		", preset: moment-daily, bill_reference: \"sk_secret/{due_date}\"":              "feeds[0].bill_reference: has characters",
	} {
		_, problems := parse([]byte(feedWith(keys)), "/", noEnv, Needs{})
		said := (&Errors{File: "config.yaml", Problems: problems}).Error()
		if want == "" && len(problems) > 0 || !strings.Contains(said, want) {
			t.Errorf("%s: got %q, want %q", keys, said, want)
		}
		if strings.Contains(said, "secret") {
			t.Errorf("%s: the value is quoted: %s", keys, said)
		}
	}
}
