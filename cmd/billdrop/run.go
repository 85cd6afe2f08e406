package main

import (
	"context"
	"errors"
	"net"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/monitor"
	"billdrop/ingest"
	"billdrop/ingest/report"
)

type runCmd struct {
	Once   bool   `help:"Poll once, finish what is there, and exit: for cron."`
	Listen string `placeholder:"ADDR" help:"Serve a status page, /healthz, /readyz and /metrics there while it runs. A port alone is one of loopback (default: none)."`
}

func (runCmd) Help() string {
	return `Without --once it polls until it is interrupted. SIGTERM or SIGINT lets the requests in flight come back and exits; nothing is lost, and the next run goes on from there. A second one exits at once. With --listen 9310, http://127.0.0.1:9310/ shows what it does.

Example: billdrop run --once --config /etc/billdrop/config.yaml`
}

// Run is the worker.
func (c *runCmd) Run(ctx context.Context, s *session) error {
	if !c.Once && s.json() {
		return usagef("--output json needs --once: a worker that polls has no end at which to write one document; its log lines can be JSON with --log-format json")
	}
	if c.Once && c.Listen != "" {
		return usagef("--listen is for a worker that stays, and --once ends before anybody could look; leave one of them out")
	}
	conf, err := loadConfig(s, config.Needs{Key: true, SFTP: true, OnFinish: true})
	if err != nil {
		return err
	}
	if c.Once {
		files, err := runOnce(ctx, s, conf)
		if err == nil && len(files) == 0 && !s.json() {
			s.log.Info("no bill files were waiting")
		}
		return showFiles(s, files, err)
	}
	return runFor(ctx, s, conf, c.Listen)
}

// poll is a worker that polls until ctx is cancelled. It is shown on the listener, unless that is nil.
func poll(ctx context.Context, s *session, conf *config.Config, listener net.Listener) error {
	m, err := assemble(ctx, s, conf, true)
	if err != nil {
		return err
	}
	var page *monitor.Server
	if listener != nil {
		if page, err = openPage(s, m, listener); err != nil {
			return errors.Join(err, m.close())
		}
	}
	s.log.Info("billdrop is polling", "version", buildVersion(), "feeds", len(m.feeds), "every", conf.PollInterval)
	err = m.worker.Run(ctx, conf.PollInterval)
	page.Close() // before the ledger, which it reads
	return errors.Join(err, m.close())
}

// runOnce is one poll of everything that the configuration names: what cron, the demo and the tests do.
func runOnce(ctx context.Context, s *session, conf *config.Config) ([]finished, error) {
	m, err := assemble(ctx, s, conf, true)
	if err != nil {
		return nil, err
	}
	summaries, err := m.worker.Poll(ctx)
	err = errors.Join(err, m.close())
	files := make([]finished, len(summaries))
	for i, summary := range summaries {
		files[i] = finished{Summary: summary, where: resultsOf(m.feeds, summary)}
	}
	return files, err
}

// resultsOf is the directory that a feed's reports go to.
func resultsOf(feeds []*ingest.Feed, s report.Summary) string {
	for _, f := range feeds {
		if f.Name == s.Feed {
			return f.Dirs.Results
		}
	}
	return ""
}
