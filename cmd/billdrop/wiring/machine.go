package wiring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/console"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/notify"
	"billdrop/ingest"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/transfer"
)

// Machine is a worker with everything that it needs.
type Machine struct {
	Worker   *ingest.Worker
	Ledger   ledger.Ledger
	progress *console.Progress
	notifier *notify.Notifier // nil if no feed has on_finish
	Feeds    []*ingest.Feed   // in the order of the configuration
	spool    *Spool           // nil where the ledger's lock keeps it for one worker
	server   *inbox.Pool      // the SFTP account, which all feeds share; nil if the command needs none
}

// Job is what a machine is for.
type Job struct {
	Remote  bool   // it needs the SFTP server
	Role    string // among workers that share a ledger; one of ingest's
	Forever bool   // it waits for a ledger that is out of reach as long as it takes
}

// Assemble builds the worker that the configuration describes. It checks the whole set-up
// before it opens the ledger, so a mistake, which is a describe.Misuse, changes nothing. The
// caller closes the machine.
func (k Kit) Assemble(ctx context.Context, c *config.Config, j Job) (*Machine, error) {
	lanes, err := k.Lanes(c)
	if j.Remote {
		err = errors.Join(err, c.SFTP.CheckFiles())
	}
	if err = errors.Join(err, c.CheckRights()); err != nil {
		return nil, describe.Misused(err)
	}
	var server *inbox.Pool
	if j.Remote {
		server = inbox.NewPool(c.SFTP.Account())
		if c.SFTP.LegacyAlgorithms {
			k.Screen.Warnf("sftp.legacy_algorithms is true: the connection may use algorithms that can be broken; ask the server's operator for current ones")
		}
	}
	feeds := make([]*ingest.Feed, len(c.Feeds))
	for i := range c.Feeds {
		feeds[i] = Feed(&c.Feeds[i], lanes[i])
		if j.Remote {
			feeds[i].Connect = func(ctx context.Context) (transfer.Remote, error) { return server.Open(ctx) }
		}
	}
	// The directory of orders too: another user who left the first order would own it.
	if err := os.MkdirAll(filepath.Join(c.SpoolDir, ingest.OrdersDir), 0o700); err != nil {
		return nil, describe.Misused(fmt.Errorf("spool_dir: %w", err)).Hint("make the directory, writable for the user that billdrop runs as")
	}
	location, err := engine.Configured(c, k.Log)
	if err != nil {
		return nil, err
	}
	if j.Forever {
		location.Patience = engine.Forever
	}
	var spool *Spool
	if location.Place.Shared() && j.Role == ingest.RoleRun {
		if spool, err = TakeSpool(c.SpoolDir); err != nil {
			return nil, err
		}
	}
	l, err := location.Open(ctx)
	if err != nil {
		return nil, errors.Join(err, spool.Release())
	}
	m := &Machine{
		Ledger: l, progress: console.NewProgress(k.Screen, k.Log, !k.NoProgress), notifier: notify.New(k.Log, c), Feeds: feeds,
		server: server, spool: spool,
	}
	progress, err := k.Monitor.Progress(ctx, l, feeds, m.progress)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	member := Member(c, j.Role)
	member.Dispatcher = engine.Dispatcher(l, k.Log)
	m.Worker, err = ingest.New(ingest.Options{
		Ledger: l, Spool: c.SpoolDir, Feeds: feeds, Log: k.Log, Progress: progress,
		Finished: m.notifier.Finished, Version: k.Version, Member: member,
	})
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close takes the progress bar off the screen, ends the connection to the SFTP server and
// releases the ledger. It then waits for the commands of on_finish, which may use the ledger
// through another billdrop.
func (m *Machine) Close() error {
	m.progress.Close()
	if m.server != nil {
		_ = m.server.Close() // returns nil
	}
	err := errors.Join(m.Ledger.Close(), m.spool.Release())
	m.notifier.Close()
	if err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// Order carries out an order about a file here. It withdraws earlier orders about the file, which
// this one replaces.
func (m *Machine) Order(ctx context.Context, spoolDir string, o ingest.Order, id string) (f describe.Finished, err error) {
	if err := ingest.WithdrawOrders(ctx, m.Ledger, spoolDir, id); err != nil {
		return f, err
	}
	if o == ingest.OrderReject {
		f.Summary, err = m.Worker.Reject(ctx, id)
	} else {
		f.Summary, err = m.Worker.Retry(ctx, id)
	}
	if err != nil {
		return f, err
	}
	record, err := m.Ledger.File(ctx, id)
	if err != nil {
		return f, err
	}
	f.Dir = record.Results
	return f, nil
}
