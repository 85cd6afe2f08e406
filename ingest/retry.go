package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// Retry sends the failed and unknown rows of a finished file again, and publishes its
// reports anew under the same names. The file is read again from where it rests, and only
// if it has the same hash.
//
// A retry that is cut short is resumed like any other file. Errors wrap ErrNothingToDo,
// ErrNotApplicable or ledger.ErrNotFound when nothing was changed, and are else as Poll's.
func (w *Worker) Retry(ctx context.Context, id string) (report.Summary, error) {
	return w.carryOut(ctx, OrderRetry, id)
}

// Reject ends an unfinished file: nothing more of it is sent, its reports say what became of
// every row, and it moves to the rejected files. A rejection that is cut short is resumed
// like any other file. Errors are as Retry's.
func (w *Worker) Reject(ctx context.Context, id string) (report.Summary, error) {
	return w.carryOut(ctx, OrderReject, id)
}

// carryOut applies an order to a file that rests, and takes the file to its end.
func (w *Worker) carryOut(ctx context.Context, o Order, id string) (s report.Summary, err error) {
	err = w.asMember(ctx, RoleCommand, func(ctx context.Context) error {
		s, err = w.carryOutNow(ctx, o, id)
		w.noticeLoss(err)
		return err
	})
	return s, err
}

func (w *Worker) carryOutNow(ctx context.Context, o Order, id string) (report.Summary, error) {
	f, feed, err := w.fileOf(ctx, id)
	if err != nil {
		return report.Summary{}, err
	}
	if err := o.check(ctx, w.Ledger, f); err != nil {
		return report.Summary{}, err
	}
	if f, err = w.takeFor(ctx, o, f); err != nil {
		return report.Summary{}, err
	}
	defer w.giveFile(ctx, id)
	place, done, err := w.reach(ctx, feed, f)
	if err != nil {
		return report.Summary{}, err
	}
	defer done()
	j := w.newJob(feed, f, place)
	if err = j.apply(ctx, o); err == nil {
		err = j.live(ctx)
	}
	if err != nil {
		return report.Summary{}, fmt.Errorf("%s %s (%s): %w", o, f.Name, f.ID, err)
	}
	if j.summary == nil { // dropped: it was never read
		return report.Summarize(j.file, ledger.Totals{}), nil
	}
	return *j.summary, nil
}

// takeFor takes a file into this worker's hand for an order, and reads it again. If another worker has
// the file, a rejection is left for that worker, and the error is a *Left.
func (w *Worker) takeFor(ctx context.Context, o Order, f *ledger.File) (*ledger.File, error) {
	if w.shared == nil {
		return f, nil
	}
	if !w.reachable(f) {
		return nil, notApplicable("run it on "+f.Machine, "%s came from a disk of the machine %s", f.ID, f.Machine)
	}
	for tries := 0; ; tries++ {
		held, err := w.takeFile(ctx, f.ID)
		switch {
		case err != nil:
			return nil, err
		case held:
			if f, err = w.Ledger.File(ctx, f.ID); err == nil {
				err = o.check(ctx, w.Ledger, f)
			}
			if err != nil {
				w.giveFile(ctx, f.ID)
			}
			return f, err
		case o == OrderReject:
			if f, err = LeaveOrder(ctx, w.Ledger, w.Spool, o, f.ID); err == nil {
				err = &Left{Order: o, File: f}
			}
			return nil, err
		case tries == maxTries: // a finished file is in hand for a moment only
			return nil, notApplicable("wait until it is done", "another worker is at work on %s", f.ID)
		}
		if err := sleep(ctx, leasePoll); err != nil {
			return nil, err
		}
	}
}

// maxTries is how often a file that rests is asked for.
const maxTries = 50

// checkRetry returns why a file cannot be retried; nil when it can.
func checkRetry(ctx context.Context, led ledger.Ledger, f *ledger.File) error {
	totals, err := led.Totals(ctx, f.ID)
	if err != nil {
		return err
	}
	unfinished := totals.Rows[ledger.Failed]+totals.Rows[ledger.Unknown] > 0
	if !unfinished {
		if unfinished, err = lacksLink(ctx, led, f); err != nil {
			return err
		}
	}
	switch {
	case f.State == ledger.Sending && f.Retried > 0: // an earlier retry did not come to its end
	case f.State == ledger.Held:
		return notApplicable("run: billdrop approve "+f.ID, "%s is held, and nothing of it was sent", f.ID)
	case f.State != ledger.Done:
		return notApplicable("the next run resumes it", "%s is not finished yet (%s)", f.ID, f.State)
	case !unfinished:
		return fmt.Errorf("%w: no row of file %s is failed or unknown", ErrNothingToDo, f.ID)
	case f.Origin == ledger.FromLocal && f.Path == "":
		return notApplicable("import it once more: rows that have their bill are not sent again", "%s came from standard input and is not kept", f.ID)
	}
	return nil
}

// lacksLink reports whether the payment request of some bill that a file created could not be
// made, and may be asked for again.
func lacksLink(ctx context.Context, led ledger.Ledger, f *ledger.File) (bool, error) {
	if f.Outcome != ledger.CompletedWithErrors {
		return false, nil
	}
	for from := 1; ; {
		page, err := led.Outcomes(ctx, f.ID, from, outcomesPage)
		if err != nil || len(page) == 0 {
			return false, err
		}
		for i := range page {
			if page[i].LinkMissing() && page[i].Code == ledger.CodeLinkFailed {
				return true, nil
			}
		}
		from = page[len(page)-1].Row + 1
	}
}

// reopen makes durable that a finished file is to be retried.
func (j *job) reopen(ctx context.Context) error {
	if j.file.State == ledger.Sending {
		return nil
	}
	// The copy comes first, so that a file that is gone stays finished.
	j.file.State = ledger.Sending
	err := j.sameFormat()
	if err == nil {
		err = j.ensureSpooled(ctx)
	}
	j.file.State = ledger.Done
	if err != nil {
		return err
	}
	if err := j.dropParts(ctx); err != nil { // of an earlier sending
		return err
	}
	j.file.Retried++
	return j.advance(ctx, ledger.Sending)
}

// Approve releases a held file: the next run sends it, whether it exceeds its limits or
// not. ErrNotApplicable when it is not held.
func Approve(ctx context.Context, led ledger.Ledger, id string) (*ledger.File, error) {
	for changes := 0; ; changes++ {
		f, err := led.File(ctx, id)
		if err == nil {
			err = OrderApprove.check(ctx, led, f)
		}
		if err != nil {
			return nil, err
		}
		if err = approve(ctx, led, f); !errors.Is(err, ledger.ErrChanged) || changes == maxChanges {
			return f, err
		}
	}
}

func approve(ctx context.Context, led ledger.Ledger, f *ledger.File) error {
	f.Approved = true
	if err := led.SaveFile(ctx, f); err != nil {
		return fmt.Errorf("approve %s: %w", f.ID, err)
	}
	return nil
}

// fileOf returns a file and the feed that it came from.
func (w *Worker) fileOf(ctx context.Context, id string) (*ledger.File, *Feed, error) {
	f, err := w.Ledger.File(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(w.Feeds, func(feed *Feed) bool { return feed.Name == f.Feed })
	if i < 0 {
		return nil, nil, notApplicable("put the feed back", "%s came from feed %q, which is no longer in the configuration", id, f.Feed)
	}
	if err := w.checkScope(w.Feeds[i], f); err != nil {
		return nil, nil, err
	}
	if err := w.checkAPI(ctx, w.Feeds[i]); err != nil {
		return nil, nil, err
	}
	return f, w.Feeds[i], nil
}

// reach connects to the place of a file; done ends the connection.
func (w *Worker) reach(ctx context.Context, feed *Feed, f *ledger.File) (p transfer.Place, done func(), err error) {
	if f.Origin == ledger.FromLocal {
		return localPlace(f), func() {}, nil
	}
	if feed.Connect == nil {
		return nil, nil, notApplicable("put the section back", "%s came from an SFTP inbox, and the configuration no longer has an sftp section", f.ID)
	}
	remote, err := feed.Connect(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("feed %s: %w", feed.Name, err)
	}
	return serverPlace(feed, remote), func() { remote.Close() }, nil
}
