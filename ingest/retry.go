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

var (
	// ErrNothingToDo: no row of the file is failed or unknown.
	ErrNothingToDo = errors.New("nothing to do")
	// ErrNotApplicable: the command does not apply to the file in the state it is in. The text says why.
	ErrNotApplicable = errors.New("not possible for this file")
)

// Retry sends the rows of a finished file again that ended as failed or unknown, and publishes its reports anew under the
// same names. The file is read again from where it rests, and taken only if it is the same, byte for byte.
// A retry that is cut short is gone on with like any other file. Errors wrap ErrNothingToDo, ErrNotApplicable and
// ledger.ErrNotFound, when nothing was touched, and what Poll's errors do.
func (w *Worker) Retry(ctx context.Context, id string) (report.Summary, error) {
	return w.again(ctx, OrderRetry, id)
}

// Reject gives a held file up: nothing of it is sent, its reports say so under the name that they have, and it goes to where
// refused files rest. Cut short, it is gone on with like any other file. Errors are as Retry's.
func (w *Worker) Reject(ctx context.Context, id string) (report.Summary, error) {
	return w.again(ctx, OrderReject, id)
}

// again takes up a file that rests, and sees it to its end.
func (w *Worker) again(ctx context.Context, o Order, id string) (report.Summary, error) {
	f, feed, err := w.fileOf(ctx, id)
	if err != nil {
		return report.Summary{}, err
	}
	if err := o.fits(ctx, w.Ledger, f); err != nil {
		return report.Summary{}, err
	}
	p, done, err := w.placeOf(ctx, feed, f)
	if err != nil {
		return report.Summary{}, err
	}
	defer done()
	j := w.newJob(feed, f, p)
	if err = j.obey(ctx, o); err == nil {
		err = j.live(ctx)
	}
	if err != nil {
		return report.Summary{}, fmt.Errorf("%s %s (%s): %w", o, f.Name, f.ID, err)
	}
	return *j.summary, nil
}

// retriable tells why a file cannot be retried; nil when it can.
func retriable(ctx context.Context, led ledger.Ledger, f *ledger.File) error {
	totals, err := led.Totals(ctx, f.ID)
	if err != nil {
		return err
	}
	switch {
	case f.State == ledger.Sending && f.Retried > 0: // an earlier retry did not come to its end
	case f.State == ledger.Held:
		return fmt.Errorf("%w: %s is held, and nothing of it was sent; run: billdrop approve %s", ErrNotApplicable, f.ID, f.ID)
	case f.State != ledger.Done:
		return fmt.Errorf("%w: %s is not finished yet (%s); the next run goes on with it", ErrNotApplicable, f.ID, f.State)
	case totals.Rows[ledger.Failed]+totals.Rows[ledger.Unknown] == 0:
		return fmt.Errorf("%w: no row of file %s is failed or unknown", ErrNothingToDo, f.ID)
	case f.Origin == ledger.FromLocal && f.Path == "":
		return fmt.Errorf("%w: %s came from standard input and is not kept; import it once more, rows that are there already are not sent again", ErrNotApplicable, f.ID)
	}
	return nil
}

// reopen makes durable that a finished file is to be retried.
func (j *job) reopen(ctx context.Context) error {
	if j.file.State == ledger.Sending {
		return nil
	}
	// The copy comes first: a file that is not there any more stays finished.
	j.file.State = ledger.Sending
	err := j.sameFormat()
	if err == nil {
		err = j.respool(ctx)
	}
	j.file.State = ledger.Done
	if err != nil {
		return err
	}
	j.file.Retried++
	return j.advance(ctx, ledger.Sending)
}

// Approve releases a held file: the next run sends it, over its limits or not. ErrNotApplicable when it is not held.
func Approve(ctx context.Context, led ledger.Ledger, id string) (*ledger.File, error) {
	f, err := led.File(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := OrderApprove.fits(ctx, led, f); err != nil {
		return nil, err
	}
	return f, approve(ctx, led, f)
}

func approve(ctx context.Context, led ledger.Ledger, f *ledger.File) error {
	f.Approved = true
	if err := led.SaveFile(ctx, f); err != nil {
		return fmt.Errorf("approve %s: %w", f.ID, err)
	}
	return nil
}

// fileOf finds a file and the feed that it came in by.
func (w *Worker) fileOf(ctx context.Context, id string) (*ledger.File, *Feed, error) {
	f, err := w.Ledger.File(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(w.Feeds, func(feed *Feed) bool { return feed.Name == f.Feed })
	if i < 0 {
		return nil, nil, fmt.Errorf("%w: %s came in by feed %q, which the configuration does not have any more: put it back", ErrNotApplicable, id, f.Feed)
	}
	if scope := w.Feeds[i].Lane.Scope(); scope != f.Scope {
		return nil, nil, fmt.Errorf("%w: %s was sent for merchant %s in %s mode, the feed is now for %s in %s mode: put merchant and key back",
			ErrNotApplicable, id, f.Scope.Merchant, f.Scope.Mode, scope.Merchant, scope.Mode)
	}
	return f, w.Feeds[i], nil
}

// placeOf reaches the place of a file; done lets go of it.
func (w *Worker) placeOf(ctx context.Context, feed *Feed, f *ledger.File) (p transfer.Place, done func(), err error) {
	if f.Origin == ledger.FromLocal {
		return localPlace(f), func() {}, nil
	}
	if feed.Connect == nil {
		return nil, nil, fmt.Errorf("%w: %s came from an SFTP inbox, and the configuration has no sftp section any more: put it back", ErrNotApplicable, f.ID)
	}
	remote, err := feed.Connect(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("feed %s: %w", feed.Name, err)
	}
	return serverPlace(feed, remote), func() { remote.Close() }, nil
}
