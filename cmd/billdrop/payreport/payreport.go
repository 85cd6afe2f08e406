// Package payreport publishes the reports of payments of all merchants that want them, beside
// a worker or once.
package payreport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/cmd/billdrop/wiring"
	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/payments"
	"billdrop/ingest/transfer"
)

// Reports publishes the payment reports of all merchants that want them. A nil Reports does
// nothing.
type Reports struct {
	Store     ledger.Payments
	worker    *ingest.Worker
	merchants []*merchantReports
	log       *slog.Logger
}

// merchantReports are the reports of one merchant.
type merchantReports struct {
	*payments.Reporter
	feed   *ingest.Feed // through whose connection they go
	dir    string
	again  time.Time     // not before, after a failure
	shared ledger.Shared // the ledger, if other workers use it too; else nil
}

// Open opens the store of payments if events are received or reported; nil if neither. A
// machine that stays waits for a database that is out of reach as long as it takes.
func Open(ctx context.Context, conf *config.Config, m *wiring.Machine, log *slog.Logger, stays bool) (*Reports, error) {
	p := &Reports{log: log, worker: m.Worker}
	seen := make(map[ledger.Scope]bool)
	for i := range conf.Feeds {
		f := &conf.Feeds[i]
		if scope := m.Feeds[i].Lane.Scope(); f.Payments != "" && !seen[scope] {
			seen[scope] = true
			p.merchants = append(p.merchants, &merchantReports{feed: m.Feeds[i], dir: f.Payments, Reporter: &payments.Reporter{
				Ledger: m.Ledger, Lane: m.Feeds[i].Lane, Every: f.PaymentSchedule(),
			}})
		}
	}
	if len(p.merchants) == 0 && conf.Webhooks.Listen == "" {
		return nil, nil
	}
	location, err := engine.Configured(conf, log)
	if err != nil {
		return nil, err
	}
	if stays {
		location.Patience = engine.Forever
	}
	store, err := location.Payments(ctx)
	if err != nil {
		return nil, err
	}
	p.Store = store
	shared, _ := m.Ledger.(ledger.Shared)
	for _, r := range p.merchants {
		r.Store = store
		if r.shared = shared; shared != nil {
			r.Current = shared.Current
		}
	}
	return p, nil
}

// Close closes the store.
func (p *Reports) Close() error {
	if p == nil {
		return nil
	}
	return p.Store.Close()
}

// Once publishes what is due. Where workers share the ledger, this one joins them for it.
func (p *Reports) Once(ctx context.Context) error {
	if p == nil {
		return nil
	}
	var due []*merchantReports
	var errs []error
	for _, m := range p.merchants {
		is, err := m.Due(ctx, time.Now())
		if errs = append(errs, err); is {
			due = append(due, m)
		}
	}
	if len(due) > 0 {
		errs = append(errs, p.worker.AsMember(ctx, "", func(ctx context.Context) error {
			var errs []error
			for _, m := range due {
				errs = append(errs, m.publish(ctx, p.log))
			}
			return errors.Join(errs...)
		}))
	}
	return errors.Join(errs...)
}

// Start publishes what is due, and watches the receiver, beside a worker that gets the context
// that it returns. That context is cancelled if the receiver ends by itself: a worker that
// receives nothing must not look well. end waits for both.
func (p *Reports) Start(ctx context.Context, receiver *webhook.Server, patience time.Duration) (worker context.Context, end func()) {
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
func (p *Reports) run(ctx context.Context, patience time.Duration) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, m := range p.merchants {
			if time.Now().Before(m.again) {
				continue
			}
			if err := m.publish(ctx, p.log); err != nil && ctx.Err() == nil {
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

// publish publishes what is due of one merchant, unless another worker is at it. A worker that is
// lost in the middle leaves the report that it has begun to the next one.
func (m *merchantReports) publish(ctx context.Context, log *slog.Logger) error {
	if due, err := m.Due(ctx, time.Now()); err != nil || !due {
		return err
	}
	giveBack, mine, err := m.acquire(ctx)
	if err != nil || !mine {
		return err
	}
	defer giveBack()
	now := time.Now()
	if due, err := m.Due(ctx, now); err != nil || !due {
		return err // another worker has published it meanwhile
	}
	remote, err := m.feed.Connect(ctx)
	if err != nil {
		return fmt.Errorf("report payments: feed %s: %w", m.feed.Name, err)
	}
	defer remote.Close()
	published, err := m.Publish(ctx, &transfer.Server{Remote: remote, Dirs: transfer.Dirs{Results: m.dir}}, now)
	for _, r := range published {
		log.Info("payments reported", "merchant", m.Lane.Scope().Merchant, "report", m.dir+"/"+r.Name, "payments", r.Rows)
	}
	if errors.Is(err, ledger.ErrFenced) {
		return nil // it is another worker's now, or this one's once it has joined anew
	}
	return err
}

// acquire takes the lease of the merchant's reports, where other workers may report, too. It
// reports false if another worker has it, or this one is not a member just now.
func (m *merchantReports) acquire(ctx context.Context) (giveBack func(), mine bool, err error) {
	if m.shared == nil {
		return func() {}, true, nil
	}
	scope := m.Lane.Scope()
	lease := "payments/" + scope.Merchant + "/" + scope.Mode
	mine, err = m.shared.Acquire(ctx, lease)
	if errors.Is(err, ledger.ErrFenced) {
		return nil, false, nil
	}
	return func() {
		// A lease that cannot be given back now is free once this worker has left.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTimeout)
		defer cancel()
		_ = m.shared.Release(ctx, lease)
	}, mine, err
}

// giveBackTimeout bounds how long a worker that ends tries to give its lease back.
const giveBackTimeout = 5 * time.Second
