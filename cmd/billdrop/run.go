package main

import (
	"context"
	"errors"
	"net"
	"slices"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/monitor"
	"billdrop/cmd/billdrop/payreport"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
)

type runCmd struct {
	Once   bool   `help:"Poll once, finish what is there, and exit: for cron."`
	Listen string `placeholder:"ADDR" help:"Serve a status page, /healthz, /readyz and /metrics there while it runs. A port alone is on loopback (default: none)."`
}

func (runCmd) Help() string {
	return `Without --once it polls until it is interrupted. On SIGTERM or SIGINT it waits for the requests in flight and exits; nothing is lost, and the next run continues from there. A second signal ends it at once. With --listen 9310, http://127.0.0.1:9310/ shows what it does.

Example: billdrop run --once --config /etc/billdrop/config.yaml`
}

// Run is the worker.
func (c *runCmd) Run(ctx context.Context, s *session) error {
	if !c.Once && s.json() {
		return usagef("--output json needs --once, because a worker that polls never completes a document").
			Hint("for log lines as JSON: --log-format json")
	}
	if c.Once && c.Listen != "" {
		return usagef("--listen serves a worker that stays, and --once ends at once").Hint("leave one of them out")
	}
	conf, err := loadConfig(s, config.Needs{Key: true, SFTP: true, OnFinish: true})
	if err != nil {
		return err
	}
	if !c.Once {
		return poll(ctx, s, conf, c.Listen)
	}
	files, err := runOnce(ctx, s, conf)
	if err == nil && len(files) == 0 && !s.json() {
		s.log.Info("no bill files were waiting")
	}
	return printFiles(s, files, err)
}

// poll polls until ctx is cancelled, with a status page if there is an address for it. If
// the port is taken or the address invalid, nothing is changed.
func poll(ctx context.Context, s *session, conf *config.Config, address string) error {
	var listener net.Listener
	if address != "" {
		var err error
		if listener, err = monitor.Listen(ctx, address); err != nil {
			return describe.Misused(err)
		}
		defer listener.Close() // a second time, if a server has closed it
		s.monitor = monitor.New(buildVersion())
	}
	var events *wiring.Reception
	if conf.Webhooks.Listen != "" {
		var err error
		if events, err = wiring.OpenReception(ctx, conf); err != nil {
			return err
		}
		defer events.Listener.Close() // likewise
	}
	m, err := s.kit().Assemble(ctx, conf, wiring.Job{Remote: true, Role: ingest.RoleRun, Forever: true})
	if err != nil {
		return err
	}
	reports, err := payreport.Open(ctx, conf, m, s.log, true)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	var page *monitor.Server
	if listener != nil {
		if page, err = servePage(s, m, reports, listener); err != nil {
			return errors.Join(err, reports.Close(), m.Close())
		}
	}
	var receiver *webhook.Server
	if events != nil {
		receiver = events.Serve(s.kit(), reports.Store)
	}
	ctx, endReports := reports.Start(ctx, receiver, conf.PollInterval)
	s.log.Info("billdrop is polling", "version", buildVersion(), "feeds", len(m.Feeds), "every", conf.PollInterval)
	err = m.Worker.Run(ctx, conf.PollInterval)
	receiver.Close()
	endReports()
	page.Close() // before the ledger, which it reads
	return errors.Join(err, reports.Close(), m.Close())
}

// servePage serves the machine's status page until the server is closed.
func servePage(s *session, m *wiring.Machine, reports *payreport.Reports, listener net.Listener) (*monitor.Server, error) {
	site := monitor.Site{Worker: m.Worker, Ledger: m.Ledger, Feeds: m.Feeds, Version: buildVersion(), Log: s.log}
	if reports != nil {
		site.Payments = reports.Store
	}
	return s.monitor.Serve(listener, site)
}

// runOnce is one poll of all feeds.
func runOnce(ctx context.Context, s *session, conf *config.Config) ([]describe.Finished, error) {
	m, err := s.kit().Assemble(ctx, conf, wiring.Job{Remote: true, Role: ingest.RoleRun})
	if err != nil {
		return nil, err
	}
	reports, err := payreport.Open(ctx, conf, m, s.log, false)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	summaries, err := m.Worker.Poll(ctx)
	if ctx.Err() == nil && !errors.Is(err, ledger.ErrUnreachable) {
		err = errors.Join(err, reports.Once(ctx)) // also where the poll failed: it may be another feed's
	}
	err = errors.Join(err, reports.Close(), m.Close())
	results := make(map[string]string) // directory by feed
	for _, f := range m.Feeds {
		results[f.Name] = f.Dirs.Results
	}
	files := make([]describe.Finished, len(summaries))
	for i, summary := range summaries {
		files[i] = describe.Finished{Summary: summary, Dir: results[summary.Feed]}
	}
	return files, err
}

// printFiles prints what became of files. It returns err, which ended the work early, or
// errAttention if a file needs attention.
func printFiles(s *session, files []describe.Finished, err error) error {
	doc := describe.NewFilesDocument(files, err)
	printed := s.print(doc, func() string { return describe.Each(files, describe.Finished.Text) })
	switch {
	case err != nil:
		return err
	case printed != nil:
		return printed
	case slices.ContainsFunc(files, func(f describe.Finished) bool { return f.Summary.Attention() }):
		return errAttention
	}
	return nil
}
