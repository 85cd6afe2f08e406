package wiring

import (
	"encoding/json"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
)

// Member returns what a worker is among those that share its ledger. role is one of ingest's.
func Member(c *config.Config, role string) ingest.Member {
	m := ingest.Member{Name: c.Worker.Name, Role: role, LostAfter: c.Worker.LostAfter, Formats: make(map[string]map[string]string)}
	if role != ingest.RoleRun {
		m.Name = "" // the name is the worker's that stays, and a command may run beside it
	}
	for i := range c.Feeds {
		m.Formats[c.Feeds[i].Name] = formatKeys(&c.Feeds[i])
	}
	return m
}

// formatKeys are the keys of a feed that say how its rows are read, for whom, and which API
// they are sent to, with their values. Values differ where billfile.Format.Fingerprint does: a
// file that was begun with one fingerprint cannot go on with another.
func formatKeys(f *config.Feed) map[string]string {
	format := Format(f)
	keys := map[string]string{"merchant": f.Merchant, "api.live": f.Scope().Mode, "api.base_url": spellURL(f.API.BaseURL)}
	for key, value := range map[string]any{
		"preset": format.Preset, "bill_reference": format.BillReference, "amounts": f.Amounts,
		"currency": format.Currency, "currencies": format.Currencies, "delimiter": f.Delimiter, "encoding": format.Encoding,
		"date_format": format.DateFormat, "phone_region": format.PhoneRegion, "columns": format.Columns,
		"ignore_columns": format.IgnoreColumns, "require_final_newline": f.RequireFinalNewline,
		"decimal_separator": f.DecimalSeparator, "short_rows": f.ShortRows, "total_row": f.TotalRow,
		"max_amount_due": format.MaxAmountDue,
	} {
		text, err := json.Marshal(value) // nil and empty differ in it, and maps are in the order of their keys
		if err != nil {
			panic("wiring: " + key + ": " + err.Error()) // not reached: all are texts, numbers, lists or maps of texts
		}
		keys[key] = string(text)
	}
	return keys
}
