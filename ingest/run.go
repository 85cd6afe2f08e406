package ingest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Poll does one round. It finishes what earlier runs left unfinished, then claims and
// processes every complete file of the inboxes, and waits for those that have not settled
// yet. Feeds work side by side, and one that fails does not hold up another.
//
// Poll returns the summaries of the files that ended or are held, also with an error. The
// error joins what kept the feeds from finishing.
func (w *Worker) Poll(ctx context.Context) ([]report.Summary, error) {
	if err := w.spool.sweep(ctx, w.Ledger); err != nil {
		return nil, err
	}
	if w.shared != nil {
		return w.pollShared(ctx)
	}
	return w.poll(ctx)
}

// poll is Poll of a worker that has its ledger.
func (w *Worker) poll(ctx context.Context) ([]report.Summary, error) {
	var feeds errgroup.Group
	rounds := make([]round, len(w.Feeds))
	for i, f := range w.Feeds {
		rounds[i] = round{Worker: w, feed: f, once: true}
		feeds.Go(func() error { return rounds[i].run(ctx) })
	}
	err := feeds.Wait()
	var summaries []report.Summary
	var errs []error
	if e := w.checkFeeds(ctx, anyFile); e != nil && ctx.Err() == nil {
		errs = append(errs, e)
	}
	for i := range rounds {
		summaries = append(summaries, rounds[i].summaries()...)
		errs = append(errs, rounds[i].errs...)
	}
	if len(errs) > 0 {
		err = errors.Join(distinct(errs)...)
	}
	return summaries, err
}

// distinct removes errors with the same text: feeds on one lane stop for one reason.
func distinct(errs []error) []error {
	seen := make(map[string]bool)
	return slices.DeleteFunc(errs, func(e error) bool {
		twice := seen[e.Error()]
		seen[e.Error()] = true
		return twice
	})
}

// Run polls every interval until ctx is cancelled, and then returns its cause. Failures
// that may pass, such as an API or an inbox out of reach, are logged and tried again. A
// wrong set-up ends the feed that has it, and Run returns with the last feed. A broken
// ledger ends all feeds. Files under way of feeds that are not there are an error at once.
func (w *Worker) Run(ctx context.Context, interval time.Duration) error {
	if err := w.spool.sweep(ctx, w.Ledger); err != nil {
		if w.shared == nil || !errors.Is(err, ledger.ErrUnreachable) {
			return err
		}
	}
	if w.shared != nil {
		defer w.sweeping(ctx)()
		return w.runShared(ctx, interval)
	}
	if err := w.checkFeeds(ctx, anyFile); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	return w.eachFeed(ctx, stop, func(f *Feed) error { return w.runFeed(ctx, f, interval) })
}

// eachFeed runs all feeds side by side until each has ended. A broken ledger stops them all.
func (w *Worker) eachFeed(ctx context.Context, stop context.CancelCauseFunc, run func(*Feed) error) error {
	errs := make([]error, len(w.Feeds))
	var feeds sync.WaitGroup
	for i, f := range w.Feeds {
		feeds.Go(func() {
			errs[i] = run(f)
			if errors.Is(errs[i], ledger.ErrUnusable) {
				stop(errs[i])
			} else if ctx.Err() == nil {
				w.Log.Error("feed stopped until billdrop is started again", failure(f, errs[i])...)
			}
		})
	}
	feeds.Wait()
	return errors.Join(distinct(errs)...)
}

// sweepEvery is how long at most a copy outlives a file that another worker has finished.
const sweepEvery = time.Minute

// sweeping sweeps the spool again and again, until the function that it returns is called. A worker
// that was killed or frozen with a file in hand may be back while another finishes that file, and
// nothing else reminds it of its copy.
func (w *Worker) sweeping(ctx context.Context) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	var sweeps sync.WaitGroup
	sweeps.Go(func() {
		for sleep(ctx, sweepEvery) == nil {
			err := w.spool.sweep(ctx, w.Ledger)
			if err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrUnreachable) {
				w.Log.Warn("copies that are no longer needed could not be removed", "error", err)
			}
		}
	})
	return func() {
		stop()
		sweeps.Wait()
	}
}

// runFeed polls one feed until it cannot go on.
func (w *Worker) runFeed(ctx context.Context, f *Feed, interval time.Duration) error {
	var found bool
	for {
		wait, err := w.pollFeed(ctx, f, interval, &found)
		if err != nil {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// pollFeed does one round, and returns when the next is due. An error means that there is none.
// found is whether an earlier round had all directories of the feed: then missing ones are no
// wrong set-up, but gone for a while, such as a disk that the server has not mounted yet.
func (w *Worker) pollFeed(ctx context.Context, f *Feed, interval time.Duration, found *bool) (wait time.Duration, err error) {
	r := round{Worker: w, feed: f}
	if w.shared != nil {
		r.imports = noImports
	}
	err = r.run(ctx)
	w.noticeLoss(err)
	*found = *found || r.foundDirs
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case errors.Is(err, delivery.ErrSetup), errors.Is(err, ErrNotApplicable), errors.Is(err, ledger.ErrUnusable),
		errors.Is(err, ErrDirectories) && !*found:
		return 0, err
	case err != nil:
		w.Log.Error("feed stopped; trying again at the next poll", failure(f, err)...)
	}
	if r.nextLook > 0 {
		return min(interval, r.nextLook), nil
	}
	return interval, nil
}

// sleep waits for d to pass, or returns the cause of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
