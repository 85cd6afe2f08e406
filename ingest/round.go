package ingest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
	"billdrop/ingest/watch"
)

// round is one poll of one feed.
type round struct {
	*Worker
	feed      *Feed
	once      bool // the only round of its process: it waits for files that have not settled yet
	imports   importsOf
	remote    transfer.Remote
	jobs      []*job // of the files that were taken up
	errs      []error
	unclaimed []watch.Remark // complete files that cannot be claimed
	foundDirs bool           // all directories of the feed are there
	nextLook  time.Duration  // when a file that has not settled yet may be complete; 0 = there is none
}

// run does the round.
func (r *round) run(ctx context.Context) error {
	giveBack, err := r.takeLease(ctx, "round/"+r.feed.Name) // a single round may be under way elsewhere
	if err != nil {
		r.fail(fmt.Errorf("feed %s: %w", r.feed.Name, err))
		return errors.Join(r.errs...)
	}
	defer giveBack()
	r.files(ctx)
	if ctx.Err() == nil {
		r.remarkOverdue(ctx)
		r.inboxes.Polled(r.feed.Name, time.Now(), inOneLine(errors.Join(distinct(slices.Clone(r.errs))...)))
	}
	return errors.Join(r.errs...)
}

// files takes up the files under way, then those in the inbox.
func (r *round) files(ctx context.Context) {
	// Imported files need no inbox, so an inbox out of reach does not hold them up.
	if err := r.localFiles(ctx); err != nil {
		r.fail(fmt.Errorf("feed %s: %w", r.feed.Name, err))
		return
	}
	if r.feed.Connect == nil || r.fatal(ctx) {
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
	if err := r.remarkUnknownFiles(ctx); err != nil {
		r.fail(err)
		return
	}
	r.applyOrders(ctx, ledger.FromInbox)
	r.resume(ctx, ledger.FromInbox)
	r.collect(ctx)
	if ctx.Err() != nil {
		r.errs = []error{context.Cause(ctx)}
	}
}

// localFiles takes up the imported files under way. Its error is checkBound's, and then nothing was
// done.
func (r *round) localFiles(ctx context.Context) error {
	if err := r.checkBound(ctx, r.feed); err != nil {
		return err
	}
	r.applyOrders(ctx, ledger.FromLocal)
	r.resume(ctx, ledger.FromLocal)
	return nil
}

// checkDirs returns an error unless all directories exist. It runs before anything is moved
// into the first of them.
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
	r.foundDirs = true
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
		if f.Origin != origin || !r.mine(f) || r.fatal(ctx) {
			continue
		}
		if resting(f) && !r.once {
			continue // only a single round reports it once more
		}
		r.takeUp(ctx, r.newJob(r.feed, f, r.placeOf(f)), !resting(f))
	}
}

// takeUp works on one file until it ends or rests. It passes over a file that another worker has in
// hand. resumed is whether an earlier run began it.
func (r *round) takeUp(ctx context.Context, j *job, resumed bool) {
	held, err := r.takeFile(ctx, j.file.ID)
	if !held && err == nil {
		return
	}
	if held {
		defer r.giveFile(ctx, j.file.ID)
		if f := j.file; resumed {
			r.Log.Info("resuming file", "feed", r.feed.Name, "file", f.Name, "file_id", f.ID, "state", string(f.State), "reports", f.Results)
		}
		if err = j.refresh(ctx); err == nil {
			err = j.live(ctx)
		}
	}
	if err != nil {
		r.noticeLoss(err)
		r.fail(fmt.Errorf("file %s (%s): %w", j.file.Name, j.file.ID, err))
		if r.shared != nil && r.Progress != nil {
			r.Progress.FileLeft(j.file.ID)
		}
	}
	j.survey, j.tally = nil, nil // a round may take up many files
	r.jobs = append(r.jobs, j)
}

// summaries are those of the files that ended or are held.
func (r *round) summaries() []report.Summary {
	var summaries []report.Summary
	for _, j := range r.jobs {
		if j.summary != nil {
			summaries = append(summaries, *j.summary)
		}
	}
	return summaries
}

// placeOf is the place of a file that this round can reach.
func (r *round) placeOf(f *ledger.File) transfer.Place {
	if f.Origin == ledger.FromInbox {
		return serverPlace(r.feed, r.remote)
	}
	return localPlace(f)
}

// collect processes the complete files of the inbox. A single round waits a while for those
// that the first look shows and that have not settled yet. What arrives later is for the
// next round.
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
				if err := r.claim(ctx, e); err != nil {
					r.fail(err)
				}
				looked = time.Now()
			}
		}
		if !r.fatal(ctx) {
			r.inboxes.Remark(r.feed.Name, watch.Claims, r.unclaimed)
		}
		waiting := make(map[string]bool)
		for _, e := range l.Waiting {
			if waitedFor == nil || waitedFor[e.Name] {
				waiting[e.Name] = true
			}
		}
		if waitedFor = waiting; len(waiting) == 0 || !r.once || l.NextLook == 0 {
			return // nothing waits but for markers, which may come at any time
		}
		if time.Since(looked) >= watch.Patience*max(r.feed.Watch.Settle, time.Second) {
			l.StillChanging = true
			r.inboxes.Remark(r.feed.Name, watch.Inbox, l.Remarks())
			return
		}
		if sleep(ctx, l.NextLook) != nil {
			return
		}
	}
}

// look lists the inbox.
func (r *round) look(ctx context.Context) (*watch.Look, error) {
	dir := r.feed.Dirs.Inbox
	entries, err := r.remote.List(ctx, dir)
	cut := watch.Cut(dir, err, time.Now())
	if err != nil && cut == nil {
		return nil, fmt.Errorf("feed %s: list inbox %s: %w", r.feed.Name, dir, err)
	}
	entries = slices.DeleteFunc(entries, func(e inbox.Entry) bool { return e.Dir && r.feedDir(path.Join(dir, e.Name)) })
	now := time.Now()
	l := &watch.Look{
		Listing: r.settlers[r.feed.Name].Look(now, entries), Watch: r.feed.Watch, At: now, Entries: entries, Cut: cut, Once: r.once,
	}
	r.inboxes.Saw(r.feed.Name, l.Waits())
	return l, nil
}

// feedDir reports whether a path is a directory of any feed.
func (r *round) feedDir(dir string) bool {
	return slices.ContainsFunc(r.Feeds, func(f *Feed) bool { return slices.Contains(f.Dirs.All(), dir) })
}

// remarkUnknownFiles remarks on the files in processing/ that are not in this ledger. They
// are left alone, because a worker with another ledger may be at work on them.
func (r *round) remarkUnknownFiles(ctx context.Context) error {
	dir := r.feed.Dirs.Processing
	entries, err := r.remote.List(ctx, dir)
	cut := watch.Cut(dir, err, time.Now())
	if err != nil && cut == nil {
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
	remarks := cut
	for _, e := range entries {
		if name := path.Join(dir, e.Name); !known[name] && !r.feedDir(name) {
			remarks = append(remarks, watch.Remark{Kind: watch.Stranger, Name: e.Name, Since: time.Now(),
				Text: "it is in " + dir + " and not in this ledger, so another worker has it, or its ledger is lost; if no worker has it, move it back to the inbox"})
		}
	}
	r.inboxes.Remark(r.feed.Name, watch.Processing, remarks)
	return nil
}

// remarkOverdue remarks on an expected file that has not come. It runs after collect, so
// files in the inbox have been claimed.
func (r *round) remarkOverdue(ctx context.Context) {
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

func (r *round) fail(err error) { r.errs = append(r.errs, err) }

// fatal reports whether the round has to end. A fault of one file alone is not fatal, such
// as a missing right on it.
func (r *round) fatal(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	return isAny(errors.Join(r.errs...), delivery.ErrStopped, ledger.ErrUnusable, ledger.ErrUnreachable, ledger.ErrFenced, inbox.ErrUnreachable, inbox.ErrFull)
}
