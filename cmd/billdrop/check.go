package main

import (
	"context"
	"fmt"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/diagnose"
	"billdrop/ingest/inbox"
)

type checkCmd struct {
	Fix bool `help:"Make the spool directory and the feeds' directories on the server if they are missing."`
}

func (checkCmd) Help() string {
	return `Prints a line for each thing: ok, or exactly what to do. It looks up one bill that cannot exist, logs in to the SFTP server, and writes, moves and deletes a small hidden file in the directories there. It sends no bill and does not write to the ledger, so it may be used while a worker runs. Exits 0 if all is well, 2 if the configuration or a key file is at fault, 3 if something else is.

Example: billdrop check --fix`
}

// Run checks everything that can be checked, whatever fails on the way.
func (c *checkCmd) Run(ctx context.Context, s *session) error {
	lines := []diagnose.Line{}
	result := diagnose.Run(ctx, diagnose.Options{
		Config: s.Config, Fix: c.Fix, Env: s.env,
		Dial: func(ctx context.Context, c *config.SFTP) (*inbox.Account, error) { return inbox.Dial(ctx, c.Account()) },
		Lane: func(conf *config.Config, f *config.Feed) (diagnose.Probe, string, error) {
			return s.kit().Lane(conf, f)
		},
		Report: func(l diagnose.Line) {
			lines = append(lines, l)
			if !s.json() {
				fmt.Fprintf(s.stdout, "%-7s  %-18s  %s\n", l.Status, l.Check, console.Clean(l.Detail))
			}
		},
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.json() {
		if err := s.print(map[string]any{"ok": result.Failed() == 0, "checks": lines}, nil); err != nil {
			return err
		}
	}
	if result.Failed() == 0 {
		return nil
	}
	err := describe.Advise(fmt.Errorf("%s failed", describe.Count(result.Failed(), "check")),
		"correct what the lines say, then run again: billdrop check")
	if result.Misconfigured > 0 {
		return describe.Misused(err)
	}
	return err
}
