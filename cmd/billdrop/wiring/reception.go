package wiring

import (
	"context"
	"net"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/ingest/ledger"
)

// Reception is an address at which events are received, before anything answers there.
type Reception struct {
	Listener  net.Listener
	receivers []config.Receiver
}

// OpenReception opens webhooks.listen. If an address, a certificate or a secret is wrong, nothing
// is changed.
func OpenReception(ctx context.Context, conf *config.Config) (*Reception, error) {
	receivers, err := conf.Receivers()
	if err == nil && conf.Webhooks.KeyFile != "" {
		err = config.CheckSecret("webhooks.key_file", conf.Webhooks.KeyFile)
	}
	if err != nil {
		return nil, setupError{err}
	}
	l, err := webhook.Listen(ctx, conf.Webhooks.Listen, conf.Webhooks.CertFile, conf.Webhooks.KeyFile)
	if err != nil {
		return nil, setupError{err}
	}
	return &Reception{l, receivers}, nil
}

// Serve answers there. The caller closes the server before the store.
func (r *Reception) Serve(k Kit, store ledger.Payments) *webhook.Server {
	h := &webhook.Handler{Store: store, Log: k.Log, Count: k.Monitor.Delivery}
	for _, m := range r.receivers {
		scope := ledger.Scope{Merchant: m.Merchant, Mode: "test"}
		if m.Live {
			scope.Mode = "live"
		}
		h.Merchants = append(h.Merchants, webhook.Merchant{Scope: scope, Checks: m.Secrets})
		k.Log.Info("receiving payment events", "address", r.Listener.Addr().String(), "path", webhook.PathPrefix+m.Merchant, "mode", scope.Mode)
	}
	return webhook.Serve(r.Listener, h)
}
