package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strings"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// job is one file on its way through its life. One goroutine works on it.
type job struct {
	*Worker
	feed    *Feed
	place   transfer.Place
	file    *ledger.File
	log     *slog.Logger
	survey  *billfile.Survey // of the spooled copy; nil until taken
	tally   *report.Tally    // of the reports that this job wrote into the spool
	sums    ledger.Reports   // SHA-256 (hex) of these
	newStem bool             // this job chose the stem, so no report of it existed
	// noChecksum is why the file is held because of its checksum companion; nil if it is not.
	noChecksum *holdReason
	summary    *report.Summary // set once it is published, or the file rests
	// linksMissing is how many bills of the file have no payment request though the feed
	// presents them.
	linksMissing int
}

func (w *Worker) newJob(feed *Feed, f *ledger.File, p transfer.Place) *job {
	return &job{
		Worker: w, feed: feed, place: p, file: f,
		log: w.Log.With("feed", feed.Name, "file", f.Name, "file_id", f.ID),
	}
}

// live takes a file from the state that it has in the ledger to its end, or to where it
// rests (held). A run, an import and the recovery after a crash all call it, because a file
// is always in the state of the last step that became durable, and every step may be
// repeated.
func (j *job) live(ctx context.Context) error {
	rejected := givenUp(j.file) // it ends without what cannot be had any more
	if err := j.sameFormat(); err != nil && !rejected {
		return err
	}
	if err := j.ensureSpooled(ctx); err != nil && (!rejected || outOfReach(ctx, err)) {
		return j.cannotFetch(err)
	}
	for changes := 0; !j.file.State.Finished(); {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		// A rejection may have come at any time. Before the first send it is looked for once
		// more after Sending has become durable: see LeaveOrder in orders.go.
		if err := j.obeyRejection(ctx); err != nil {
			return err
		}
		var err error
		switch state := j.file.State; {
		case RejectedByHand(j.file) && state != ledger.Claiming && state != ledger.Claimed:
			// Stopped within: its rows get the same outcomes again.
			err = j.settleRejected(ctx)
		case state == ledger.Claiming:
			// Stopped within: the file is on one side of the rename, and resolveClaim looks
			// on which.
			err = j.resolveClaim(ctx)
		case state == ledger.Claimed:
			// Stopped within: companions are on either side of their rename, which is tried
			// again; or a partial copy is in the spool, which the next fetch overwrites.
			err = j.fetch(ctx)
		case state == ledger.Spooled:
			// Nothing is sent in this step. Stopped within: an acknowledgement or a summary
			// may be published already; the same is published again.
			err = j.judge(ctx)
		case state == ledger.Held:
			if resting(j.file) {
				return j.rest(ctx)
			}
			// Judged again, because the feed's format may have changed meanwhile.
			j.file.Outcome, j.file.Code, j.file.Detail = "", "", ""
			err = j.advance(ctx, ledger.Spooled)
		case state == ledger.Sending:
			// Stopped within: rows with an outcome are skipped, the others continue from
			// their records; likewise bills with a payment request.
			err = j.send(ctx)
		case state == ledger.Settled:
			// All that the reports say is fixed. Stopped within: they are written again,
			// same bytes.
			err = j.publish(ctx)
		case state == ledger.Published:
			// Stopped within: Archive finds the file where it was moved to.
			err = j.archive(ctx)
		default:
			err = &Error{
				Err:  fmt.Errorf("file %s is in state %q, which this version does not know", j.file.ID, j.file.State),
				Hint: "run the version that wrote it",
			}
		}
		if errors.Is(err, ledger.ErrChanged) && changes < maxChanges {
			changes++
			err = j.refresh(ctx) // and decide anew
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxChanges is how often another process may change a file that is in this one's hand.
const maxChanges = 10

// advance makes the next state durable.
func (j *job) advance(ctx context.Context, s ledger.FileState) error {
	before := j.file.State
	j.file.State = s
	if err := j.Ledger.SaveFile(context.WithoutCancel(ctx), j.file); err != nil {
		j.file.State = before
		return fmt.Errorf("record state of %s: %w", j.file.Name, err)
	}
	j.log.Debug("file state", "state", string(s))
	return nil
}

// errFormat: the rows of a file under way would be read differently.
var errFormat = errors.New("the feed's format was changed while this file was under way")

// sameFormat returns an error when the rows of a file under way would be read differently
// than before: a row that was sent could become an invalid one.
func (j *job) sameFormat() error {
	switch {
	case j.file.State == ledger.Sending, j.file.State == ledger.Settled, RejectedByHand(j.file):
		if j.file.Format != "" && j.file.Format != j.feed.Format.Fingerprint() {
			return &Error{Err: errFormat, Hint: "put it back until the file is done, or retried, then change it; or end the file: billdrop reject " + j.file.ID}
		}
	}
	return nil
}

// errOtherFile: another file is where the claimed one was.
var errOtherFile = errors.New("another file")

// ensureSpooled fetches the copy again where it is needed and gone, or was changed. The copy
// must have the same hash as the first.
func (j *job) ensureSpooled(ctx context.Context) error {
	switch j.file.State {
	case ledger.Spooled, ledger.Held, ledger.Sending:
	case ledger.Settled:
		if !j.file.RowsRead && !flooded(j.file) {
			return nil // its reports need no row of it
		}
	default:
		return nil
	}
	limit := j.feed.Format.MaxFileSize
	if j.file.SHA256 == "" || limit > 0 && j.file.Size > limit {
		return nil
	}
	copied, err := j.spool.open(j.file)
	switch {
	case err == nil:
		return copied.Close()
	case errors.Is(err, errCopyDiffers):
		j.log.Warn("the copy in the spool was changed, and is fetched again: find out who can write there", "path", j.spool.path(j.file.ID))
		if err := j.spool.remove(j.file.ID); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	sum, _, err := j.spool.take(ctx, j.file.ID, limit, fetching(j.place, j.file))
	if sourceGone(err) {
		if found, e := j.takeArchived(ctx); found || e != nil {
			return e
		}
	}
	if err != nil {
		return err
	}
	if sum != j.file.SHA256 {
		return errors.Join(&delivery.Stop{
			Reason: fmt.Sprintf("%s is no longer the file that was claimed (its SHA-256 was %s)", j.file.Path, j.file.SHA256),
			Hint:   "put that one back", Err: errOtherFile,
		}, j.spool.remove(j.file.ID))
	}
	return nil
}

// takeArchived copies the file from where it rests, known by its hash. A ledger that was
// restored from a backup may have it under way still.
func (j *job) takeArchived(ctx context.Context) (found bool, err error) {
	for _, path := range j.place.Rests(placed(j.file)) {
		f := *j.file
		f.Path = path
		sum, _, err := j.spool.take(ctx, f.ID, j.feed.Format.MaxFileSize, fetching(j.place, &f))
		switch {
		case err == nil && sum == f.SHA256:
			j.log.Warn("the file was archived already, and is read again from there: was the ledger restored from a backup?", "path", path)
			j.file.Path, j.file.ModTime = path, f.ModTime
			return true, nil
		case err == nil:
			err = j.spool.remove(f.ID)
		case sourceGone(err):
			err = nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// cannotFetch adds to the error of a file that cannot be copied again how to end it.
func (j *job) cannotFetch(err error) error {
	if !sourceGone(err) {
		return err
	}
	return &Error{
		Err:  fmt.Errorf("its copy in the spool (%s) is gone or was changed, and it cannot be copied again: %w", j.spool.path(j.file.ID), err),
		Hint: "put the file back as it was, or end it: billdrop reject " + j.file.ID,
	}
}

// chooseStem chooses the stem of the reports, one that overwrites no earlier report, and
// advances the file with it.
func (j *job) chooseStem(ctx context.Context, s ledger.FileState) error {
	for n := 1; ; n++ {
		stem := report.Stem(j.file.Name, j.file.SHA256, n)
		names := report.NamesOf(stem)
		taken := false
		for _, name := range []string{names.Ack, names.Summary} {
			reported, err := j.place.Reported(ctx, name)
			if err != nil {
				return err
			}
			taken = taken || reported
		}
		if taken {
			continue
		}
		j.file.Stem, j.newStem = stem, true
		j.announce(ackField, hexSum(j.ack()))
		err := j.advance(ctx, s)
		if errors.Is(err, ledger.ErrExists) {
			continue
		}
		return err
	}
}

// send takes every row to its outcome.
func (j *job) send(ctx context.Context) error {
	if err := j.bind(ctx); err != nil {
		return err
	}
	if err := j.reportStart(ctx); err != nil {
		return err
	}
	send := j.deliver
	if j.shared != nil {
		send = j.sendShared
	}
	err := send(ctx)
	if err == nil {
		err = j.present(ctx)
	}
	if errors.Is(err, errOrdered) {
		return nil // live obeys it
	}
	if err != nil {
		return err
	}
	return j.settle(ctx, "")
}

// present makes the payment requests of the bills that the file created. All its rows have
// their outcome. In a cluster the file's owner alone does it.
func (j *job) present(ctx context.Context) error {
	if j.feed.Present == nil {
		return nil
	}
	watched, stop := j.untilRejected(ctx)
	defer stop()
	missing, err := j.feed.Lane.Present(watched, j.Ledger, j.file, *j.feed.Present)
	j.noticeLoss(err)
	if j.linksMissing = missing; err == nil && missing > 0 {
		j.log.Warn("bills were created, and payment links are missing: run billdrop retry with the file's id", "missing", missing)
	}
	return err
}

const (
	// linksAdvice ends what is said of links that are missing.
	linksAdvice = "; the codes link_failed and link_unknown in its results say why. To ask again: billdrop retry "
	// changedAdvice ends what is said of a file that was changed while its rows were sent.
	changedAdvice = ": what differs was not read; deliver it again, and rows that have their bill are not billed twice"
)

// sourceChanged reports whether the delivered file is no longer the one whose rows were sent. Its
// sender takes all of it for processed. It stays so after a retry, when the file is archived.
func (j *job) sourceChanged(ctx context.Context) bool {
	if strings.Contains(j.file.Detail, changedAdvice) {
		return true
	}
	changed := j.file.SHA256 != "" && j.place.Changed(ctx, placed(j.file), j.file.SHA256)
	if changed {
		j.log.Warn("the file was changed after it had been read, and what differs was not read: deliver it again")
	}
	return changed
}

// explain has the file's detail say why it completed with errors where its rows do not: links are
// missing, or the delivered file was changed.
func (j *job) explain(changed bool) {
	var why []string
	if n := j.linksMissing; n > 0 {
		why = append(why, fmt.Sprintf("created bills without a payment link: %d%s%s", n, linksAdvice, j.file.ID))
	}
	if changed {
		why = append(why, fmt.Sprintf("%s was changed after billdrop had read it, and is kept as %s.changed%s%s", j.file.Name, j.file.Stem, path.Ext(j.file.Name), changedAdvice))
	}
	if d := j.file.Detail; d == "" || strings.Contains(d, linksAdvice) || strings.Contains(d, changedAdvice) { // of a settling before
		j.file.Detail = strings.Join(why, "; ")
	}
}

// deliver delivers all rows of the file.
func (j *job) deliver(ctx context.Context) error {
	return j.decode(ctx, func(recs *billfile.Decoder) error {
		watched, stop := j.untilRejected(ctx)
		defer stop()
		return j.feed.Lane.Deliver(watched, j.Ledger, j.file, recs, j.rowDone())
	})
}

// rowDone returns what reports the rows of the file to Progress; nil if nothing does.
func (j *job) rowDone() func(ledger.Status) {
	if j.Progress == nil {
		return nil
	}
	return func(s ledger.Status) { j.Progress.RowDone(j.file.ID, s) }
}

// reportStart reports the file to Progress, with the rows that earlier runs have done.
func (j *job) reportStart(ctx context.Context) error {
	if j.Progress == nil {
		return nil
	}
	before, err := j.Ledger.Totals(ctx, j.file.ID)
	if err != nil {
		return err
	}
	delete(before.Rows, ledger.NotSent)
	if j.file.Retried > 0 { // these are sent again
		delete(before.Rows, ledger.Failed)
		delete(before.Rows, ledger.Unknown)
	}
	j.Progress.FileStarted(Started{ID: j.file.ID, Name: j.file.Name, Feed: j.file.Feed, Rows: j.file.Rows, Done: before.Rows})
	return nil
}

// settle fixes all that the reports say. outcome "" = by the outcomes of the rows.
func (j *job) settle(ctx context.Context, outcome string) error {
	if err := j.Ledger.Flush(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("record outcomes of %s: %w", j.file.Name, err)
	}
	// The sums are taken while the reports are written. Both read all outcomes, and neither
	// needs the other.
	var sums ledger.Totals
	var both errgroup.Group
	both.Go(func() (err error) {
		sums, err = j.Ledger.Totals(ctx, j.file.ID)
		return err
	})
	if j.file.RowsRead || flooded(j.file) {
		both.Go(func() error { return j.compose(ctx) })
	}
	if err := both.Wait(); err != nil {
		return err
	}
	if outcome == "" {
		changed := j.sourceChanged(ctx)
		if outcome = report.OutcomeOf(sums.Rows); j.linksMissing > 0 || changed {
			outcome = ledger.CompletedWithErrors
		}
		j.explain(changed)
	}
	if flooded(j.file) {
		sums = report.Unsent(j.survey.Rows, j.survey.Invalid, j.survey.Amounts, j.survey.InvalidAmounts)
	}
	j.file.Sums, j.file.Outcome = &sums, outcome
	j.file.Finished = j.feed.Lane.Now()
	j.file.RunID, j.file.Version = j.runID, j.Version
	j.announce(resultsField, j.sums.Results)
	j.announce(rejectsField, j.sums.Rejects)
	if err := j.advance(ctx, ledger.Settled); err != nil {
		return err
	}
	return j.dropParts(ctx)
}

// archive moves the bill file to where it rests, and clears the spool last, because until
// then its copy may be the only one.
func (j *job) archive(ctx context.Context) error {
	at, err := j.place.Archive(ctx, placed(j.file), func() (io.ReadSeekCloser, error) { return j.spool.open(j.file) })
	if err != nil {
		return err
	}
	j.file.Path = at
	return j.finish(ctx)
}

// finish ends the file, and clears the spool.
func (j *job) finish(ctx context.Context) error {
	if err := j.advance(ctx, ledger.Done); err != nil {
		return err
	}
	if j.summary == nil { // published by a run that was stopped right after
		totals, err := ledger.SumsOf(ctx, j.Ledger, j.file)
		if err != nil {
			return err
		}
		s := report.Summarize(j.file, totals)
		j.summary = &s
	}
	j.log.Info("file done", "outcome", j.file.Outcome, "code", j.file.Code, "rows", j.file.Rows,
		"attention", j.summary.Rows.Attention(), "stem", j.file.Stem)
	if j.Progress != nil {
		j.Progress.FileFinished(j.file.ID, *j.summary)
	}
	if j.Finished != nil {
		j.Finished(*j.summary)
	}
	return j.spool.remove(j.file.ID)
}
