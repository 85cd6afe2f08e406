package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/payments"
	"billdrop/ingest/transfer"
)

// payReports publishes the payment reports of all merchants that want them.
type payReports struct {
	store     ledger.Payments
	merchants []*merchantReports
	log       *slog.Logger
}

// merchantReports are the reports of one merchant.
type merchantReports struct {
	*payments.Reporter
	feed  *ingest.Feed // through whose connection they go
	dir   string
	log   *slog.Logger
	again time.Time // not before, after a failure
}

// openPayReports opens the store of payments if events are received or reported; nil if neither.
func openPayReports(ctx context.Context, s *session, conf *config.Config, m *machine) (*payReports, error) {
	p := &payReports{log: s.log}
	holder := rand.Text()
	seen := make(map[ledger.Scope]bool)
	for i := range conf.Feeds {
		f := &conf.Feeds[i]
		if scope := m.feeds[i].Lane.Scope(); f.Payments != "" && !seen[scope] {
			seen[scope] = true
			p.merchants = append(p.merchants, &merchantReports{feed: m.feeds[i], dir: f.Payments, log: s.log, Reporter: &payments.Reporter{
				Ledger: m.ledger, Lane: m.feeds[i].Lane, Every: f.PaymentSchedule(), Holder: holder,
			}})
		}
	}
	if len(p.merchants) == 0 && conf.Webhooks.Listen == "" {
		return nil, nil
	}
	location, err := engine.Configured(conf, s.log)
	if err != nil {
		return nil, err
	}
	store, err := location.Payments(ctx)
	if err != nil {
		return nil, err
	}
	p.store = store
	for _, m := range p.merchants {
		m.Store = store
	}
	return p, nil
}

// close closes the store. Close of a nil payReports does nothing.
func (p *payReports) close() error {
	if p == nil {
		return nil
	}
	return p.store.Close()
}

// once publishes what is due.
func (p *payReports) once(ctx context.Context) error {
	if p == nil {
		return nil
	}
	var errs []error
	for _, m := range p.merchants {
		errs = append(errs, m.publish(ctx))
	}
	return errors.Join(errs...)
}

// start publishes what is due, and watches the receiver, beside a worker that gets the context
// that it returns. That context is cancelled if the receiver ends by itself: a worker that
// receives nothing must not look well. end waits for both.
func (p *payReports) start(ctx context.Context, receiver *webhook.Server, patience time.Duration) (worker context.Context, end func()) {
	if p == nil {
		return ctx, func() {}
	}
	worker, stop := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { p.run(worker, patience) })
	if receiver != nil {
		beside.Go(func() {
			select {
			case err := <-receiver.Failed():
				stop(err)
			case <-worker.Done():
			}
		})
	}
	return worker, func() {
		stop(nil)
		beside.Wait()
	}
}

// lookEvery is how often a worker looks whether a report is due: as often as one may be.
const lookEvery = time.Second

// run publishes what is due until ctx ends. What fails is tried again after a while.
func (p *payReports) run(ctx context.Context, patience time.Duration) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for _, m := range p.merchants {
		m.Beside = m.Ledger
	}
	for {
		for _, m := range p.merchants {
			if time.Now().Before(m.again) {
				continue
			}
			if err := m.publish(ctx); err != nil && ctx.Err() == nil {
				m.again = time.Now().Add(patience)
				args := []any{"merchant", m.Lane.Scope().Merchant, "error", err}
				for _, hint := range describe.Advice(err) {
					args = append(args, "hint", hint)
				}
				p.log.Error("payments were not reported; trying again", args...)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// publish publishes what is due of one merchant.
func (m *merchantReports) publish(ctx context.Context) error {
	now := time.Now()
	if due, err := m.Due(ctx, now); err != nil || !due {
		return err
	}
	remote, err := m.feed.Connect(ctx)
	if err != nil {
		return fmt.Errorf("report payments: feed %s: %w", m.feed.Name, err)
	}
	defer remote.Close()
	published, err := m.Publish(ctx, &transfer.Server{Remote: remote, Dirs: transfer.Dirs{Results: m.dir}}, now)
	for _, r := range published {
		m.log.Info("payments reported", "merchant", m.Lane.Scope().Merchant, "report", m.dir+"/"+r.Name, "payments", r.Rows)
	}
	return err
}
