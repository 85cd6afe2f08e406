package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/input"
	"billdrop/cmd/billdrop/recheck"
	"billdrop/ingest/report"
)

type verifyCmd struct {
	FileIDs []string     `arg:"" optional:"" name:"FILE_ID" help:"Ids of finished files, as in their summaries."`
	Since   *input.Since `placeholder:"7d" help:"Verify every file that was finished since then: hours (24h), days (7d) or weeks (2w) ago."`
}

func (verifyCmd) Help() string {
	return `Asks the API for every bill that a file says exists, one request a bill and as fast as api.rate_limit allows, and writes STEM.verify.csv beside the file's reports. It changes nothing else, so it may be used while a worker runs. A finding is same, changed, voided, missing, or unknown where the API gave no answer. Exits 0 if all are the same, 1 if not, 3 if some are unknown.

Examples:
  billdrop verify 20261123-053000-1f2e3d4c
  billdrop verify --since 7d`
}

// Run verifies the files one after the other.
func (c *verifyCmd) Run(ctx context.Context, s *session) error {
	if (len(c.FileIDs) > 0) == (c.Since != nil) {
		return usagef("which files to verify is not clear: it takes either their ids or --since").Hint("write the ids that billdrop status lists, or --since 7d, and not both")
	}
	conf, err := loadConfig(s, config.Needs{Key: true})
	if err != nil {
		return err
	}
	led, err := readLedger(ctx, s, conf)
	if err != nil {
		return err
	}
	bar := console.NewProgress(s.screen, s.log, !s.NoProgress)
	check := recheck.Recheck{Config: conf, Ledger: led, Kit: s.kit(), FileIDs: c.FileIDs, Progress: bar}
	if c.Since != nil {
		check.Since = time.Now().Add(-time.Duration(*c.Since))
	}
	done, err := check.Run(ctx)
	bar.Close()
	return printVerified(s, done, errors.Join(err, led.Close()))
}

// printVerified prints what was found. It returns err, or what the findings mean for the
// exit code.
func printVerified(s *session, done []recheck.File, err error) error {
	doc := struct {
		Files []recheck.File `json:"files"`
		Error string         `json:"error,omitempty"`
	}{Files: done}
	if doc.Files == nil {
		doc.Files = []recheck.File{}
	}
	if err != nil {
		if len(done) == 0 {
			return err
		}
		doc.Error = err.Error()
	}
	printed := s.print(doc, func() string { return recheck.Table(done) })
	unknown, differ := 0, 0
	for _, f := range done {
		unknown += f.Findings[report.Unverified]
		differ += f.Bills - f.Findings[report.Same] - f.Findings[report.Unverified]
	}
	switch {
	case err != nil:
		return err
	case printed != nil:
		return printed
	case unknown > 0:
		return describe.Advise(fmt.Errorf("the API gave no usable answer about %s", describe.Count(unknown, "bill")), "run it again when the API is well")
	case differ > 0:
		return errAttention
	}
	return nil
}
