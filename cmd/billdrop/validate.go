package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/billfile"
	"billdrop/ingest/preview"
)

const (
	// defaultProblems are listed at most where nobody says how many.
	defaultProblems = 1000
	// screenful is how many problems a person is shown unasked; of more than that, the first few of each code.
	screenful = 50
)

type validateCmd struct {
	Files       []string `arg:"" name:"FILE" help:"Bill files; - is standard input."`
	Feed        string   `placeholder:"NAME" help:"Feed whose format applies (default: the only one)."`
	Amounts     string   `enum:"minor,major," default:"" help:"How amount_due is written: minor (2000 = R20.00) or major (20.00 = R20.00). Needed without a configuration file."`
	Preset      string   `placeholder:"NAME" help:"Format that somebody else has set: moment-daily (Moment's own daily file). --amounts is not needed with it."`
	Currency    string   `placeholder:"CUR" help:"Currency of rows that name none, such as ZAR."`
	Out         string   `placeholder:"DIR" help:"Directory for results, rejects and summary, made where missing (default: none are written)."`
	MaxProblems *int     `placeholder:"N" help:"Problems listed at most; 0 = all (default: 1000; on the screen, where there are more than 50, the first 5 of each code)."`
}

func (validateCmd) Help() string {
	return `Touches no network and no ledger. Every problem of every row is named with its line and column. Exits 0 when every row may be sent, 1 when not.

Example: billdrop validate november.csv --amounts minor --currency ZAR`
}

// Run checks one file after the other.
func (c *validateCmd) Run(ctx context.Context, s *session) error {
	most := defaultProblems
	if c.MaxProblems != nil {
		most = *c.MaxProblems
	}
	if most < 0 {
		return usagef("--max-problems is negative; write how many to list at most, or 0 for all")
	}
	if err := checkFiles(c.Files); err != nil {
		return err
	}
	feed, err := c.feed(s)
	if err != nil {
		return err
	}
	check := preview.Check{
		Format: buildFormat(feed), RejectInvalid: feed.OnInvalid == "reject", Out: c.Out, MaxProblems: most, Version: buildVersion(),
	}
	found := make([]preview.Validation, 0, len(c.Files))
	for _, path := range c.Files {
		check.Path, check.In = path, nil
		if path == stdinName {
			check.In = s.stdin
		}
		v, err := preview.Validate(ctx, check)
		if err != nil {
			return err
		}
		found = append(found, v)
	}
	if err := c.show(s, found); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	if slices.ContainsFunc(found, func(v preview.Validation) bool { return v.Outcome != preview.OutcomeValid }) {
		return errAttention
	}
	return nil
}

// feed is the feed of the configuration, if there is one, with what the flags say instead; without a
// configuration it is a default feed, of which the flags must tell the amounts.
func (c *validateCmd) feed(s *session) (*config.Feed, error) {
	conf, err := loadConfig(s, config.Needs{})
	var feed config.Feed
	switch {
	case err == nil:
		i, err := chooseFeed(conf, c.Feed)
		if err != nil {
			return nil, err
		}
		feed = conf.Feeds[i]
	case !errors.Is(err, config.ErrNone):
		return nil, err
	case c.Feed != "":
		return nil, usagef("--feed names a feed of a configuration file, and there is none; name one with --config FILE")
	case c.Amounts == "" && c.Preset == "":
		return nil, usagef("there is no configuration file to say how amounts are written; say --amounts minor if 2000 means R20.00, or --amounts major if 20.00 does (or --preset moment-daily for Moment's daily file)")
	default:
		feed = config.DefaultFeed()
	}
	if c.Preset != "" {
		feed.Preset, feed.Amounts = c.Preset, ""
	}
	feed.Amounts = cmp.Or(c.Amounts, feed.Amounts)
	if err := checkPreset(&feed); err != nil {
		return nil, err
	}
	if c.Currency != "" {
		feed.Currency = strings.ToUpper(c.Currency)
		if len(feed.Currencies) > 0 && !slices.Contains(feed.Currencies, feed.Currency) {
			return nil, usagef("--currency is not among the feed's currencies (%s); write one of them", list(feed.Currencies))
		}
	}
	return &feed, nil
}

// checkPreset holds what the flags say of preset and amounts to each other, and to the feed.
func checkPreset(feed *config.Feed) error {
	all := billfile.Presets()
	i := slices.IndexFunc(all, func(p billfile.Preset) bool { return p.Name == feed.Preset })
	switch {
	case feed.Preset == "":
	case i < 0:
		var names []string
		for _, p := range all {
			names = append(names, p.Name)
		}
		return usagef("--preset is not a known one; write one of %s", strings.Join(names, ", "))
	case feed.Amounts != "" && buildFormat(feed).Amounts != all[i].Amounts:
		return usagef("preset %s has its own way to write amounts; leave --amounts out", feed.Preset)
	}
	return nil
}

func (c *validateCmd) show(s *session, found []preview.Validation) error {
	if s.json() {
		return writeJSON(s.stdout, map[string]any{"files": found})
	}
	var b strings.Builder
	for i := range found {
		if i > 0 {
			b.WriteByte('\n')
		}
		showValidation(&b, &found[i], c.MaxProblems == nil && found[i].ProblemsTotal > screenful)
		if v := &found[i]; v.Stem != "" {
			fmt.Fprintf(&b, "  reports: %s/%s.*\n", strings.TrimSuffix(c.Out, "/"), v.Stem)
		}
	}
	_, err := io.WriteString(s.stdout, b.String())
	return err
}

// showValidation tells a person what is wrong with a file: how many problems of each code, then the problems by code, or
// with few only the first few of each.
func showValidation(b *strings.Builder, v *preview.Validation, few bool) {
	switch {
	case v.Code != "":
		at := ""
		if v.Line > 0 {
			at = fmt.Sprintf("line %d: ", v.Line)
		}
		fmt.Fprintf(b, "%s: rejected (%s)\n  %s%s\n", v.File, v.Code, at, v.Detail)
	case v.Rows.Invalid > 0:
		fmt.Fprintf(b, "%s: %s of %s invalid\n", v.File, grouped(int64(v.Rows.Invalid)), count(v.Rows.Total, "row"))
	default:
		fmt.Fprintf(b, "%s: valid, %s%s\n", v.File, count(v.Rows.Total, "row"), sums(v.Amounts))
	}
	if v.ProblemsTotal == 0 {
		return
	}
	t := newTable()
	t.AppendHeader([]any{"code", "problems"})
	codes := slices.SortedFunc(maps.Keys(v.ByCode), func(x, y string) int {
		return cmp.Or(cmp.Compare(v.ByCode[y], v.ByCode[x]), cmp.Compare(x, y))
	})
	for _, code := range codes {
		t.AppendRow([]any{code, grouped(int64(v.ByCode[code]))})
	}
	fmt.Fprintf(b, "%s\n\n", t.Render())
	shown := v.First
	if !few {
		shown = map[string][]preview.FoundProblem{}
		for _, p := range v.Problems {
			shown[p.Code] = append(shown[p.Code], p)
		}
	}
	listed := 0
	for _, code := range codes {
		for _, p := range shown[code] {
			showProblem(b, p)
		}
		listed += len(shown[code])
		if cut := v.ByCode[code] - len(shown[code]); cut > 0 && len(shown[code]) > 0 {
			fmt.Fprintf(b, "  … and %s more of %s\n", count(cut, "problem"), code)
		}
	}
	if cut := v.ProblemsTotal - listed; cut > 0 {
		fmt.Fprintf(b, "  … and %s more; --max-problems 0 lists all\n", count(cut, "problem"))
	}
	if len(v.Amounts) > 0 {
		fmt.Fprintf(b, "  valid: %s%s\n", count(v.Rows.Valid, "row"), sums(v.Amounts))
	}
}

func showProblem(b *strings.Builder, p preview.FoundProblem) {
	fmt.Fprintf(b, "  line %d", p.Line)
	if p.Column != "" {
		fmt.Fprintf(b, ", column %s", p.Column)
	}
	fmt.Fprintf(b, ": %s: %s\n", p.Code, p.Detail)
}

// showProblems lists what is wrong, row by row.
func showProblems(b *strings.Builder, v *preview.Validation) {
	for _, p := range v.Problems {
		showProblem(b, p)
	}
	if cut := v.ProblemsTotal - len(v.Problems); cut > 0 {
		fmt.Fprintf(b, "  … and %s more; --max-problems 0 lists all\n", count(cut, "problem"))
	}
}

// sums writes ", ZAR 1,234.56" for each currency.
func sums(amounts map[string]int64) string {
	var b strings.Builder
	for _, currency := range slices.Sorted(maps.Keys(amounts)) {
		fmt.Fprintf(&b, ", %s %s", currency, majorUnits(currency, amounts[currency]))
	}
	return b.String()
}
