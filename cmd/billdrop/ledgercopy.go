package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
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
	return `Takes a ledger from SQLite to PostgreSQL, or back: whole, and checked by counts and digests. No worker may run on either, and the second one must hold no file, bill or party. Passwords are those of the configuration if it names the same address as its ledger, else of PGPASSWORD or a passfile. A copy that was cut short is refused by every command. It exits with 2 if one of the two cannot be used.

Example: billdrop ledger copy sqlite:/var/lib/billdrop/ledger.db postgres://billdrop@db.example.com/billdrop`
}

// Run copies one ledger into the other.
func (c *copyCmd) Run(ctx context.Context, s *session) error {
	from, err := location(s, "FROM", c.From)
	if err != nil {
		return err
	}
	to, err := location(s, "TO", c.To)
	if err != nil {
		return err
	}
	copied, err := engine.Copy(ctx, from, to)
	if err != nil {
		return err
	}
	doc := map[string]any{"from": from.Place.String(), "to": to.Place.String(), "copied": copied}
	return s.print(doc, func() string {
		return fmt.Sprintf("%s: a copy of %s, complete and checked: %s\nUse one of the two from now on: write it as ledger in the configuration, and put the other away.\n",
			to.Place, from.Place, copied)
	})
}

// location returns where a ledger is that an argument names.
func location(s *session, argument, text string) (engine.Location, error) {
	if !strings.Contains(text, ":") && text != "" {
		text = "sqlite:" + text // a path alone cannot be mistaken
	}
	place, err := config.ParsePlace(text)
	if err != nil {
		return engine.Location{}, usagef("%s %w", argument, err)
	}
	if !place.Shared() {
		if place.Path, err = filepath.Abs(place.Path); err != nil {
			return engine.Location{}, usageError{err}
		}
	}
	conf, err := loadConfig(s, config.Needs{})
	switch {
	case errors.Is(err, config.ErrNone):
		return engine.Location{Place: place, Patience: engine.ReadPatience, Log: s.log}, nil
	case err != nil:
		return engine.Location{}, err
	}
	l, err := engine.Configured(conf, s.log)
	if l.Place != place {
		l.Password, err = "", nil
	}
	l.Place = place
	return l, err
}

type verifyCmd struct {
	Ledger string `arg:"" optional:"" name:"LEDGER" help:"Ledger to verify: sqlite:PATH, or postgres://USER@HOST/DATABASE (default: that of the configuration)."`
}

func (verifyCmd) Help() string {
	return `Compares bills, outcomes and attempts with the digests that the ledger keeps of them, and names each row that was changed, added or removed by another program. It only reads, and a worker may be running. It exits with 0 if all is as it was recorded, with 1 if not.

Example: billdrop ledger verify`
}

// Run verifies one ledger.
func (c *verifyCmd) Run(ctx context.Context, s *session) error {
	var l engine.Location
	var err error
	if c.Ledger != "" {
		l, err = location(s, "LEDGER", c.Ledger)
	} else {
		var conf *config.Config
		if conf, err = loadConfig(s, config.Needs{}); err == nil {
			l, err = engine.Configured(conf, s.log)
		}
	}
	if err != nil {
		return err
	}
	verified, err := engine.Verify(ctx, l)
	if err != nil {
		return err
	}
	doc := map[string]any{"ledger": l.Place.String(), "ok": len(verified.Findings) == 0, "checked": verified.Checked, "findings": verified.Findings}
	err = s.print(doc, func() string {
		var b strings.Builder
		for _, f := range verified.Findings {
			fmt.Fprintf(&b, "%s %s: %s\n", f.Table, f.Row, f.What)
		}
		if len(verified.Findings) == 0 {
			fmt.Fprintf(&b, "%s is as it was recorded: %s\n", l.Place, verified.Checked)
			return b.String()
		}
		fmt.Fprintf(&b, "%s: %s differ from what was recorded; another program has written to the ledger, or its disk is damaged. Restore a backup, or find out who did.\n",
			l.Place, describe.Count(len(verified.Findings), "row"))
		return b.String()
	})
	if err == nil && len(verified.Findings) > 0 {
		return errAttention
	}
	return err
}
