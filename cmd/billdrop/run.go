package main

import (
	"context"
	"errors"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/report"
)

type runCmd struct {
	Once bool `help:"Poll once, finish what is there, and exit: for cron."`
}

func (runCmd) Help() string {
	return `Without --once it polls until it is interrupted. SIGTERM or SIGINT lets the requests in flight come back and exits; nothing is lost, and the next run goes on from there. A second one exits at once.

Example: billdrop run --once --config /etc/billdrop/config.yaml`
}

// Run is the worker.
func (c *runCmd) Run(ctx context.Context, s *session) error {
	if !c.Once && s.json() {
		return usagef("--output json needs --once: a worker that polls has no end at which to write one document; its log lines can be JSON with --log-format json")
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
	m, err := assemble(ctx, s, conf, true)
	if err != nil {
		return err
	}
	s.log.Info("billdrop is polling", "version", buildVersion(), "feeds", len(m.feeds), "every", conf.PollInterval)
	return errors.Join(m.worker.Run(ctx, conf.PollInterval), m.close())
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
