package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// The rows of one file are sent by all workers. Its owner, the worker that has the file in hand,
// divides it into parts: contiguous rows, so that a worker reads the file forwards. A party may lie
// in several parts, because the ledger decides who leads it. Once all parts are done, the owner
// alone settles and publishes.

const (
	// maxParts bounds the parts of a file.
	maxParts = 400
	// partsPoll is how often the owner looks at the parts.
	partsPoll = 200 * time.Millisecond
	// stalledAfter is how long no part may be in any hand before the owner gives up because of
	// those that failed.
	stalledAfter = 3 * colleaguePoll
)

// division is how files are divided among workers.
type division struct {
	from int // rows, from which on a file is divided
	part int // rows of a part, or as many as it takes for maxParts parts
}

var usualDivision = division{from: 2000, part: 500}

// divided reports whether other workers send rows of a file, too. A local file is on the disk of
// one machine.
func (d division) divided(f *ledger.File) bool {
	return f.Origin == ledger.FromInbox && f.Rows >= d.from
}

// partsOf divides a file. The last parts are smaller, so that all workers end at about the
// same time.
func (d division) partsOf(f *ledger.File) []ledger.Part {
	if !d.divided(f) {
		return []ledger.Part{{No: 0, From: 1, To: f.Rows + 1}}
	}
	most := max(d.part, (f.Rows+maxParts-1)/maxParts)
	var parts []ledger.Part
	for from := 1; from <= f.Rows; {
		left := f.Rows + 1 - from
		size := min(most, max(d.part/5, left/16, 1), left)
		parts = append(parts, ledger.Part{No: len(parts), From: from, To: from + size})
		from += size
	}
	return parts
}

// sendShared takes every row to its outcome, together with the other workers.
func (j *job) sendShared(ctx context.Context) error {
	parts, err := j.shared.Parts(ctx, j.file.ID)
	if err == nil && len(parts) == 0 {
		if err = j.shared.AddParts(ctx, j.file.ID, j.crew.division.partsOf(j.file)); err == nil {
			parts, err = j.shared.Parts(ctx, j.file.ID)
		}
	}
	switch {
	case err != nil:
	case len(parts) == 1:
		err = j.sendWhole(ctx, parts[0])
	default:
		err = j.sendParts(ctx, parts)
	}
	j.noticeLoss(err)
	return err
}

// sendWhole sends a file that is not divided.
func (j *job) sendWhole(ctx context.Context, p ledger.Part) error {
	if p.Done {
		return nil
	}
	held, err := j.shared.AcquirePart(ctx, j.file.ID, p.No)
	if err == nil && !held {
		err = &delivery.Stop{Reason: fmt.Sprintf("another worker is at work on the rows of %s", j.file.Name), Hint: "wait until it is done"}
	}
	if err != nil {
		return err
	}
	err = j.deliver(ctx)
	if errors.Is(err, delivery.ErrSetup) {
		j.crew.drop(j.feed, err)
	}
	return errors.Join(err, j.crew.release(ctx, j.file.ID, p.No, err))
}

// sendParts has all workers send the parts of a file, and waits until they are done.
func (j *job) sendParts(ctx context.Context, parts []ledger.Part) error {
	if err := j.takeSurvey(ctx); err != nil {
		return err
	}
	if err := j.crew.lend(ctx, j); err != nil {
		return err
	}
	defer j.crew.takeBack(j)
	if err := j.offerParts(ctx, parts); err != nil {
		return err
	}
	ctx, stop := j.untilRejected(ctx)
	defer stop()
	progress, stopProgress := context.WithCancel(ctx)
	defer stopProgress()
	var reporting sync.WaitGroup
	reporting.Go(func() { j.reportProgress(progress) })
	defer reporting.Wait()
	defer stopProgress()
	var stalled time.Time // since when no part is in any hand
	for {
		parts, err := j.shared.Parts(ctx, j.file.ID)
		if err != nil {
			return cause(ctx, err)
		}
		undone, inHand, failed := count(parts)
		switch {
		case undone == 0:
			return nil
		case inHand > 0:
			stalled = time.Time{}
		case stalled.IsZero():
			stalled = time.Now()
		case time.Since(stalled) < stalledAfter:
		case failed != nil:
			// Not Setup: if it is this worker's, crew.unfit knows.
			return &delivery.Stop{Reason: failed.Reason, Hint: failed.Hint}
		default:
			if err := j.crew.unfit(j.feed); err != nil {
				return err
			}
		}
		j.crew.take(j.feed, j.file.ID, parts)
		if err := j.crew.awaitPart(ctx, partsPoll); err != nil {
			return err
		}
	}
}

// cause returns why ctx ended, or err if it did not.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// count counts the parts that are not done, and those of them that a worker has in hand.
// failed is why the first of the others was given up; nil if none was.
func count(parts []ledger.Part) (undone, inHand int, failed *ledger.PartFailure) {
	for _, p := range parts {
		switch {
		case p.Done:
			continue
		case p.Worker != "":
			inHand++
		case failed == nil:
			failed = p.Failure
		}
		undone++
	}
	return undone, inHand, failed
}

// partsSeen is what earlier looks at the parts of a file have shown.
type partsSeen struct {
	held   map[int]bool      // by No: it was in a hand
	passed map[int]time.Time // by No: since when it is free while later ones are not
}

func newPartsSeen() *partsSeen {
	return &partsSeen{make(map[int]bool), make(map[int]time.Time)}
}

// leftBehind returns the parts that nobody is about to take, because a worker that had them
// was lost or gave them back, or because their hints went astray: those that were in a hand,
// or have been passed over for longer than it takes to follow a hint. Those in this worker's
// own hand are among them, because it may have failed to give one back.
//
// A part that a lost worker had has been in a hand at one look at least, because it is until the
// worker counts as lost, and that is longer than the time between two looks.
func (s *partsSeen) leftBehind(parts []ledger.Part, me string, now time.Time) (left []ledger.Part) {
	last := -1 // that was taken
	for i, p := range parts {
		if p.Done || p.Worker != "" {
			last = i
		}
	}
	for i, p := range parts {
		switch {
		case p.Done, p.Failure != nil: // the owner offers it again
			delete(s.held, p.No)
			delete(s.passed, p.No)
			continue
		case p.Worker != "":
			s.held[p.No] = true
			delete(s.passed, p.No)
			if p.Worker != me {
				continue
			}
		}
		since, passed := s.passed[p.No]
		switch {
		case s.held[p.No], passed && now.Sub(since) >= colleaguePoll:
			left = append(left, p)
		case !passed && i < last:
			s.passed[p.No] = now
		}
	}
	return left
}

// offerParts offers the parts that are not done to all workers, also those that failed before.
func (j *job) offerParts(ctx context.Context, parts []ledger.Part) error {
	var free []int
	for _, p := range parts {
		if p.Done {
			continue
		}
		free = append(free, p.No)
		if p.Failure == nil || p.Worker != "" {
			continue
		}
		held, err := j.shared.AcquirePart(ctx, j.file.ID, p.No)
		if err == nil && held {
			err = j.shared.ReleasePart(ctx, j.file.ID, p.No, false, nil)
		}
		if err != nil {
			return err
		}
	}
	j.crew.again(j.feed)
	if d := j.Member.Dispatcher; d != nil {
		if err := d.Offer(ctx, j.feed.Name, j.file.ID, free); err != nil && ctx.Err() == nil {
			j.log.Warn("parts are found by looking alone, because they could not be handed out", "error", err)
		}
	}
	return nil
}

// awaitParts waits until no worker is at work on the rows of a rejected file. Those that are stop
// within a second.
func (j *job) awaitParts(ctx context.Context) error {
	if j.shared == nil {
		return nil
	}
	for {
		parts, err := j.shared.Parts(ctx, j.file.ID)
		if err != nil {
			return err
		}
		if _, inHand, _ := count(parts); inHand == 0 {
			return nil
		}
		if err := sleep(ctx, partsPoll); err != nil {
			return err
		}
	}
}

// dropParts forgets how the file was divided.
func (j *job) dropParts(ctx context.Context) error {
	if j.shared == nil {
		return nil
	}
	return j.shared.DropParts(context.WithoutCancel(ctx), j.file.ID)
}

// reportProgress reports the rows that all workers have done, once a second, or more rarely where
// their sums are not had in a moment.
func (j *job) reportProgress(ctx context.Context) {
	if j.Progress == nil {
		return
	}
	reported := make(map[ledger.Status]int)
	report := func(ctx context.Context, tell bool) time.Duration {
		began := time.Now()
		totals, err := j.Ledger.Totals(ctx, j.file.ID)
		if err != nil {
			return 0
		}
		for status, n := range totals.Rows {
			for ; tell && reported[status] < n; reported[status]++ {
				j.Progress.RowDone(j.file.ID, status)
			}
			reported[status] = n
		}
		return time.Since(began)
	}
	took := report(ctx, false) // reportStart has told of these
	for sleep(ctx, max(time.Second, 20*took)) == nil {
		took = report(ctx, true)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	report(last, true)
}

// rows are the records of a part.
type rows struct {
	left []billfile.Record
	idle func() // called when they only wait
}

// Next returns the next record, or io.EOF.
func (r *rows) Next() (*billfile.Record, error) {
	if len(r.left) == 0 {
		return nil, io.EOF
	}
	rec := &r.left[0]
	r.left = r.left[1:]
	return rec, nil
}

// Idle lets the worker take another part.
func (r *rows) Idle() { r.idle() }
