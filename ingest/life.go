package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
	"billdrop/ingest/transfer"
)

// job is one file on its way through its life. It is worked on by one goroutine.
type job struct {
	*Worker
	feed   *Feed
	place  transfer.Place
	file   *ledger.File
	log    *slog.Logger
	survey *billfile.Survey // of the spooled copy; nil until taken
	tally  *report.Tally    // of the reports that this job has written into the spool
	// summary is set once it is published.
	summary *report.Summary
}

// live takes a file from the state that the ledger gives it to its end, or to where it rests (held). A run, an
// import and the recovery after a crash all call it: a file is always in the state of the last
// step that became durable, and every step may be repeated.
func (j *job) live(ctx context.Context) error {
	if err := j.sameFormat(); err != nil {
		return err
	}
	if err := j.respool(ctx); err != nil && !(givenUp(j.file) && lost(err)) {
		return err
	}
	for !j.file.State.Finished() {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var err error
		switch j.file.State {
		case ledger.Claiming:
			// Stopped before: nothing is in the ledger. Stopped after: the file is on one side of the
			// rename, and resolveClaim looks on which.
			err = j.resolveClaim(ctx)
		case ledger.Claimed:
			// Stopped within: companions on either side of their rename, which is tried again, or a
			// partial copy in the spool, which the next fetch overwrites.
			err = j.fetch(ctx)
		case ledger.Spooled:
			// Nothing is sent in this step. Stopped within: an acknowledgement or a summary may be
			// there already; they are published again, the same.
			err = j.judge(ctx)
		case ledger.Held:
			switch {
			case givenUp(j.file):
				// Stopped within: its rows get the same outcomes again.
				err = j.refuseHeld(ctx)
			case resting(j.file):
				return j.rest(ctx)
			default:
				// Judged once more: the feed's format may have changed while it lay there.
				j.file.Outcome, j.file.Code, j.file.Detail = "", "", ""
				err = j.advance(ctx, ledger.Spooled)
			}
		case ledger.Sending:
			// Stopped within: rows with an outcome are skipped, the others go on from their records.
			err = j.send(ctx)
		case ledger.Settled:
			// All that the reports say is fixed. Stopped within: they are written again, same bytes.
			err = j.publish(ctx)
		case ledger.Published:
			// Stopped within: the file is found where it was moved to.
			err = j.archive(ctx)
		default:
			err = fmt.Errorf("file %s is in state %q, which this version does not know: run the version that wrote it", j.file.ID, j.file.State)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

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

// atRest is what a place needs to know of a file.
func atRest(f *ledger.File) transfer.File {
	return transfer.File{
		Name: f.Name, Path: f.Path, Size: f.Size, ModTime: f.ModTime, Stem: f.Stem, Rejected: f.Outcome == ledger.FileRejected,
	}
}

// localPlace is the place of an imported file.
func localPlace(f *ledger.File) transfer.Place { return transfer.Local{Results: f.Results} }

// serverPlace is the place of a feed's claimed files.
func serverPlace(feed *Feed, remote transfer.Remote) *transfer.Server {
	return &transfer.Server{Remote: remote, Dirs: feed.Dirs, Marker: feed.Watch.Marker}
}

// fetching copies a file from its place, and records in f the modification time of what it copied.
func fetching(p transfer.Place, f *ledger.File) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		modTime, err := p.Fetch(ctx, atRest(f), w)
		if err == nil {
			f.ModTime = modTime
		}
		return err
	}
}

// resolveClaim settles a claim of which nobody knows whether the rename took place.
func (j *job) resolveClaim(ctx context.Context) error {
	claimed, err := j.place.Claimed(ctx, atRest(j.file))
	if err != nil {
		return err
	}
	if !claimed {
		return j.advance(ctx, ledger.Dropped)
	}
	return j.advance(ctx, ledger.Claimed)
}

// fetch spools the file and gives its reports their name.
func (j *job) fetch(ctx context.Context) error {
	if j.file.Origin == ledger.FromLocal && j.file.Path == "" {
		return j.advance(ctx, ledger.Dropped) // standard input that was cut short: nothing was sent for it
	}
	if err := j.place.TakeCompanions(ctx, atRest(j.file)); err != nil {
		return err
	}
	sum, size, err := j.spool.take(ctx, j.file.ID, j.feed.Format.MaxFileSize, fetching(j.place, j.file))
	if errors.Is(err, inbox.ErrNotExist) || errors.Is(err, fs.ErrNotExist) {
		j.log.Warn("the file is gone, and nothing was read or sent of it: deliver it again if it was not taken back on purpose", "path", j.file.Path)
		return j.advance(ctx, ledger.Dropped)
	}
	if err != nil {
		return err
	}
	j.file.SHA256, j.file.Size = sum, size
	j.file.Started = time.Now()
	return j.name(ctx, ledger.Spooled)
}

var errFormat = errors.New("the feed's format was changed while this file was under way: put it back until the file is done, or retried, then change it")

// sameFormat makes sure that the rows of a file that is under way are read as they were before: read otherwise, a row that was
// sent could turn into an invalid one.
func (j *job) sameFormat() error {
	switch {
	case j.file.State == ledger.Sending, j.file.State == ledger.Settled, givenUp(j.file):
		if j.file.Format != "" && j.file.Format != j.feed.Format.Fingerprint() {
			return errFormat
		}
	}
	return nil
}

// errAnother is why a run stops that finds another file where the claimed one should be.
var errAnother = errors.New("another file")

// respool makes sure that the copy to be read is there: fetched again where it is gone, and then only taken
// if it is the same, byte for byte.
func (j *job) respool(ctx context.Context) error {
	switch j.file.State {
	case ledger.Spooled, ledger.Held, ledger.Sending:
	case ledger.Settled:
		if !j.file.RowsRead {
			return nil // its reports need no row of it
		}
	default:
		return nil
	}
	limit := j.feed.Format.MaxFileSize
	if _, err := os.Stat(j.spool.path(j.file.ID)); err == nil || (limit > 0 && j.file.Size > limit) {
		return nil
	}
	sum, _, err := j.spool.take(ctx, j.file.ID, limit, fetching(j.place, j.file))
	if err != nil {
		return err
	}
	if sum != j.file.SHA256 {
		return errors.Join(&delivery.Stop{
			Reason: fmt.Sprintf("%s is not the file any more that was claimed (its SHA-256 was %s)", j.file.Path, j.file.SHA256),
			Hint:   "put that one back", Err: errAnother,
		}, j.spool.remove(j.file.ID))
	}
	return nil
}

// name chooses the stem of the reports, one that overwrites no earlier report, and advances the file with it.
func (j *job) name(ctx context.Context, s ledger.FileState) error {
	for n := 1; ; n++ {
		stem := report.Stem(j.file.Name, j.file.SHA256, n)
		names := report.NamesOf(stem)
		taken := false
		for _, name := range []string{names.Ack, names.Summary} {
			there, err := j.place.Reported(ctx, name)
			if err != nil {
				return err
			}
			taken = taken || there
		}
		if taken {
			continue
		}
		j.file.Stem = stem
		err := j.advance(ctx, s)
		if errors.Is(err, ledger.ErrExists) {
			continue
		}
		return err
	}
}

// judge validates the whole file and decides whether it is sent, held, or refused. Nothing is sent before.
func (j *job) judge(ctx context.Context) error {
	ack := report.Ack{
		FileID: j.file.ID, File: j.file.Name, Size: j.file.Size, SHA256: j.file.SHA256, ReceivedAt: report.At(j.file.Received),
	}
	if err := j.place.Publish(ctx, report.NamesOf(j.file.Stem).Ack, bytes.NewReader(ack.Bytes())); err != nil {
		return err
	}
	refusal, err := j.refusal(ctx)
	if err != nil {
		return err
	}
	if refusal != nil {
		j.file.Code, j.file.Detail, j.file.Line = refusal.Code, refusal.Detail, refusal.Line
		return j.settle(ctx, ledger.FileRejected)
	}
	j.file.Rows, j.file.Lines, j.file.RowsRead = j.survey.Rows, ledger.Lines(j.survey.Lines), true
	j.file.Format = j.feed.Format.Fingerprint()
	if j.feed.RejectInvalid && j.survey.Invalid > 0 {
		return j.refuseRows(ctx)
	}
	hold, err := j.overLimit(ctx)
	if err != nil {
		return err
	}
	if hold != nil && !j.file.Approved {
		return j.hold(ctx, hold)
	}
	return j.advance(ctx, ledger.Sending)
}

// refusal finds what is wrong with the file as a whole, and takes the survey.
func (j *job) refusal(ctx context.Context) (*billfile.FileError, error) {
	companion, err := j.place.Companion(ctx, atRest(j.file), transfer.ChecksumSuffix)
	if err != nil {
		return nil, err
	}
	if wrong := ChecksumMismatch(j.file.Name, j.file.SHA256, companion); wrong != nil {
		return wrong, nil
	}
	if limit := j.feed.Format.MaxFileSize; limit > 0 && j.file.Size > limit {
		return &billfile.FileError{Code: billfile.CodeFileTooLarge, Detail: fmt.Sprintf(
			"the file has %d bytes, the limit is %d: split it, or raise max_file_size of the feed", j.file.Size, limit)}, nil
	}
	var refusal *billfile.FileError
	if err := j.takeSurvey(ctx); errors.As(err, &refusal) {
		return refusal, nil
	} else if err != nil {
		return nil, err
	}
	return nil, nil
}

// takeSurvey reads the spooled copy through, once in the life of a job.
func (j *job) takeSurvey(ctx context.Context) error {
	if j.survey != nil {
		return nil
	}
	open := func() (io.ReadCloser, error) { return j.spool.open(j.file.ID) }
	survey, err := billfile.TakeSurvey(ctx, open, j.feed.Format, nil)
	if err != nil {
		return fmt.Errorf("validate %s: %w", j.file.Name, err)
	}
	j.survey = survey
	return nil
}

// refuseRows settles a file that is refused for its invalid rows.
func (j *job) refuseRows(ctx context.Context) error {
	if err := j.recordUnsent(ctx); err != nil {
		return err
	}
	j.file.Code = "invalid_rows"
	j.file.Detail = fmt.Sprintf("%d of %d rows are invalid, and the feed sends all rows of a file or none: correct them and deliver the whole file again", j.survey.Invalid, j.survey.Rows)
	return j.settle(ctx, ledger.FileRejected)
}

// recordUnsent gives every row of a file of which nothing is sent its outcome.
func (j *job) recordUnsent(ctx context.Context) error {
	return j.eachRecord(ctx, func(rec *billfile.Record) error {
		o := report.OfRecord(rec)
		if o.Status == report.Valid {
			o.Status = ledger.NotSent
		}
		return j.Ledger.Record(ctx, ledger.Entry{File: j.file.ID, Outcome: &o})
	})
}

// eachRecord reads the spooled copy once more.
func (j *job) eachRecord(ctx context.Context, do func(*billfile.Record) error) error {
	return j.decode(ctx, func(recs *billfile.Decoder) error {
		for {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			rec, err := recs.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := do(rec); err != nil {
				return err
			}
		}
	})
}

// decode opens the spooled copy for a second reading.
func (j *job) decode(ctx context.Context, use func(*billfile.Decoder) error) error {
	if err := j.takeSurvey(ctx); err != nil {
		return err
	}
	f, err := j.spool.open(j.file.ID)
	if err != nil {
		return fmt.Errorf("read spooled %s: %w", j.file.Name, err)
	}
	defer f.Close()
	recs, err := j.survey.Decode(f)
	if err != nil {
		return fmt.Errorf("read spooled %s: %w", j.file.Name, err)
	}
	return use(recs)
}

// send takes every row to its outcome.
func (j *job) send(ctx context.Context) error {
	if err := j.tellStart(ctx); err != nil {
		return err
	}
	var told func(ledger.Status)
	if j.Progress != nil {
		told = func(s ledger.Status) { j.Progress.RowDone(j.file.ID, s) }
	}
	err := j.decode(ctx, func(recs *billfile.Decoder) error {
		return j.feed.Lane.Deliver(ctx, j.Ledger, j.file, recs, told)
	})
	if err != nil {
		return err
	}
	return j.settle(ctx, "")
}

// tellStart lets those who watch know of the file, and of the rows that earlier runs have done.
func (j *job) tellStart(ctx context.Context) error {
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

// settle fixes all that the reports say. outcome "" = as the rows came out.
func (j *job) settle(ctx context.Context, outcome string) error {
	if err := j.Ledger.Flush(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("record outcomes of %s: %w", j.file.Name, err)
	}
	// The reports are written meanwhile: both go through all outcomes, and neither needs the other's.
	var sums ledger.Totals
	var both errgroup.Group
	both.Go(func() (err error) {
		sums, err = j.Ledger.Totals(ctx, j.file.ID)
		return err
	})
	if j.file.RowsRead {
		both.Go(func() error { return j.compose(ctx) })
	}
	if err := both.Wait(); err != nil {
		return err
	}
	if outcome == "" {
		outcome = report.OutcomeOf(sums.Rows)
	}
	j.file.Sums, j.file.Outcome = &sums, outcome
	j.file.Finished = time.Now()
	j.file.RunID, j.file.Version = j.runID, j.Version
	return j.advance(ctx, ledger.Settled)
}

// archive moves the bill file away, and clears the spool last: until then its copy is all there may be.
func (j *job) archive(ctx context.Context) error {
	at, err := j.place.Archive(ctx, atRest(j.file), func() (io.ReadSeekCloser, error) { return j.spool.open(j.file.ID) })
	if err != nil {
		return err
	}
	j.file.Path = at
	if err := j.advance(ctx, ledger.Done); err != nil {
		return err
	}
	if j.summary == nil { // published by a run that was stopped before it could tell
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
