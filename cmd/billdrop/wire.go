package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/notify"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/transfer"
)

// loadConfig finds and reads the configuration. Each of its errors is a usage error.
func loadConfig(s *session, needs config.Needs) (*config.Config, error) {
	path, err := config.Find(s.Config)
	if err != nil {
		return nil, usageError{err}
	}
	c, err := config.Load(path, s.env, needs)
	if err != nil {
		return nil, usageError{err}
	}
	if err := config.CheckFileRights(path); err != nil {
		return nil, usageError{err}
	}
	if key, _ := s.env(config.EnvAPIKey); key != "" && c.API.KeyFile != "" && needs.Key {
		s.screen.Warnf("%s is set and is used in place of api.key_file; unset one of the two", config.EnvAPIKey)
	}
	return c, nil
}

// machine is a worker with everything that it needs.
type machine struct {
	worker   *ingest.Worker
	ledger   ledger.Ledger
	progress *console.Progress
	notifier *notify.Notifier // nil if no feed has on_finish
	feeds    []*ingest.Feed   // in the order of the configuration
	spool    *wiring.Spool    // nil where the ledger's lock keeps it for one worker
	server   *inbox.Pool      // the SFTP account, which all feeds share; nil if the command needs none
}

// job is what a machine is for.
type job struct {
	remote  bool   // it needs the SFTP server
	role    string // among workers that share a ledger; one of ingest's
	forever bool   // it waits for a ledger that is out of reach as long as it takes
}

// assemble builds the worker that the configuration describes. It checks the whole set-up
// before it opens the ledger, so a mistake changes nothing. The caller closes the machine.
func assemble(ctx context.Context, s *session, c *config.Config, j job) (*machine, error) {
	lanes, err := s.kit().Lanes(c)
	if j.remote {
		err = errors.Join(err, c.SFTP.CheckFiles())
	}
	if err = errors.Join(err, c.CheckRights()); err != nil {
		return nil, usageError{err}
	}
	var server *inbox.Pool
	if j.remote {
		server = inbox.NewPool(c.SFTP.Account())
		if c.SFTP.LegacyAlgorithms {
			s.screen.Warnf("sftp.legacy_algorithms is true: the connection may use algorithms that can be broken; ask the server's operator for current ones")
		}
	}
	feeds := make([]*ingest.Feed, len(c.Feeds))
	for i := range c.Feeds {
		feeds[i] = wiring.Feed(&c.Feeds[i], lanes[i])
		if j.remote {
			feeds[i].Connect = func(ctx context.Context) (transfer.Remote, error) { return server.Open(ctx) }
		}
	}
	// The directory of orders too: another user who left the first order would own it.
	if err := os.MkdirAll(filepath.Join(c.SpoolDir, ingest.OrdersDir), 0o700); err != nil {
		return nil, usagef("spool_dir: %w", err).hint("make the directory, writable for the user that billdrop runs as")
	}
	location, err := engine.Configured(c, s.log)
	if err != nil {
		return nil, err
	}
	if j.forever {
		location.Patience = engine.Forever
	}
	var spool *wiring.Spool
	if location.Place.Shared() && j.role == ingest.RoleRun {
		if spool, err = wiring.TakeSpool(c.SpoolDir); err != nil {
			return nil, err
		}
	}
	l, err := location.Open(ctx)
	if err != nil {
		return nil, errors.Join(err, spool.Release())
	}
	m := &machine{
		ledger: l, progress: console.NewProgress(s.screen, s.log, !s.NoProgress), notifier: notify.New(s.log, c), feeds: feeds,
		server: server, spool: spool,
	}
	progress, err := s.monitor.Progress(ctx, l, feeds, m.progress)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	member := wiring.Member(c, j.role)
	member.Dispatcher = engine.Dispatcher(l, s.log)
	m.worker, err = ingest.New(ingest.Options{
		Ledger: l, Spool: c.SpoolDir, Feeds: feeds, Log: s.log, Progress: progress,
		Finished: m.notifier.Finished, Version: buildVersion(), Member: member,
	})
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// close takes the progress bar off the screen, ends the connection to the SFTP server and
// releases the ledger. It then waits for the commands of on_finish, which may use the ledger
// through another billdrop.
func (m *machine) close() error {
	m.progress.Close()
	if m.server != nil {
		_ = m.server.Close() // returns nil
	}
	err := errors.Join(m.ledger.Close(), m.spool.Release())
	m.notifier.Close()
	if err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// openLedger opens the ledger for writing.
func openLedger(ctx context.Context, s *session, c *config.Config) (ledger.Ledger, error) {
	location, err := engine.Configured(c, s.log)
	if err != nil {
		return nil, err
	}
	return location.Open(ctx)
}

// readLedger opens the ledger for reading, also while a worker uses it.
func readLedger(ctx context.Context, s *session, c *config.Config) (ledger.Ledger, error) {
	location, err := engine.Configured(c, s.log)
	if err != nil {
		return nil, err
	}
	led, err := location.Read(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, location.Missing()
	}
	return led, err
}

// kit is what the session gives to lanes.
func (s *session) kit() wiring.Kit {
	return wiring.Kit{Env: s.env, Log: s.log, Monitor: s.monitor, Version: buildVersion()}
}

// dial logs in to the SFTP server.
func dial(ctx context.Context, c *config.SFTP) (*inbox.Account, error) {
	return inbox.Dial(ctx, c.Account())
}

// chooseFeed returns the index of the feed that --feed names, or of the only feed.
func chooseFeed(c *config.Config, name string) (int, error) {
	for i := range c.Feeds {
		if c.Feeds[i].Name == name || name == "" && len(c.Feeds) == 1 {
			return i, nil
		}
	}
	err := usagef("there is no feed of that name")
	if name == "" {
		err = usagef("there are several feeds")
	}
	return 0, err.hint("name one with --feed: %s", strings.Join(c.FeedNames(), ", "))
}
