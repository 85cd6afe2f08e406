package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
)

type pruneCmd struct {
	OlderThan age  `required:"" placeholder:"90d" help:"Least age of what goes, since the file came to its end: days (90d), weeks (12w) or years (7y)."`
	DryRun    bool `help:"Only tell what would go."`
}

func (pruneCmd) Help() string {
	return `Takes the records of finished files out of the ledger, with their rows and earlier attempts, and removes the reports of imported files from this machine. What keeps bills unique stays for good: every bill reference with its latest request, and the ids of customers and accounts. Files that are held or not finished stay, and so does everything on the SFTP server. A file that was pruned cannot be retried, and why tells less of its bills.

Example: billdrop prune --older-than 90d`
}

// age is a span of whole days.
type age time.Duration

var ageForm = regexp.MustCompile(`^([0-9]{1,5})([dwy])$`)

// UnmarshalText reads 90d, 12w or 7y.
func (a *age) UnmarshalText(text []byte) error {
	m := ageForm.FindStringSubmatch(string(text))
	if m == nil {
		return fmt.Errorf("%q is no age: say a whole number of days, weeks or years, such as 90d, 12w or 7y", text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	days := map[string]int{"d": 1, "w": 7, "y": 365}[m[2]]
	*a = age(time.Duration(n*days) * 24 * time.Hour)
	return nil
}

// Run prunes the ledger that the configuration names.
func (c *pruneCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	open := openLedger
	if c.DryRun {
		open = func(ctx context.Context, _ string) (ledger.Ledger, error) { return lookIntoLedger(ctx, conf) }
	}
	l, err := open(ctx, conf.LedgerPath())
	if err != nil {
		return err
	}
	before := time.Now().Add(-time.Duration(c.OlderThan))
	pruned, err := ingest.Prune(ctx, l, before, c.DryRun)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	if s.json() {
		return writeJSON(s.stdout, struct {
			ingest.Pruned
			Before time.Time `json:"before"`
			DryRun bool      `json:"dry_run"`
		}{pruned, before.UTC().Truncate(time.Second), c.DryRun})
	}
	verb := "pruned"
	if c.DryRun {
		verb = "would prune"
	}
	_, err = fmt.Fprintf(s.stdout, "%s: %s files with %s rows that came to their end before %s; %s local report files\n", verb,
		humanize.Comma(int64(pruned.Files)), humanize.Comma(int64(pruned.Rows)), before.Format(time.DateOnly), humanize.Comma(int64(pruned.Reports)))
	return err
}

type forgetCmd struct {
	CustomerReference string `arg:"" name:"CUSTOMER_REFERENCE" help:"Reference of the customer, as bill files have it; - reads references from standard input, one a line, which keeps them out of the shell's history."`
	Feed              string `placeholder:"NAME" help:"Only the merchant of this feed (default: the merchants of all feeds)."`
}

func (forgetCmd) Help() string {
	return `Removes from the ledger what ties the customer's reference, and those of the accounts that its bills are on, to the ids of Moment's: digests, for the ledger has no reference in clear. Bills stay, for without them one could be raised twice; they hold their own reference, ids and an amount. The biller's own rows stand in the bill files, in archive/ on the server, and in rejects files: remove them there. If a later file names the customer again, its id is asked for again. A customer that the ledger does not know exits with 2.

Example: billdrop forget CUST-000101`
}

// Run forgets one customer, or those that standard input names.
func (c *forgetCmd) Run(ctx context.Context, s *session) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	scopes := scopesOf(conf)
	if c.Feed != "" {
		i, err := chooseFeed(conf, c.Feed)
		if err != nil {
			return err
		}
		merchant := conf.Feeds[i].Merchant
		scopes = []ledger.Scope{{Merchant: merchant, Mode: "test"}, {Merchant: merchant, Mode: "live"}}
	}
	references := []string{c.CustomerReference}
	if c.CustomerReference == "-" {
		if references, err = readLines(s); err != nil {
			return err
		}
	}
	l, err := openLedger(ctx, conf.LedgerPath())
	if err != nil {
		return err
	}
	customers, parties, err := forget(ctx, l, scopes, references)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	if customers == 0 {
		return usagef("the ledger knows none of the customers asked for (%d); nothing was changed\nhint: check the spelling, capital letters included, and --feed", len(references))
	}
	if s.json() {
		err = writeJSON(s.stdout, map[string]int{"asked": len(references), "customers": customers, "parties": parties})
	} else {
		_, err = fmt.Fprintf(s.stdout, "forgotten: %d of %d customers, %d references of customers and accounts in all\n", customers, len(references), parties)
	}
	if err == nil && customers < len(references) {
		s.screen.warnf("%d of the customers asked for are none that the ledger knows; check the spelling, capital letters included", len(references)-customers)
		return errAttention
	}
	return err
}

// forget takes each reference out of every scope that knows it.
func forget(ctx context.Context, l ledger.Ledger, scopes []ledger.Scope, references []string) (customers, parties int, err error) {
	for _, reference := range references {
		known := false
		for _, scope := range scopes {
			n, err := l.Forget(ctx, scope, reference)
			if errors.Is(err, ledger.ErrNotFound) {
				continue
			}
			if err != nil {
				return customers, parties, err
			}
			known = true
			parties += n
		}
		if known {
			customers++
		}
	}
	return customers, parties, nil
}

// readLines reads standard input, without empty lines.
func readLines(s *session) ([]string, error) {
	var lines []string
	in := bufio.NewScanner(s.stdin)
	for in.Scan() {
		if line := strings.TrimSpace(in.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(lines) == 0 {
		return nil, usagef("standard input names no customer: write one reference a line")
	}
	return lines, nil
}
