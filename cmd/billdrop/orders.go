package main

import (
	"context"
	"errors"
	"fmt"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// leaveOrder queues an order for the billdrop that holds the ledger. If the order cannot
// be queued, the error is ledger.ErrLocked.
func leaveOrder(ctx context.Context, s *session, conf *config.Config, o ingest.Order, id string) (*describe.Ordered, error) {
	locked := func(why error) error {
		return fmt.Errorf("%w (%s), and no order can be left for it: %w", ledger.ErrLocked, conf.LedgerPlace(), why)
	}
	led, err := readLedger(ctx, s, conf)
	if err != nil {
		return nil, locked(err)
	}
	f, err := ingest.LeaveOrder(ctx, led, conf.SpoolDir, o, id)
	switch err = errors.Join(err, led.Close()); {
	case errors.Is(err, ledger.ErrNotFound), errors.Is(err, ingest.ErrNotApplicable), errors.Is(err, ingest.ErrNothingToDo):
		return nil, err
	case err != nil:
		return nil, locked(err)
	}
	return describe.OrderOn(o, f), nil
}

// pollText is how often a worker looks for orders, as Ordered.Text wants it.
func pollText(conf *config.Config) string {
	if conf.LedgerPlace().Shared() {
		return ""
	}
	return config.Duration(conf.PollInterval)
}

// order executes an order about a file that rests here, or queues it for the process that
// holds the ledger. It prints the result, and returns the errors of printFiles.
func order(ctx context.Context, s *session, o ingest.Order, id string) error {
	conf, err := loadConfig(s, config.Needs{})
	if err != nil {
		return err
	}
	// Where the holder can be seen, the order needs neither key nor server.
	if pid, _ := (engine.Location{Place: conf.LedgerPlace()}).Holder(); pid != 0 {
		return queueOrder(ctx, s, conf, o, id)
	}
	if conf, err = loadConfig(s, config.Needs{Key: true, OnFinish: true}); err != nil {
		return err
	}
	m, err := s.kit().Assemble(ctx, conf, wiring.Job{Remote: conf.SFTP.Address != "", Role: ingest.RoleCommand})
	if errors.Is(err, ledger.ErrLocked) {
		return queueOrder(ctx, s, conf, o, id)
	}
	if err != nil {
		return err
	}
	f, err := m.Order(ctx, conf.SpoolDir, o, id)
	left, closed := describe.LeftOrder(err), m.Close()
	if left != nil && closed == nil {
		return printOrdered(s, conf, left)
	}
	if err = errors.Join(err, closed); err != nil {
		return orderFailed(s, id, err)
	}
	return printFiles(s, []describe.Finished{f}, nil)
}

func queueOrder(ctx context.Context, s *session, conf *config.Config, o ingest.Order, id string) error {
	left, err := leaveOrder(ctx, s, conf, o, id)
	if err != nil {
		return orderFailed(s, id, err)
	}
	return printOrdered(s, conf, left)
}

func printOrdered(s *session, conf *config.Config, left *describe.Ordered) error {
	return s.print(describe.FilesDocument{Files: []report.Summary{}, Ordered: left}, func() string { return left.Text(pollText(conf)) })
}

// orderFailed prints a document without files, unless nothing was changed.
func orderFailed(s *session, id string, err error) error {
	switch {
	case errors.Is(err, ingest.ErrNothingToDo):
		s.log.Info(err.Error())
		return printFiles(s, nil, nil)
	case errors.Is(err, ledger.ErrNotFound), errors.Is(err, ingest.ErrNotApplicable):
		return describe.AdviseOrder(id, err)
	case errors.Is(err, ledger.ErrLocked):
		return err
	}
	return printFiles(s, nil, err)
}
