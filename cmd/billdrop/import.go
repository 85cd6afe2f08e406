package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/input"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest"
)

type importCmd struct {
	Files []string `arg:"" name:"FILE" help:"Bill files; - is standard input."`
	Feed  string   `placeholder:"NAME" help:"Feed whose format and merchant apply (default: the only one)."`
	Out   string   `placeholder:"DIR" help:"Directory for the reports, made if missing (default: beside each file)."`
}

func (importCmd) Help() string {
	return `The files stay where they are; their reports go beside them, or to --out. No SFTP server is needed. Imports of the feed that were cut short are finished first, with their reports where they were to go.

Example: billdrop import november.csv --feed bills --out reports/`
}

// Run imports one file after the other. It checks that all can be read before it sends
// anything.
func (c *importCmd) Run(ctx context.Context, s *session) error {
	if err := input.CheckFiles(c.Files); err != nil {
		return describe.Misused(err)
	}
	conf, err := loadConfig(s, config.Needs{Key: true, OnFinish: true})
	if err != nil {
		return err
	}
	i, err := chooseFeed(conf, c.Feed)
	if err != nil {
		return err
	}
	m, err := s.kit().Assemble(ctx, conf, wiring.Job{Role: ingest.RoleCommand})
	if err != nil {
		return err
	}
	files := make([]ingest.LocalFile, len(c.Files))
	shown := make(map[string]string) // directory of reports as the operator named it
	for n, path := range c.Files {
		out := c.Out
		if out == "" && path == input.Stdin {
			out = "." // standard input has no directory
		}
		files[n] = ingest.LocalFile{Path: path, In: input.Reader(ctx, s.stdin, path), Out: out}
		dir := cmp.Or(out, filepath.Dir(path))
		if abs, err := filepath.Abs(dir); err == nil {
			shown[abs] = dir
		}
	}
	imported, err := m.Worker.Import(ctx, m.Feeds[i], files)
	finished := make([]describe.Finished, len(imported))
	for n, f := range imported {
		finished[n] = describe.Finished{Summary: f.Summary, Dir: cmp.Or(shown[f.Results], f.Results)}
	}
	return printFiles(s, finished, errors.Join(err, m.Close()))
}
