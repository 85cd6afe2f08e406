package wiring

import (
	"context"
	"errors"
	"net"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
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
	r, err := ReceptionAt(nil, conf)
	if err != nil {
		return nil, err
	}
	if r.Listener, err = webhook.Listen(ctx, conf.Webhooks.Listen, conf.Webhooks.CertFile, conf.Webhooks.KeyFile); err != nil {
		return nil, describe.Misused(err)
	}
	return r, nil
}

// ReceptionAt receives events at an address that is open already.
func ReceptionAt(l net.Listener, conf *config.Config) (*Reception, error) {
	receivers, err := conf.Receivers()
	if err != nil {
		return nil, describe.Misused(err)
	}
	return &Reception{l, receivers}, nil
}

// Receive opens the store of payments, which it waits for as long as it takes, and answers.
// stop ends both; failed reports that the server has ended by itself. If it fails, the address
// is closed.
func (r *Reception) Receive(ctx context.Context, k Kit, conf *config.Config) (stop func() error, failed <-chan error, err error) {
	location, err := engine.Configured(conf, k.Log)
	var store ledger.Payments
	if err == nil {
		location.Patience = engine.Forever
		store, err = location.Payments(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, r.Listener.Close())
	}
	server := r.Serve(k, store)
	return func() error {
		server.Close()
		return store.Close()
	}, server.Failed(), nil
}

// Serve answers there. The caller closes the server before the store.
func (r *Reception) Serve(k Kit, store ledger.Payments) *webhook.Server {
	h := &webhook.Handler{Store: store, Log: k.Log, Count: k.Monitor.Delivery}
	for _, m := range r.receivers {
		h.Merchants = append(h.Merchants, webhook.Merchant{Scope: m.Scope, Checks: m.Secrets})
		k.Log.Info("receiving payment events", "address", r.Listener.Addr().String(), "path", webhook.PathPrefix+m.Merchant, "mode", m.Mode)
	}
	return webhook.Serve(r.Listener, h)
}
