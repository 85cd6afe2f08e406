package main

import (
	"context"
	"errors"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest/ledger"
)

type statusCmd struct {
	FileID  string `arg:"" optional:"" name:"FILE_ID" help:"Id of a file, to see its rows that need attention."`
	Feed    string `placeholder:"NAME" help:"List only the files of this feed."`
	Limit   *int   `placeholder:"N" help:"Files listed at most; 0 = all (default: 20 in a table, all with --output json)."`
	MaxRows int    `placeholder:"N" default:"20" help:"With FILE_ID: rows listed at most for each thing to do; 0 = all (default: 20)."`
}

func (statusCmd) Help() string {
	return `Only reads the ledger, so it may be used while a worker runs. Without FILE_ID it lists the newest files, and the workers if several share the ledger, and exits 0. With FILE_ID it exits 1 if the file or one of its rows needs attention.

Examples:
  billdrop status
  billdrop status 20261123-053000-1f2e3d4c`
}

// defaultLimit bounds a table of files without --limit.
const defaultLimit = 20

// Run lists files, or shows what to do about one.
func (c *statusCmd) Run(ctx context.Context, s *session) error {
	if c.Limit != nil && *c.Limit < 0 || c.MaxRows < 0 {
		return usagef("--limit or --max-rows is negative").Hint("write how many to list at most, or 0 for all")
	}
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	led, err := readLedger(ctx, s, conf)
	if err != nil {
		return err
	}
	if c.FileID != "" {
		err = c.one(ctx, s, led)
	} else {
		err = c.list(ctx, s, led, conf)
	}
	return errors.Join(err, led.Close())
}

// one shows what to do about one file.
func (c *statusCmd) one(ctx context.Context, s *session, led ledger.Ledger) error {
	record, err := led.File(ctx, c.FileID)
	if err != nil {
		return describe.AdviseOrder(c.FileID, err)
	}
	f, err := describe.ReadFile(ctx, led, record)
	if err != nil {
		return err
	}
	todo := f.ToDo()
	if _, err := todo.Read(ctx, led, f.ID, describe.Range{Most: c.MaxRows}); err != nil {
		return err
	}
	err = s.print(map[string]any{"files": []describe.Document{f.Document(&todo)}}, func() string { return f.Text(todo) })
	if err == nil && f.NeedsAttention() {
		return errAttention
	}
	return err
}

// list shows the newest files, and warns of expected files that are missing.
func (c *statusCmd) list(ctx context.Context, s *session, led ledger.Ledger, conf *config.Config) error {
	records, err := led.Files(ctx, ledger.Query{Feed: c.Feed, ExcludeDropped: true})
	if err != nil {
		return err
	}
	limit := len(records)
	if c.Limit != nil && *c.Limit > 0 {
		limit = min(limit, *c.Limit)
	} else if c.Limit == nil && !s.json() {
		limit = min(limit, defaultLimit)
	}
	files, docs := make([]describe.File, limit), make([]describe.Document, limit)
	for i, record := range records[:limit] {
		if files[i], err = describe.ReadFile(ctx, led, record); err != nil {
			return err
		}
		docs[i] = files[i].Document(nil)
	}
	older := len(records) - limit
	missing, err := wiring.Missing(ctx, led, conf, c.Feed)
	if err != nil {
		return err
	}
	if !s.json() {
		for _, m := range missing {
			s.screen.Warnf("feed %s: %s", m.Feed, m.Text)
		}
	}
	workers, err := describe.ReadWorkers(ctx, led)
	if err != nil {
		return err
	}
	doc := map[string]any{"files": docs, "older": older, "missing": missing, "workers": workers}
	return s.print(doc, func() string {
		text := describe.List(files, older)
		if conf.LedgerPlace().Shared() {
			text += "\n" + describe.WorkerTable(workers)
		}
		return text
	})
}
