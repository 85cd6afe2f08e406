package wiring

import (
	"cmp"
	"net/url"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// Feed returns the feed that f configures, whose bills go through lane.
func Feed(f *config.Feed, lane *delivery.Lane) *ingest.Feed {
	return &ingest.Feed{
		Name:           f.Name,
		Lane:           lane,
		BaseURL:        spellURL(f.API.BaseURL),
		Dirs:           transfer.Dirs{Inbox: f.Inbox, Processing: f.Processing, Archive: f.Archive, Rejected: f.Rejected, Results: f.Results},
		Watch:          inbox.Watch{Pattern: f.Pattern, Ignore: f.Ignore, Settle: f.Settle, Marker: f.Marker},
		Format:         Format(f),
		RejectInvalid:  f.OnInvalid == "reject",
		MaxInvalidRows: f.MaxInvalidRows,
		Hold:           ingest.Hold{MaxInvalidPercent: f.Hold.MaxInvalidPercent, MaxRows: f.Hold.MaxRows, MaxTotal: f.Hold.MaxTotal},
		Expect:         Expect(f),
		Present:        (*delivery.Presenting)(f.Presenting()),
	}
}

// spellURL spells an address of the API always in the same way, for comparison.
func spellURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	u.Scheme, u.Host, u.Path = strings.ToLower(u.Scheme), strings.ToLower(u.Host), strings.TrimRight(u.Path, "/")
	for scheme, port := range map[string]string{"https": ":443", "http": ":80"} {
		if u.Scheme == scheme {
			u.Host = strings.TrimSuffix(u.Host, port)
		}
	}
	return u.String()
}

// Expect returns the file that a feed expects; nil if it expects none. The
// configuration was checked.
func Expect(f *config.Feed) *watch.Expect {
	by, ok := f.Expect.Clock()
	zone, err := f.Expect.Zone()
	if !ok || err != nil {
		return nil
	}
	return &watch.Expect{Pattern: cmp.Or(f.Expect.Pattern, f.Pattern), By: by, Zone: zone, Days: f.Expect.Weekdays()}
}

// Format returns the format of a feed's files. The configuration was checked.
func Format(f *config.Feed) billfile.Format {
	return billfile.Format{
		Preset:              f.Preset,
		BillReference:       f.BillReference,
		Amounts:             map[string]billfile.Amounts{"minor": billfile.Minor, "major": billfile.Major}[f.Amounts],
		Currency:            f.Currency,
		Currencies:          f.Currencies,
		Delimiter:           map[string]rune{"auto": 0, ",": ',', ";": ';', "tab": '\t', "|": '|'}[f.Delimiter],
		Encoding:            f.Encoding,
		DateFormat:          f.DateFormat,
		PhoneRegion:         f.PhoneRegion,
		Columns:             f.Columns,
		IgnoreColumns:       f.IgnoreColumns,
		AllowNoFinalNewline: !f.RequireFinalNewline,
		MaxAmountDue:        f.MaxAmountDue,
		DecimalComma:        f.DecimalSeparator == ",",
		ShortRows:           f.ShortRows == "blank",
		AllowTotalRow:       f.TotalRow == "allow",
		MaxFileSize:         int64(f.MaxFileSize),
		MaxRows:             f.MaxRows,
		MaxColumns:          f.MaxColumns,
	}
}
