package main

import (
	"context"
	"net"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/monitor"
	"billdrop/ingest/ledger"
)

// runFor is a worker that polls until ctx is cancelled, with a status page where an address is named for it.
func runFor(ctx context.Context, s *session, conf *config.Config, address string) error {
	if address == "" {
		return poll(ctx, s, conf, nil)
	}
	listener, err := monitor.Listen(ctx, address)
	if err != nil {
		return usageError{err}
	}
	defer listener.Close() // unless a server has taken it over, and closed it by then
	s.monitor = monitor.New(buildVersion())
	return poll(ctx, s, conf, listener)
}

// openPage shows the machine on the listener until the server is closed.
func openPage(s *session, m *machine, listener net.Listener) (*monitor.Server, error) {
	server, err := s.monitor.Serve(listener, monitor.Site{
		Worker: m.worker, Ledger: m.ledger, Feeds: m.feeds, Teller: pageWords{}, Version: buildVersion(), Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("status page", "url", "http://"+listener.Addr().String()+"/", "metrics", "/metrics", "health", "/healthz, /readyz")
	if !monitor.IsLoopback(listener) {
		s.log.Warn("the status page has no login: whoever reaches this address reads file names, bill references and sums; let only those through who may, or listen on loopback",
			"address", listener.Addr().String())
	}
	return server, nil
}

// pageWords has the page say what `status` says.
type pageWords struct{}

var _ monitor.Teller = pageWords{}

// File implements monitor.Teller.
func (pageWords) File(ctx context.Context, led ledger.Ledger, f *ledger.File) (monitor.File, error) {
	status, summary, err := readStatus(ctx, led, f)
	if err != nil {
		return monitor.File{}, err
	}
	told := monitor.File{
		File: f, Words: status.stateWords(), Attention: status.needsAttention(), Rows: status.Rows.Total, Needing: status.Rows.Attention(),
		ByStatus: status.Rows.By, Billed: status.billed(),
	}
	if summary.Rows.Total -= status.RowsOpen; summary.Rows.Total > 0 {
		told.Sums = sumsOf(summary)
	}
	for _, g := range groups(f, summary).Groups {
		told.ToDo = append(told.ToDo, monitor.ToDo{Do: g.Do, Title: g.title(), Advice: g.Advice, Statuses: g.Statuses, Count: g.Count})
	}
	if f.Stem != "" {
		told.Reports = reportPaths(finished{Summary: summary, where: f.Results})
	}
	return told, nil
}

// Number implements monitor.Teller.
func (pageWords) Number(n int64) string { return grouped(n) }
