package main

import (
	"context"
	"errors"
	"net"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/ingest/ledger"
)

type receiveCmd struct{}

func (receiveCmd) Help() string {
	return `Receives the events of payments at webhooks.listen until it is interrupted, and does nothing else: for those who run "billdrop run --once" by cron, which reports what was received. Both use one ledger at the same time. A worker that stays ("billdrop run") receives by itself.

Example: billdrop receive --config /etc/billdrop/config.yaml`
}

// Run receives until ctx is cancelled.
func (c *receiveCmd) Run(ctx context.Context, s *session) error {
	if s.json() {
		return usagef("receive has no JSON form, because it never completes a document").hint("for log lines as JSON: --log-format json")
	}
	conf, err := loadConfig(s, config.Needs{Webhooks: true})
	if err != nil {
		return err
	}
	if err := conf.CheckRights(); err != nil {
		return usageError{err}
	}
	reception, err := openReception(ctx, conf)
	if err != nil {
		return err
	}
	location, err := engine.Configured(conf, s.log)
	var store ledger.Payments
	if err == nil {
		location.Patience = engine.Forever
		store, err = location.Payments(ctx)
	}
	if err != nil {
		return errors.Join(err, reception.listener.Close())
	}
	server := reception.serve(s, store)
	select {
	case <-ctx.Done():
		err = context.Cause(ctx)
	case err = <-server.Failed():
	}
	server.Close()
	return errors.Join(err, store.Close())
}

// reception is an address at which events are received, before anything answers there.
type reception struct {
	listener  net.Listener
	receivers []config.Receiver
}

// openReception opens webhooks.listen. If an address, a certificate or a secret is wrong, nothing
// is changed.
func openReception(ctx context.Context, conf *config.Config) (*reception, error) {
	receivers, err := conf.Receivers()
	if err == nil && conf.Webhooks.KeyFile != "" {
		err = config.CheckSecret("webhooks.key_file", conf.Webhooks.KeyFile)
	}
	if err != nil {
		return nil, usageError{err}
	}
	l, err := webhook.Listen(ctx, conf.Webhooks.Listen, conf.Webhooks.CertFile, conf.Webhooks.KeyFile)
	if err != nil {
		return nil, usageError{err}
	}
	return &reception{l, receivers}, nil
}

// serve answers there. The caller closes the server before the store.
func (r *reception) serve(s *session, store ledger.Payments) *webhook.Server {
	h := &webhook.Handler{Store: store, Log: s.log, Count: s.monitor.Delivery}
	for _, m := range r.receivers {
		scope := ledger.Scope{Merchant: m.Merchant, Mode: "test"}
		if m.Live {
			scope.Mode = "live"
		}
		h.Merchants = append(h.Merchants, webhook.Merchant{Scope: scope, Checks: m.Secrets})
		s.log.Info("receiving payment events", "address", r.listener.Addr().String(), "path", webhook.PathPrefix+m.Merchant, "mode", scope.Mode)
	}
	return webhook.Serve(r.listener, h)
}
