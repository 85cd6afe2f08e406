package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"billdrop/ingest/billfile"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/transfer"
)

// RejectedByHand reports whether the operator has rejected a file that is not settled yet.
// No file has the outcome FileRejected before it is settled, except by that.
func RejectedByHand(f *ledger.File) bool {
	switch f.State {
	case ledger.Settled, ledger.Published, ledger.Done, ledger.Dropped:
		return false
	}
	return f.Outcome == ledger.FileRejected
}

// byHand is in the Detail of every file that was rejected by hand.
const byHand = "it was rejected by hand: correct it and deliver it again, if it is still wanted"

// givenUp reports whether a file was rejected by hand, settled or not.
func givenUp(f *ledger.File) bool {
	return f.Outcome == ledger.FileRejected && strings.Contains(f.Detail, byHand)
}

// reject makes durable that an unfinished file is rejected, whatever its state. A held file
// cannot be approved after that, because some of its rows may have their outcome.
func (j *job) reject(ctx context.Context) error {
	switch {
	case RejectedByHand(j.file):
		return nil
	case j.file.State == ledger.Published:
		return j.archiveOrLeave(ctx) // its reports are in place, and say what they say
	}
	f := *j.file
	if f.State == ledger.Held {
		f.Format = "" // none of its rows has an outcome yet, so today's format may read it
	}
	f.Outcome, f.Approved = ledger.FileRejected, false
	if f.Detail = strings.TrimSuffix(f.Detail, HoldAdvice(f.ID)); f.Detail != "" {
		f.Detail += "; "
	}
	f.Detail += byHand
	if err := j.Ledger.SaveFile(context.WithoutCancel(ctx), &f); err != nil {
		return fmt.Errorf("reject %s: %w", f.Name, err)
	}
	j.file = &f
	return nil
}

// settleRejected gives every row of a rejected file its outcome, and settles the file.
// Recorded outcomes stay. A row that was sent is looked up. All others are not sent.
func (j *job) settleRejected(ctx context.Context) error {
	if j.file.State == ledger.Spooled {
		if err := j.acknowledge(ctx); err != nil {
			return err
		}
	}
	why, err := j.unreadable(ctx)
	if err != nil {
		return err
	}
	if why != "" {
		return j.settleUnread(ctx, why)
	}
	j.recordRead()
	if j.file.State == ledger.Sending {
		if err = j.awaitParts(ctx); err != nil {
			return err
		}
		err = j.decode(ctx, func(recs *billfile.Decoder) error {
			return j.feed.Lane.Settle(ctx, j.Ledger, j.file, recs, j.rowDone())
		})
	} else {
		if err = j.advance(ctx, j.file.State); err == nil { // so that no crash leaves outcomes by two formats
			err = j.recordUnsent(ctx)
		}
	}
	if err != nil {
		return err
	}
	return j.settle(ctx, ledger.FileRejected)
}

// unreadable returns why the rows of a file cannot be read any more as they were read
// before; "" when they can.
func (j *job) unreadable(ctx context.Context) (string, error) {
	if j.sameFormat() != nil {
		return "the feed's format was changed", nil
	}
	err := j.takeSurvey(ctx)
	if refused, ok := errors.AsType[*billfile.FileError](err); ok {
		return "the feed's present format refuses the file: " + refused.Code, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "both the file and its copy are gone", nil
	}
	return "", err
}

// settleUnread settles a rejected file whose rows cannot be read any more. Its reports list
// what the ledger holds of them.
func (j *job) settleUnread(ctx context.Context, why string) error {
	if err := j.Ledger.Flush(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	recorded, err := j.Ledger.Totals(ctx, j.file.ID)
	if err != nil {
		return err
	}
	rows := 0
	for _, n := range recorded.Rows {
		rows += n
	}
	detail := "; its rows could not be read any more, so its reports do not list them (" + why + ")"
	if j.file.State == ledger.Sending {
		detail = fmt.Sprintf("; %d of its %d rows could not be read any more, so its reports do not list them (%s), and a bill of theirs may exist: billdrop why REFERENCE asks the ledger",
			j.file.Rows-rows, j.file.Rows, why)
	}
	j.log.Warn("the rows of a rejected file cannot be read any more, so its reports do not list them all", "why", why)
	if before, ok := strings.CutSuffix(j.file.Detail, byHand); ok {
		j.file.Detail = before + byHand + detail
	}
	j.file.Rows, j.file.Lines, j.file.RowsRead = rows, ledger.Lines{}, rows > 0
	return j.settle(ctx, ledger.FileRejected)
}

// fromLedger reports whether the reports of a file list what the ledger holds, because its
// rows could not be read any more. Every file that was read has lines.
func fromLedger(f *ledger.File) bool { return f.RowsRead && f.Lines.Total == 0 }

// dropRejected drops a rejected file that cannot be fetched: nothing was read or sent of it.
func (j *job) dropRejected(ctx context.Context, why error) error {
	j.log.Warn("a rejected file could not be read, and nothing was sent of it: it is left where it is", "path", j.file.Path, "why", inOneLine(why))
	return j.advance(ctx, ledger.Dropped)
}

// archiveOrLeave archives a file, or leaves it where it is if it cannot be moved.
func (j *job) archiveOrLeave(ctx context.Context) error {
	err := j.archive(ctx)
	if err == nil || j.file.State.Finished() || outOfReach(ctx, err) {
		return err
	}
	j.log.Warn("the bill file could not be moved, and is left where it is: move it yourself", "path", j.file.Path, "why", inOneLine(err))
	return j.finish(ctx)
}

// outOfReach reports whether err is not about the file alone: it ends, or it will pass.
func outOfReach(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, ledger.ErrUnusable) || errors.Is(err, inbox.ErrUnreachable) || errors.Is(err, inbox.ErrFull) ||
		errors.Is(err, delivery.ErrStopped) && !errors.Is(err, errOtherFile)
}

// sourceGone reports whether a file could not be copied again because it is not there any
// more.
func sourceGone(err error) bool {
	return errors.Is(err, inbox.ErrNotExist) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, transfer.ErrNoSource) || errors.Is(err, errOtherFile)
}

// obeyRejection carries out a rejection that waits, of a file whose rows are not all done.
func (j *job) obeyRejection(ctx context.Context) error {
	switch j.file.State {
	case ledger.Settled, ledger.Published:
		return nil // too late: it is about to end
	}
	waits, err := j.orders.rejection(ctx, j.file.ID)
	if err != nil || !waits {
		return err
	}
	if err := j.reject(ctx); err != nil {
		return err
	}
	j.log.Info("order taken", "order", string(OrderReject))
	return j.orders.withdraw(ctx, j.file.ID)
}

// orderPoll is how often a rejection is looked for while the rows of a file are sent.
const orderPoll = time.Second

// errOrdered stops the sending of a file because a rejection of it waits.
var errOrdered = errors.New("a rejection of the file waits")

// untilRejected returns a context that ends with errOrdered when a rejection of the file
// waits. stop ends the watch, and must be called.
func (j *job) untilRejected(ctx context.Context) (watched context.Context, stop func()) {
	return until(ctx, func(ctx context.Context) (bool, error) { return j.orders.rejection(ctx, j.file.ID) })
}

// whileSending is untilRejected for a worker that does not own the file: the owner may have carried
// out the rejection already.
func (j *job) whileSending(ctx context.Context) (watched context.Context, stop func()) {
	return until(ctx, func(ctx context.Context) (bool, error) {
		if waits, err := j.orders.rejection(ctx, j.file.ID); waits || err != nil {
			return waits, err
		}
		f, err := j.Ledger.File(ctx, j.file.ID)
		return err == nil && (f.State != ledger.Sending || RejectedByHand(f)), err
	})
}

// until returns a context that ends with errOrdered once ordered returns true.
func until(ctx context.Context, ordered func(context.Context) (bool, error)) (watched context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for sleep(ctx, orderPoll) == nil {
			if waits, err := ordered(ctx); ctx.Err() == nil && (waits || err != nil) {
				cancel(cmp.Or(err, errOrdered))
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}
