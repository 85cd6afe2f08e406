package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
)

type copyCmd struct {
	From string `arg:"" name:"FROM" help:"Ledger to copy: sqlite:PATH, or postgres://USER@HOST/DATABASE."`
	To   string `arg:"" name:"TO" help:"Empty ledger to copy it into, written in the same way."`
}

func (copyCmd) Help() string {
	return `Takes a ledger from SQLite to PostgreSQL, or back: whole, with the payments that were received, and checked by counts and digests. No worker may run on either, and the second one must hold no file, bill or party. Stop "billdrop receive", too: a payment that it records later is in the first one alone. Passwords are those of the configuration if it names the same address as its ledger, else of PGPASSWORD or a passfile. A copy that was cut short is refused by every command. It exits with 2 if one of the two cannot be used.

Example: billdrop ledger copy sqlite:/var/lib/billdrop/ledger.db postgres://billdrop@db.example.com/billdrop`
}

// Run copies one ledger into the other.
func (c *copyCmd) Run(ctx context.Context, s *session) error {
	from, err := named(s, "FROM", c.From)
	if err != nil {
		return err
	}
	to, err := named(s, "TO", c.To)
	if err != nil {
		return err
	}
	copied, err := engine.Copy(ctx, from, to)
	if errors.Is(err, engine.ErrNotCopied) {
		return describe.Misused(err)
	}
	if err != nil {
		return err
	}
	doc := map[string]any{"from": from.Place.String(), "to": to.Place.String(), "copied": copied}
	return s.print(doc, func() string {
		return fmt.Sprintf("%s: a copy of %s, complete and checked: %s\nUse one of the two from now on: write it as ledger in the configuration, and put the other away.\n",
			to.Place, from.Place, describe.LedgerCounts(copied))
	})
}

// named returns where a ledger is that an argument names.
func named(s *session, argument, text string) (engine.Location, error) {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil && !errors.Is(err, config.ErrNone) {
		return engine.Location{}, err
	}
	l, err := engine.Named(text, conf, s.log)
	if err != nil {
		return l, usagef("%s %w", argument, err)
	}
	return l, nil
}

type ledgerVerifyCmd struct {
	Ledger string `arg:"" optional:"" name:"LEDGER" help:"Ledger to verify: sqlite:PATH, or postgres://USER@HOST/DATABASE (default: that of the configuration)."`
}

func (ledgerVerifyCmd) Help() string {
	return `Compares bills, outcomes and attempts with the digests that the ledger keeps of them, and names each row that was changed, added or removed by another program. It only reads, and a worker may be running. It exits with 0 if all is as it was recorded, with 1 if not.

Example: billdrop ledger verify`
}

// Run verifies one ledger.
func (c *ledgerVerifyCmd) Run(ctx context.Context, s *session) error {
	var l engine.Location
	var err error
	if c.Ledger != "" {
		l, err = named(s, "LEDGER", c.Ledger)
	} else {
		var conf *config.Config
		if conf, err = loadConfig(s, config.Needs{}); err == nil {
			l, err = engine.Configured(conf, s.log)
		}
	}
	if err != nil {
		return err
	}
	checked, found, err := engine.Verify(ctx, l)
	if err != nil {
		return err
	}
	doc := map[string]any{"ledger": l.Place.String(), "ok": len(found) == 0, "checked": checked, "findings": found}
	err = s.print(doc, func() string {
		var b strings.Builder
		for _, f := range found {
			fmt.Fprintf(&b, "%s %s: %s\n", f.Table, f.Row, f.What)
		}
		if len(found) == 0 {
			fmt.Fprintf(&b, "%s is as it was recorded: %s\n", l.Place, describe.LedgerCounts(checked))
			return b.String()
		}
		fmt.Fprintf(&b, "%s is not as it was recorded: %s. Another program has written to it, or its disk is damaged: find out which, and restore a backup.\n",
			l.Place, describe.Count(len(found), "finding"))
		return b.String()
	})
	if err == nil && len(found) > 0 {
		return errAttention
	}
	return err
}
