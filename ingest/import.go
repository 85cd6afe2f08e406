package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// LocalFile is a file to be imported.
type LocalFile struct {
	Path string
	In   io.Reader // read instead, if not nil: standard input
	Out  string    // directory of its reports; "" = beside it
}

// Imported is an import that came to its end, or is held.
type Imported struct {
	Summary report.Summary
	Results string // directory of its reports
}

// Import takes local files through the same life as claimed ones, one after the other. The
// files stay where they are. First it obeys the orders that wait, and goes on with every
// unfinished import of the feed, wherever its reports were to go. A file whose import was
// one of these, by name, content and place of its reports, is not imported once more. A
// report of billdrop's is passed over, and ErrNotApplicable if nothing else was named.
//
// The error joins what kept files from their end. An unfinished import that cannot go on
// for a reason of its own does not keep the files from theirs.
func (w *Worker) Import(ctx context.Context, feed *Feed, files []LocalFile) (done []Imported, err error) {
	if err := w.spool.sweep(ctx, w.Ledger); err != nil {
		return nil, err
	}
	err = w.AsMember(ctx, RoleCommand, func(ctx context.Context) error {
		done, err = w.importFiles(ctx, feed, files)
		w.noticeLoss(err)
		return err
	})
	return done, err
}

func (w *Worker) importFiles(ctx context.Context, feed *Feed, files []LocalFile) ([]Imported, error) {
	if err := w.checkBound(ctx, feed); err != nil {
		return nil, err
	}
	begun := make([]*importing, len(files))
	for i, file := range files { // before anything is sent
		var err error
		if begun[i], err = w.beginImport(feed, file); err != nil {
			return nil, err
		}
	}
	r := round{Worker: w, feed: feed}
	r.applyOrders(ctx, ledger.FromLocal)
	r.resume(ctx, ledger.FromLocal)
	for _, f := range begun {
		if r.fatal(ctx) {
			break
		}
		if j, err := w.importFile(ctx, f, r.jobs); err != nil {
			r.fail(fmt.Errorf("import %s: %w", f.given, err))
			break
		} else if j != nil {
			r.jobs = append(r.jobs, j)
		}
	}
	if len(begun) > 0 && !slices.ContainsFunc(begun, func(i *importing) bool { return !i.own }) {
		r.fail(notApplicable("name the bill files", "nothing was imported: every file that was named is a report of billdrop's"))
	}
	if err := w.checkFeeds(ctx, localFile); err != nil {
		r.fail(err)
	}
	var done []Imported
	for _, j := range r.jobs {
		if j.summary != nil {
			done = append(done, Imported{*j.summary, j.file.Results})
		}
	}
	return done, errors.Join(r.errs...)
}

// importing is a file that is about to be imported.
type importing struct {
	given string // as the operator named it
	feed  *Feed
	file  *ledger.File
	fetch func(context.Context, io.Writer) error
	own   bool // it was passed over: a report of billdrop's
}

// beginImport checks that a file is there and that its reports can be written. It records
// nothing.
func (w *Worker) beginImport(feed *Feed, l LocalFile) (*importing, error) {
	f := &ledger.File{
		ID: newID(time.Now()), Feed: feed.Name, Scope: feed.Lane.Scope(), Origin: ledger.FromLocal, Name: "stdin", State: ledger.Claimed,
	}
	if w.shared != nil {
		f.Machine = w.Member.Machine
	}
	fetch := func(_ context.Context, dst io.Writer) error {
		_, err := io.Copy(dst, l.In)
		return err
	}
	out := l.Out
	if l.In == nil {
		abs, err := filepath.Abs(l.Path)
		if err != nil {
			return nil, fmt.Errorf("import %s: %w", l.Path, err)
		}
		info, err := os.Stat(abs)
		if err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		f.Name, f.Path, f.Size, f.ModTime = filepath.Base(abs), abs, info.Size(), info.ModTime()
		fetch = fetching(transfer.Local{}, f)
		out = cmp.Or(out, filepath.Dir(abs))
	}
	var err error
	if f.Results, err = filepath.Abs(out); err != nil {
		return nil, fmt.Errorf("import %s: %w", l.Path, err)
	}
	if err := checkWritable(f.Results); err != nil {
		return nil, notApplicable("name another directory with --out", "its reports cannot be written to %s (%w)", f.Results, err)
	}
	return &importing{given: l.Path, feed: feed, file: f, fetch: fetch}, nil
}

// importFile takes one file to its end. It returns nil without an error if one of the
// resumed jobs was the import of this file.
func (w *Worker) importFile(ctx context.Context, i *importing, resumed []*job) (*job, error) {
	f := i.file
	f.Received, f.Started = i.feed.Lane.Now(), i.feed.Lane.Now()
	j := w.newJob(i.feed, f, localPlace(f))
	// The copy comes first, so that a file that cannot be read leaves nothing in the
	// ledger.
	if err := j.take(ctx, i.fetch); err != nil {
		return nil, err
	}
	if f.SHA256 == "" { // it is refused unread, and repeats no other import
		return j, j.addImport(ctx)
	}
	if own, err := j.ownReport(ctx); err != nil || own != nil {
		if err == nil {
			w.Log.Warn("file passed over: it is a report, not a bill file", "file", i.given, "why", own.Detail)
			i.own = true
		}
		return nil, errors.Join(err, w.spool.remove(f.ID))
	}
	for _, j := range resumed {
		if sameImport(f, j.file) { // one that was rejected meanwhile, too
			return nil, w.spool.remove(f.ID)
		}
	}
	earlier, err := w.findImport(ctx, i.feed, f)
	if err != nil {
		return nil, err
	}
	if earlier == nil {
		return j, j.addImport(ctx)
	}
	return earlier, earlier.importNow(ctx)
}

// addImport records a new import, and takes it to its end.
func (j *job) addImport(ctx context.Context) error {
	f := j.file
	_, err := j.takeFile(ctx, f.ID)
	defer j.giveFile(ctx, f.ID)
	if err == nil {
		err = j.Ledger.AddFile(ctx, f)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("record import of %s: %w", f.Name, err), j.spool.remove(f.ID))
	}
	if err := j.chooseStem(ctx, ledger.Spooled); err != nil {
		return err
	}
	return j.importNow(ctx)
}

func (j *job) importNow(ctx context.Context) error {
	if err := j.takeOver(ctx); err != nil {
		return err
	}
	defer j.giveFile(ctx, j.file.ID)
	if err := j.refresh(ctx); err != nil {
		return err
	}
	if j.file.State.Finished() { // another worker has ended it meanwhile
		totals, err := j.Ledger.Totals(ctx, j.file.ID)
		summary := report.Summarize(j.file, totals)
		j.summary = &summary
		return err
	}
	if err := j.live(ctx); err != nil {
		return fmt.Errorf("%s: %w", j.file.ID, err)
	}
	return nil
}

// takeOver takes the file into this worker's hand. It waits for another worker that has it until
// that one would have been taken for lost if it was killed, by this worker's LostAfter.
func (j *job) takeOver(ctx context.Context) error {
	held, err := j.takeFile(ctx, j.file.ID)
	if !held && err == nil {
		most := j.Member.LostAfter + takeover
		j.log.Warn("another worker is at work on this file, or was killed at it: waiting", "at_most", most)
		held, err = j.awaitFile(ctx, j.file.ID, most)
	}
	if held || err != nil {
		return err
	}
	return &delivery.Stop{Reason: "another worker is at work on " + j.file.ID, Hint: "wait until it is done"}
}

// sameImport reports whether two imports are of the same file, with the same content and
// the same place of their reports.
func sameImport(a, b *ledger.File) bool {
	return a.Name == b.Name && a.Path == b.Path && a.SHA256 == b.SHA256 && a.Results == b.Results
}

// findImport returns the job of the unfinished import that f repeats, which is held: every
// other one was resumed. It returns nil if there is none.
func (w *Worker) findImport(ctx context.Context, feed *Feed, f *ledger.File) (*job, error) {
	earlier, err := w.Ledger.Files(ctx, ledger.Query{Feed: feed.Name, SHA256: f.SHA256, Unfinished: true})
	if err != nil {
		return nil, err
	}
	for _, e := range earlier {
		if e.Origin == ledger.FromLocal && w.reachable(e) && sameImport(e, f) {
			return w.newJob(feed, e, localPlace(e)), w.spool.remove(f.ID)
		}
	}
	return nil, nil
}

// checkWritable creates a directory where missing, and returns an error if no file can be
// created in it.
func checkWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".billdrop-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}
