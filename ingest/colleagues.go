package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// Where several workers share a ledger, what one of them is at work on is its lease: a feed, while
// it serves it; a round of a feed; a file, while it takes it through its life. A worker that is
// lost loses its leases, and another goes on as after a crash.

// Others go on within ten seconds from when a worker counts as lost. These waits can follow
// each other, at most:
//
//	until the ledger takes all from it        3 s    markLost, ledger/postgres/workers.go
//	a feed, and the file of its round         4 s    colleaguePoll, and modest's wait
//	a file that a command had in hand         1 s    colleaguePoll: noticeGone
//	the parts in one worker's hand            7 s    restAfter, and maxInHand / adoptAtOnce looks, each
//	                                                 colleaguePoll after the one before
//	a bill, or a party that it was to create  0.5 s  delivery.colleagueMax
//
// The first is followed by one of the others. No wait depends on how long a part, a file or an
// import takes that another worker is at, or on what River hands out.
const (
	// colleaguePoll is how often a worker looks for what no worker has in hand.
	colleaguePoll = time.Second
	// takeover is how long it takes at most, from when a worker counts as lost, until others have
	// its work.
	takeover = 10 * time.Second
	// leasePoll is how often a lease is asked for that another worker gives back soon.
	leasePoll = 100 * time.Millisecond
	// lastWords bounds what a worker still records in the ledger once it is to stop.
	lastWords = 5 * time.Second
	// maxRejoins is how often a single round joins the others again.
	maxRejoins = 5
)

// AsMember has this worker do something as one of those that share its ledger, in a role; "" =
// Member.Role. On a ledger that no others share it does it at once. The context of do ends
// when this worker is taken for lost: then AsMember returns an error that wraps
// ledger.ErrFenced, once do has returned. No other method that joins may be running.
func (w *Worker) AsMember(ctx context.Context, role string, do func(context.Context) error) error {
	if w.shared == nil {
		return do(ctx)
	}
	err := w.join(ctx, role)
	if errors.Is(err, ledger.ErrNameTaken) && !w.named {
		// In a container, the one before may have had the same host name and process id.
		w.Member.Name += "-" + newID(time.Now())
		err = w.join(ctx, role)
	}
	if err != nil {
		return fmt.Errorf("join the other workers: %w", err)
	}
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.crew.begin(working, stop)
	var watch sync.WaitGroup
	watch.Go(func() {
		for sleep(working, colleaguePoll/2) == nil {
			w.noticeLoss(w.shared.Current())
		}
	})
	err = do(working)
	lost := ctx.Err() == nil && errors.Is(context.Cause(working), ledger.ErrFenced)
	stop(nil)
	watch.Wait()
	w.crew.end()
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if e := w.shared.Leave(leaving); e != nil && !lost {
		w.Log.Debug("other workers take over only once this one counts as lost", "error", e)
	}
	if lost {
		return ledger.ErrFenced
	}
	return err
}

func (w *Worker) join(ctx context.Context, role string) error {
	m := w.Member
	return w.shared.Join(ctx, ledger.Member{
		Name: m.Name, Machine: m.Machine, Role: cmp.Or(role, m.Role), LostAfter: m.LostAfter, Formats: m.Formats, InFlight: w.inFlight,
	})
}

// noticeLoss ends the membership if err shows that this worker is taken for lost.
func (w *Worker) noticeLoss(err error) {
	if w.shared != nil && errors.Is(err, ledger.ErrFenced) {
		w.crew.lost()
	}
}

// inFlight returns how many requests are out.
func (w *Worker) inFlight() int {
	n, seen := 0, make(map[any]bool)
	for _, f := range w.Feeds {
		if !seen[f.Lane] {
			seen[f.Lane] = true
			n += f.Lane.InFlight()
		}
	}
	return n
}

// runShared is Run among other workers. What passes, such as a ledger out of reach or the loss
// of this worker, is waited for.
func (w *Worker) runShared(ctx context.Context, interval time.Duration) error {
	for {
		err := w.AsMember(ctx, "", func(ctx context.Context) error { return w.serve(ctx, interval) })
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ledger.ErrFenced):
			w.Log.Warn("this worker was unheard of for too long, so others have its work; it joins them again", "worker", w.Member.Name)
		case errors.Is(err, ledger.ErrUnreachable):
			w.Log.Warn("the ledger is out of reach; trying again", "error", err)
		default:
			return err
		}
		if err := sleep(ctx, colleaguePoll); err != nil {
			return err
		}
	}
}

// serve does this worker's share of all feeds until it is told to stop, or has no feed left.
func (w *Worker) serve(ctx context.Context, interval time.Duration) error {
	if err := w.checkFeeds(ctx, anyFile); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	finish := w.crew.work(ctx, interval)
	err := w.eachFeed(ctx, stop, func(f *Feed) error { return w.serveFeed(ctx, f, interval) })
	stop(nil)
	finish()
	return err
}

// serveFeed polls a feed whenever no other worker does, until it cannot go on.
func (w *Worker) serveFeed(ctx context.Context, f *Feed, interval time.Duration) error {
	lease := "feed/" + f.Name
	ours, waited, found := false, false, w.crew.dirsFound[f.Name]
	membership := ctx
	defer func() {
		if membership.Err() != nil { // it is another's by now
			w.inboxes.Left(f.Name)
		}
		w.giveBack(membership, lease)
	}()
	ctx, stop := context.WithCancel(membership)
	var imports sync.WaitGroup
	imports.Go(func() { w.resumeImports(ctx, f, interval) })
	defer imports.Wait()
	defer stop()
	for {
		wait := colleaguePoll
		if err := w.crew.unfit(f); err != nil {
			return err
		}
		if !ours {
			// The more feeds a worker serves, the longer it leaves a free one to others.
			if w.crew.modest(ctx) {
				var err error
				if ours, err = w.shared.Acquire(ctx, lease); err != nil {
					w.noticeLoss(err)
				}
				waited = waited || err == nil && !ours
			}
			if ours {
				w.crew.serving(1)
				defer w.crew.serving(-1)
				w.Log.Info("serving feed", "feed", f.Name, "worker", w.Member.Name)
				*found = *found || waited && w.wasServed(ctx, f)
			}
		}
		if ours {
			next, err := w.pollFeed(ctx, f, interval, found)
			if err != nil {
				return err
			}
			wait = next
		}
		if err := w.crew.awaitLook(ctx, f, wait); err != nil {
			return err
		}
	}
}

// wasServed reports whether the workers have taken up a file of a feed: they found its directories.
func (w *Worker) wasServed(ctx context.Context, f *Feed) bool {
	files, err := w.Ledger.Files(ctx, ledger.Query{Feed: f.Name})
	return err == nil && slices.ContainsFunc(files, func(f *ledger.File) bool { return f.Origin == ledger.FromInbox })
}

// resumeImports finishes the imports that this machine left unfinished, every interval until
// ctx ends. Another worker cannot reach them, and a feed of which this one is to take over
// must not wait for them.
func (w *Worker) resumeImports(ctx context.Context, f *Feed, interval time.Duration) {
	for {
		r := round{Worker: w, feed: f, imports: onlyImports}
		if err := r.localFiles(ctx); err != nil {
			r.fail(err)
		}
		if err := errors.Join(r.errs...); err != nil && ctx.Err() == nil {
			w.noticeLoss(err)
			w.Log.Error("import stopped; trying again at the next poll", failure(f, err)...)
		}
		if sleep(ctx, interval) != nil {
			return
		}
	}
}

// modest waits colleaguePoll for each feed that this worker serves already, up to three, so
// that feeds spread over the workers. It reports false if the worker is told to stop
// meanwhile.
func (c *crew) modest(ctx context.Context) bool {
	c.mu.Lock()
	served := c.served
	c.mu.Unlock()
	return served == 0 || sleep(ctx, time.Duration(min(served, 3))*colleaguePoll) == nil
}

// serving adds n to the number of feeds that this worker serves.
func (c *crew) serving(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served += n
}

// takeLease takes a lease that another worker gives back soon.
func (w *Worker) takeLease(ctx context.Context, lease string) (giveBack func(), err error) {
	if w.shared == nil {
		return func() {}, nil
	}
	for {
		held, err := w.shared.Acquire(ctx, lease)
		if err != nil {
			w.noticeLoss(err)
			return nil, err
		}
		if held {
			return func() { w.giveBack(ctx, lease) }, nil
		}
		if err := sleep(ctx, leasePoll); err != nil {
			return nil, err
		}
	}
}

// giveBack gives a lease back, also when ctx has ended. What cannot be given back now ends with the
// membership.
func (w *Worker) giveBack(ctx context.Context, lease string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := w.shared.Release(ctx, lease); err != nil {
		w.noticeLoss(err)
		w.Log.Debug("lease not given back", "lease", lease, "error", err)
	}
}

func fileLease(id string) string { return "file/" + id }

// takeFile takes a file into this worker's hand, and reports false if another worker has it. A
// worker without others has every file.
func (w *Worker) takeFile(ctx context.Context, id string) (bool, error) {
	if w.shared == nil {
		return true, nil
	}
	held, err := w.shared.Acquire(ctx, fileLease(id))
	w.noticeLoss(err)
	if held {
		w.crew.own(id, true)
	}
	return held, err
}

// awaitFile is takeFile for a file that another worker may have, and give back within so long.
func (w *Worker) awaitFile(ctx context.Context, id string, most time.Duration) (bool, error) {
	for end := time.Now().Add(most); ; {
		held, err := w.takeFile(ctx, id)
		if held || err != nil || !time.Now().Before(end) {
			return held, err
		}
		if err := sleep(ctx, leasePoll); err != nil {
			return false, err
		}
	}
}

// giveFile ends what takeFile began.
func (w *Worker) giveFile(ctx context.Context, id string) {
	if w.shared != nil {
		w.crew.own(id, false)
		w.giveBack(ctx, fileLease(id))
	}
}

// reachable reports whether a file can be taken up on this machine: what was imported stays
// where its disk is.
func (w *Worker) reachable(f *ledger.File) bool {
	return w.shared == nil || f.Origin != ledger.FromLocal || f.Machine == "" || f.Machine == w.Member.Machine
}

// importsOf is what a round does about the imports that were left unfinished on this machine.
type importsOf int

const (
	allFiles    importsOf = iota // it is for them as for all other files
	onlyImports                  // it is for them alone
	noImports                    // another round is for them
)

// mine reports whether a file is for this round.
func (r *round) mine(f *ledger.File) bool {
	if !r.reachable(f) {
		return false
	}
	imported := f.Origin == ledger.FromLocal && f.Machine != ""
	return r.imports == allFiles || imported == (r.imports == onlyImports)
}

// certain returns an error unless this worker is certainly not taken for lost. It is asked before a
// file is moved for the first time, because the server knows nothing of leases.
func (w *Worker) certain() error {
	if w.shared == nil {
		return nil
	}
	err := w.shared.Current()
	w.noticeLoss(err)
	return err
}

// refresh reads the file's record again once the file is in hand.
func (j *job) refresh(ctx context.Context) error {
	if j.shared == nil {
		return nil
	}
	f, err := j.Ledger.File(ctx, j.file.ID)
	if err == nil {
		j.file = f
	}
	return err
}

// pollShared is Poll among other workers. If this worker is taken for lost meanwhile, it joins the
// others again and does another round.
func (w *Worker) pollShared(ctx context.Context) ([]report.Summary, error) {
	var all []report.Summary
	for try := 0; ; try++ {
		err := w.AsMember(ctx, "", func(ctx context.Context) error {
			working, stop := context.WithCancel(ctx)
			finish := w.crew.work(working, 0)
			summaries, err := w.poll(ctx)
			stop()
			finish()
			all = append(all, summaries...)
			for _, f := range w.Feeds {
				err = errors.Join(err, w.crew.unfit(f))
			}
			return err
		})
		if !errors.Is(err, ledger.ErrFenced) || ctx.Err() != nil || try == maxRejoins {
			return all, err
		}
	}
}

// noticeGone has all feeds looked at if one of the workers that were live is not any more: it
// may have had a file in hand that is not of this round. It returns those that are live.
func (c *crew) noticeGone(ctx context.Context, before []ledger.Colleague) ([]ledger.Colleague, error) {
	live, err := c.shared.Workers(ctx)
	if err != nil {
		return before, err
	}
	for _, w := range before {
		if !slices.ContainsFunc(live, func(l ledger.Colleague) bool { return l.Name == w.Name && l.Since.Equal(w.Since) }) {
			for _, f := range c.Feeds {
				c.handleLook(ctx, f.Name)
			}
			break
		}
	}
	return live, nil
}
