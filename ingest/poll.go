package ingest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// Poll does one round: it finishes what earlier runs left unfinished, then claims and processes every file that is complete in
// the inboxes, waiting for those that have not settled yet. Feeds work side by side; one that fails holds no other
// up. It returns the summaries of the files that came to an end (or are held), also when it returns an error, which joins what
// kept the feeds from finishing.
func (w *Worker) Poll(ctx context.Context) ([]report.Summary, error) {
	if err := w.spool.sweep(ctx, w.Ledger); err != nil {
		return nil, err
	}
	var feeds errgroup.Group
	rounds := make([]round, len(w.Feeds))
	for i, f := range w.Feeds {
		rounds[i] = round{Worker: w, feed: f, once: true}
		feeds.Go(func() error { return rounds[i].run(ctx) })
	}
	err := feeds.Wait()
	var summaries []report.Summary
	var errs []error
	for i := range rounds {
		summaries = append(summaries, rounds[i].summaries...)
		errs = append(errs, rounds[i].errs...)
	}
	if len(errs) > 0 {
		err = errors.Join(distinct(errs)...)
	}
	return summaries, err
}

// distinct drops errors that say the same: feeds on one lane stop for one reason.
func distinct(errs []error) []error {
	seen := make(map[string]bool)
	return slices.DeleteFunc(errs, func(e error) bool {
		twice := seen[e.Error()]
		seen[e.Error()] = true
		return twice
	})
}

// Run polls every interval until ctx is cancelled, and then returns its cause. Troubles that may pass (an API
// or an inbox out of reach) are logged and tried again. A wrong set-up ends the feed that has it, and Run with the last
// feed; a broken ledger ends all.
func (w *Worker) Run(ctx context.Context, interval time.Duration) error {
	if err := w.spool.sweep(ctx, w.Ledger); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	errs := make([]error, len(w.Feeds))
	var feeds sync.WaitGroup
	for i, f := range w.Feeds {
		feeds.Go(func() {
			errs[i] = w.follow(ctx, f, interval)
			if errors.Is(errs[i], ledger.ErrUnusable) {
				stop(errs[i])
			} else if ctx.Err() == nil {
				w.Log.Error("feed stopped until billdrop is started again", trouble(f, errs[i])...)
			}
		})
	}
	feeds.Wait()
	return errors.Join(distinct(errs)...)
}

func (w *Worker) follow(ctx context.Context, f *Feed, interval time.Duration) error {
	for {
		r := round{Worker: w, feed: f}
		err := r.run(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, delivery.ErrSetup), errors.Is(err, ErrDirectories), errors.Is(err, ledger.ErrUnusable):
			return err
		case err != nil:
			w.Log.Error("feed stopped; trying again at the next poll", trouble(f, err)...)
		}
		wait := interval
		if r.nextLook > 0 {
			wait = min(wait, r.nextLook)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// round is one poll of one feed.
type round struct {
	*Worker
	feed      *Feed
	once      bool // the only one of its process: files that have not settled yet are waited for
	remote    transfer.Remote
	summaries []report.Summary
	errs      []error
	blocked   []watch.Remark // files that cannot be claimed
	nextLook  time.Duration  // when a file that is not settled yet may be; 0 = there is none
}

// run does the round.
func (r *round) run(ctx context.Context) error {
	r.visit(ctx)
	if ctx.Err() == nil {
		r.expect(ctx)
		r.inboxes.Polled(r.feed.Name, time.Now(), inOneLine(errors.Join(distinct(slices.Clone(r.errs))...)))
	}
	return errors.Join(r.errs...)
}

// visit does the files: those under way, then those in the inbox.
func (r *round) visit(ctx context.Context) {
	// Imported files need no inbox, so an inbox out of reach does not hold them up.
	r.obey(ctx, ledger.FromLocal)
	r.resume(ctx, ledger.FromLocal)
	if r.feed.Connect == nil {
		return
	}
	if r.fatal(ctx) {
		return
	}
	remote, err := r.feed.Connect(ctx)
	if err != nil {
		r.fail(fmt.Errorf("feed %s: %w", r.feed.Name, err))
		return
	}
	defer remote.Close()
	r.remote = remote
	if err := r.checkDirs(ctx); err != nil {
		r.fail(err)
		return
	}
	if err := r.strangers(ctx); err != nil {
		r.fail(err)
		return
	}
	r.obey(ctx, ledger.FromInbox)
	r.resume(ctx, ledger.FromInbox)
	r.collect(ctx)
	if ctx.Err() != nil {
		r.errs = []error{context.Cause(ctx)}
	}
}

// checkDirs makes sure that all directories are there before anything is moved into the first of them.
func (r *round) checkDirs(ctx context.Context) error {
	var missing []string
	for _, dir := range r.feed.Dirs.All() {
		e, err := r.remote.Lstat(ctx, dir)
		switch {
		case errors.Is(err, inbox.ErrNotExist), err == nil && !e.Dir && !e.Link:
			missing = append(missing, dir)
		case err != nil:
			return fmt.Errorf("feed %s: look for directory %s: %w", r.feed.Name, dir, err)
		}
	}
	if len(missing) > 0 {
		return &Error{
			Err:  fmt.Errorf("feed %s: %w: %s", r.feed.Name, ErrDirectories, strings.Join(missing, ", ")),
			Hint: "create it there, or correct the feed's configuration",
		}
	}
	return nil
}

// collect processes the complete files of the inbox. In a single round those that the first look shows and that have not settled
// yet are waited for, a while; what arrives later is for the next round.
func (r *round) collect(ctx context.Context) {
	var waitedFor map[string]bool // nil: the first look
	looked := time.Now()
	for !r.fatal(ctx) {
		l, err := r.look(ctx)
		if err != nil {
			r.fail(err)
			return
		}
		r.nextLook = l.NextLook
		r.inboxes.Remark(r.feed.Name, watch.Inbox, l.Remarks())
		for _, e := range l.Ready {
			if (waitedFor == nil || waitedFor[e.Name]) && !r.fatal(ctx) {
				r.process(ctx, e)
				looked = time.Now()
			}
		}
		if !r.fatal(ctx) {
			r.inboxes.Remark(r.feed.Name, watch.Claims, r.blocked)
		}
		waiting := make(map[string]bool)
		for _, e := range l.Waiting {
			if waitedFor == nil || waitedFor[e.Name] {
				waiting[e.Name] = true
			}
		}
		if waitedFor = waiting; len(waiting) == 0 || !r.once || l.NextLook == 0 {
			return // with nothing to wait for, but for markers, which come when they come
		}
		if time.Since(looked) >= watch.Patience*max(r.feed.Watch.Settle, time.Second) {
			l.GivenUp = true
			r.inboxes.Remark(r.feed.Name, watch.Inbox, l.Remarks())
			return
		}
		r.pause(ctx, l.NextLook)
	}
}

func (r *round) fail(err error) { r.errs = append(r.errs, err) }

// fatal reports whether nothing more can be done in this round. A fault of one file alone (a right that is missing on
// it, a file that changed) is not fatal.
func (r *round) fatal(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	for _, err := range r.errs {
		if errors.Is(err, delivery.ErrStopped) || errors.Is(err, ledger.ErrUnusable) || errors.Is(err, inbox.ErrUnreachable) || errors.Is(err, inbox.ErrFull) {
			return true
		}
	}
	return false
}

// expect sees whether an expected file is missing. It is asked last: what lay in the inbox has been taken up by then.
func (r *round) expect(ctx context.Context) {
	overdue, err := watch.FindOverdue(ctx, r.Ledger, r.feed.Name, r.feed.Expect, time.Now())
	if err != nil {
		r.fail(err)
		return
	}
	var remarks []watch.Remark
	if overdue != nil {
		remarks = []watch.Remark{{Kind: watch.Missing, Name: overdue.Pattern, Text: overdue.Text(), Since: overdue.Due}}
	}
	r.inboxes.Remark(r.feed.Name, watch.Expected, remarks)
}

func (r *round) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// look lists the inbox.
func (r *round) look(ctx context.Context) (*watch.Look, error) {
	dir := r.feed.Dirs.Inbox
	entries, err := r.remote.List(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("feed %s: list inbox %s: %w", r.feed.Name, dir, err)
	}
	entries = slices.DeleteFunc(entries, func(e inbox.Entry) bool { return e.Dir && r.ours(path.Join(dir, e.Name)) })
	now := time.Now()
	l := &watch.Look{
		Listing: r.settlers[r.feed.Name].Look(now, entries), Watch: r.feed.Watch, At: now, Entries: entries, Once: r.once,
	}
	r.inboxes.Saw(r.feed.Name, l.Waits())
	return l, nil
}

// ours reports whether a directory is one of some feed's.
func (r *round) ours(dir string) bool {
	return slices.ContainsFunc(r.Feeds, func(f *Feed) bool { return slices.Contains(f.Dirs.All(), dir) })
}

// strangers names the files in processing/ that this ledger knows nothing of. They are left alone: another worker, with another
// ledger, may be at work on them.
func (r *round) strangers(ctx context.Context) error {
	dir := r.feed.Dirs.Processing
	entries, err := r.remote.List(ctx, dir)
	if err != nil {
		return fmt.Errorf("feed %s: list %s: %w", r.feed.Name, dir, err)
	}
	if len(entries) == 0 {
		r.inboxes.Remark(r.feed.Name, watch.Processing, nil)
		return nil
	}
	files, err := r.Ledger.Files(ctx, ledger.Query{Unfinished: true})
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, f := range files {
		known[f.Path] = true
		for _, suffix := range transfer.CompanionSuffixes {
			known[f.Path+suffix] = true
		}
	}
	var remarks []watch.Remark
	for _, e := range entries {
		if name := path.Join(dir, e.Name); !known[name] && !r.ours(name) {
			remarks = append(remarks, watch.Remark{Kind: watch.Stranger, Name: e.Name, Since: time.Now(),
				Text: "it is in " + dir + " and not in this ledger, so another worker has it, or its ledger is lost; if nobody works on it, move it back to the inbox"})
		}
	}
	r.inboxes.Remark(r.feed.Name, watch.Processing, remarks)
	return nil
}

// resume finishes the files that earlier runs left unfinished, oldest first.
func (r *round) resume(ctx context.Context, origin ledger.Origin) {
	files, err := r.Ledger.Files(ctx, ledger.Query{Feed: r.feed.Name, Unfinished: true})
	if err != nil {
		r.fail(err)
		return
	}
	for _, f := range slices.Backward(files) {
		if f.Origin != origin || r.fatal(ctx) {
			continue
		}
		if resting(f) && !r.once {
			continue // a single round tells of it once more
		}
		if scope := r.feed.Lane.Scope(); f.Scope != scope {
			r.fail(fmt.Errorf("file %s (%s) was begun for merchant %s in %s mode, and the feed is now for %s in %s mode: finish it with the old key first",
				f.Name, f.ID, f.Scope.Merchant, f.Scope.Mode, scope.Merchant, scope.Mode))
			continue
		}
		if !resting(f) {
			r.Log.Info("going on with file", "feed", r.feed.Name, "file", f.Name, "file_id", f.ID, "state", string(f.State))
		}
		r.see(ctx, f)
	}
}

// process claims a file that is complete in the inbox, and sees it to its end.
func (r *round) process(ctx context.Context, e inbox.Entry) {
	f, err := r.intend(ctx, e)
	if err != nil {
		r.fail(err)
		return
	}
	if f == nil {
		return
	}
	server := r.server()
	ours, err := server.Claim(ctx, atRest(f))
	if err != nil {
		r.fail(err)
		return
	}
	j := r.newJob(r.feed, f, server)
	if !ours {
		j.log.Info("not claimed: another worker took it")
		if err := j.advance(ctx, ledger.Dropped); err != nil {
			r.fail(err)
		}
		return
	}
	r.settlers[r.feed.Name].Claimed(f.Name)
	r.inboxes.Claimed(r.feed.Name, f.Name)
	j.log.Info("file claimed", "size", f.Size)
	if err := j.advance(ctx, ledger.Claimed); err != nil {
		r.fail(err)
		return
	}
	r.finish(ctx, j)
}

// intend records that a file is about to be claimed, durable before the rename: a claimed file that nobody remembers cannot be.
// Feeds may share processing/, so one at a time chooses its name there. Nil without error: the file is not to be had.
func (r *round) intend(ctx context.Context, e inbox.Entry) (*ledger.File, error) {
	r.claims.Lock()
	defer r.claims.Unlock()
	name, err := r.processingName(ctx, e.Name)
	if err != nil {
		return nil, err
	}
	processing := path.Join(r.feed.Dirs.Processing, name)
	switch _, err := r.remote.Lstat(ctx, processing); {
	case err == nil:
		r.blocked = append(r.blocked, watch.Remark{Kind: watch.Stranger, Name: e.Name, Since: time.Now(),
			Text: r.feed.Dirs.Processing + " has a file of this name that is not in this ledger: another worker's, or left behind; move it away if nobody works on it"})
		return nil, nil
	case !errors.Is(err, inbox.ErrNotExist):
		return nil, err
	}
	f := &ledger.File{
		ID: newID(time.Now()), Feed: r.feed.Name, Scope: r.feed.Lane.Scope(), Origin: ledger.FromInbox,
		Name: e.Name, Path: processing, Results: r.feed.Dirs.Results,
		Size: e.Size, ModTime: e.ModTime, State: ledger.Claiming, Received: time.Now(),
	}
	if err := r.Ledger.AddFile(ctx, f); err != nil {
		return nil, fmt.Errorf("record claim of %q: %w", e.Name, err)
	}
	return f, nil
}

// processingName is the name that a file takes in processing/: its own, or with a number where an unfinished file of ours
// has it. "~" cannot stand in a name that is claimed, so no two can meet.
func (r *round) processingName(ctx context.Context, name string) (string, error) {
	files, err := r.Ledger.Files(ctx, ledger.Query{Unfinished: true})
	if err != nil {
		return "", err
	}
	taken := make(map[string]bool)
	for _, f := range files {
		if path.Dir(f.Path) == path.Clean(r.feed.Dirs.Processing) {
			taken[path.Base(f.Path)] = true
		}
	}
	free := name
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s~%d", name, n)
	}
	return free, nil
}

// see takes up a file of the ledger.
func (r *round) see(ctx context.Context, f *ledger.File) {
	r.finish(ctx, r.newJob(r.feed, f, r.placeFor(f)))
}

// placeFor is the place of a file that this round may reach.
func (r *round) placeFor(f *ledger.File) transfer.Place {
	if f.Origin == ledger.FromInbox {
		return r.server()
	}
	return localPlace(f)
}

// server is the feed's place on the SFTP server.
func (r *round) server() *transfer.Server { return serverPlace(r.feed, r.remote) }

func (r *round) finish(ctx context.Context, j *job) {
	if err := j.live(ctx); err != nil {
		r.fail(fmt.Errorf("file %s (%s): %w", j.file.Name, j.file.ID, err))
	}
	if j.summary != nil {
		r.summaries = append(r.summaries, *j.summary)
	}
}

func (w *Worker) newJob(feed *Feed, f *ledger.File, p transfer.Place) *job {
	return &job{
		Worker: w, feed: feed, place: p, file: f,
		log: w.Log.With("feed", feed.Name, "file", f.Name, "file_id", f.ID),
	}
}
