package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"billdrop/ingest/ledger"
)

// Order is an operator's decision on one file. If another process is at work on the file, the
// order is left for it: the worker that has the file carries it out, or the one that polls next.
// An order is removed once what it asks for is durable; repeated after a crash in between, it
// changes nothing.
type Order string

const (
	OrderReject  Order = "reject"  // nothing more of an unfinished file is to be sent
	OrderApprove Order = "approve" // release a held file
	OrderRetry   Order = "retry"   // send the failed and unknown rows of a finished file again
)

// orders is where the orders lie that no worker has carried out yet.
type orders interface {
	// leave leaves an order on a file, in place of earlier ones on it.
	leave(ctx context.Context, o Order, id string) error
	// withdraw removes the orders on a file, if any.
	withdraw(ctx context.Context, id string) error
	// list returns all orders, rejections first: a file that has both orders is not sent.
	list(ctx context.Context) ([]leftOrder, error)
	// rejection reports whether a rejection of a file waits.
	rejection(ctx context.Context, id string) (bool, error)
	// remove removes one order, and reports whether it was still there.
	remove(ctx context.Context, o leftOrder) (bool, error)
}

// leftOrder is an order that waits.
type leftOrder struct {
	Order
	file string    // id
	at   time.Time // when it was left
}

// ordersOf returns where the orders of a ledger lie: in the ledger itself if several workers
// share it, or else in the spool.
func ordersOf(led ledger.Ledger, spoolDir string) orders {
	if shared, ok := led.(ledger.Shared); ok {
		return ledgerOrders{shared}
	}
	return spoolOrders{spoolDir}
}

// LeaveOrder leaves an order for the worker that polls next with this ledger and spool. It
// replaces earlier orders about the file. A ledger that no others share is only read.
//
// It returns the file as it was when the order lay there already. If that was not Sending yet,
// nothing of a rejected file is sent after LeaveOrder has returned: both sides write, then
// read. A worker looks for a rejection once Sending is durable and before the first send, and
// LeaveOrder reads the state once the order lies there. So one of them sees the other.
//
// Errors wrap ledger.ErrNotFound, ErrNotApplicable or ErrNothingToDo when the order does
// not fit the state of the file. Any other error means that the order could not be left.
func LeaveOrder(ctx context.Context, led ledger.Ledger, spoolDir string, o Order, id string) (*ledger.File, error) {
	f, err := led.File(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := o.check(ctx, led, f); err != nil {
		return nil, err
	}
	at := ordersOf(led, spoolDir)
	if err := at.leave(ctx, o, id); err != nil {
		return nil, fmt.Errorf("leave order: %w", err)
	}
	if f, err = led.File(ctx, id); err == nil {
		err = o.check(ctx, led, f)
	}
	if err != nil { // meanwhile it has gone on
		return nil, errors.Join(err, at.withdraw(ctx, id))
	}
	return f, nil
}

// WithdrawOrders removes the orders about a file that no worker has carried out yet, if
// any.
func WithdrawOrders(ctx context.Context, led ledger.Ledger, spoolDir, id string) error {
	return ordersOf(led, spoolDir).withdraw(ctx, id)
}

// check returns why an order does not apply to a file in its present state; nil when it
// does. Errors wrap ErrNotApplicable or ErrNothingToDo, or are the ledger's.
func (o Order) check(ctx context.Context, led ledger.Ledger, f *ledger.File) error {
	switch {
	case o == OrderRetry:
		return checkRetry(ctx, led, f)
	case o == OrderReject:
		if f.State.Finished() {
			return notApplicable("", "%s is finished already (%s)", f.ID, f.State)
		}
	case RejectedByHand(f):
		return notApplicable("the next run reports it so", "%s was rejected by hand already", f.ID)
	case f.State != ledger.Held:
		return notApplicable("", "%s is not held (%s)", f.ID, f.State)
	}
	return nil
}

// apply makes durable what an order asks for that applies to the file; live does the rest.
func (j *job) apply(ctx context.Context, o Order) error {
	switch o {
	case OrderReject:
		return j.reject(ctx)
	case OrderApprove:
		return approve(ctx, j.Ledger, j.file)
	}
	return j.reopen(ctx)
}

// applyOrders carries out the orders about files of the feed. resume takes up what they
// start.
func (r *round) applyOrders(ctx context.Context, origin ledger.Origin) {
	orders, err := r.orders.list(ctx)
	if err != nil {
		r.fail(err)
		return
	}
	for _, o := range orders {
		if r.fatal(ctx) {
			return
		}
		f, feed, err := r.fileOf(ctx, o.file)
		if err == nil && (feed != r.feed || f.Origin != origin || !r.mine(f)) {
			continue // it is for another round
		}
		if err == nil {
			var held bool
			if held, err = r.takeFile(ctx, f.ID); !held && err == nil {
				continue // the worker that has the file obeys
			}
		}
		if err == nil {
			err = r.obey(ctx, o.Order, f)
			r.giveFile(ctx, f.ID)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil, permanent(err):
			r.removeOrder(ctx, o, err)
		default: // the next poll tries again
			r.fail(fmt.Errorf("%s %s: %w", o.Order, o.file, err))
		}
	}
}

// obey carries out an order on a file that is in hand.
func (r *round) obey(ctx context.Context, o Order, f *ledger.File) error {
	j := r.newJob(r.feed, f, r.placeOf(f))
	err := j.refresh(ctx)
	if err == nil {
		err = o.check(ctx, r.Ledger, j.file)
	}
	if err == nil {
		err = j.apply(ctx, o)
	}
	return err
}

// permanent reports whether an order would fail in the same way at the next poll.
func permanent(err error) bool {
	for _, final := range []error{ErrNotApplicable, ErrNothingToDo, ledger.ErrNotFound, errFormat} {
		if errors.Is(err, final) {
			return true
		}
	}
	return sourceGone(err)
}

// removeOrder removes an order, and logs what became of it; why is nil if it was carried
// out.
func (r *round) removeOrder(ctx context.Context, o leftOrder, why error) {
	there, err := r.orders.remove(ctx, o)
	if !there && why != nil && err == nil {
		return // another feed's round found the same
	}
	if err != nil {
		r.fail(err)
	}
	log := r.Log.With("order", string(o.Order), "file_id", o.file, "left_at", o.at)
	if why != nil {
		log.Warn("order not carried out, and dropped: see the state of the file, and give it again if it is still wanted", "feed", r.feed.Name, "why", inOneLine(why))
		return
	}
	log.Info("order taken", "feed", r.feed.Name)
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
