package ingest

import (
	"context"
	"fmt"
	"slices"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

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
	for o, err := range report.Pages(func(from int) ([]ledger.Outcome, error) { return led.Outcomes(ctx, f.ID, from, outcomesPage) }) {
		if err != nil {
			return false, err
		}
		if o.LinkMissing() && o.Code == ledger.CodeLinkFailed {
			return true, nil
		}
	}
	return false, nil
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
