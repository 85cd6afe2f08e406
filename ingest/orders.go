package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
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
	err = w.AsMember(ctx, RoleCommand, func(ctx context.Context) error {
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
	if err = j.obey(ctx, o); err == nil {
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

// takeFor takes a file into this worker's hand for an order, and reads it again. If another
// worker has the file, a rejection is left for that worker. An order about a file that was imported
// on another machine is left for that machine. In both cases the error is a *Left.
func (w *Worker) takeFor(ctx context.Context, o Order, f *ledger.File) (*ledger.File, error) {
	if w.shared == nil {
		return f, nil
	}
	if !w.reachable(f) {
		return nil, w.leave(ctx, o, f.ID, f.Machine)
	}
	id, wait := f.ID, atHand
	if o == OrderReject {
		wait = 0
	}
	held, err := w.awaitFile(ctx, id, wait)
	switch {
	case err != nil:
		return nil, err
	case !held && o == OrderReject:
		return nil, w.leave(ctx, o, f.ID, "")
	case !held:
		return nil, notApplicable("wait until it is done", "another worker is at work on %s", f.ID)
	}
	if f, err = w.Ledger.File(ctx, id); err == nil {
		err = o.check(ctx, w.Ledger, f)
	}
	if err != nil {
		w.giveFile(ctx, id)
	}
	return f, err
}

// leave leaves an order, and returns the *Left that says so.
func (w *Worker) leave(ctx context.Context, o Order, id, machine string) error {
	f, err := LeaveOrder(ctx, w.Ledger, w.Spool, o, id)
	if err != nil {
		return err
	}
	return &Left{Order: o, File: f, Machine: machine}
}

// atHand is how long a file that rests is asked for: it is in another worker's hand for a
// moment only.
const atHand = 5 * time.Second

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
		f, err := r.Ledger.File(ctx, o.file)
		if err == nil && !r.concerns(f, origin) {
			continue // it is for another round, or for another worker
		}
		if err == nil {
			f, _, err = r.fileOf(ctx, o.file)
		}
		if err == nil {
			var held bool
			if held, err = r.takeFile(ctx, f.ID); !held && err == nil {
				continue // another worker has the file, and obeys
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

// concerns reports whether orders about a file are for this round. One about a feed that is not in
// the configuration is for every round, because one has to report it; but where the ledger is
// shared, another worker may have that feed.
func (r *round) concerns(f *ledger.File, origin ledger.Origin) bool {
	gone := r.shared == nil && !slices.ContainsFunc(r.Feeds, func(feed *Feed) bool { return feed.Name == f.Feed })
	return gone || f.Feed == r.feed.Name && f.Origin == origin && r.mine(f)
}

// obey carries out an order on a file that is in hand.
func (r *round) obey(ctx context.Context, o Order, f *ledger.File) error {
	j := r.newJob(r.feed, f, r.placeOf(f))
	err := j.refresh(ctx)
	if err == nil {
		err = o.check(ctx, r.Ledger, j.file)
	}
	if err == nil {
		err = j.obey(ctx, o)
	}
	return err
}

// obey applies an order that was checked. An approval from elsewhere may change the file meanwhile,
// because it does not take the file into its hand: then the order is checked and applied anew.
func (j *job) obey(ctx context.Context, o Order) error {
	for changes := 0; ; changes++ {
		err := j.apply(ctx, o)
		if !errors.Is(err, ledger.ErrChanged) || changes == maxChanges {
			return err
		}
		if err = j.refresh(ctx); err == nil {
			err = o.check(ctx, j.Ledger, j.file)
		}
		if err != nil {
			return err
		}
	}
}

// permanent reports whether an order would fail in the same way at the next poll.
func permanent(err error) bool {
	return isAny(err, ErrNotApplicable, ErrNothingToDo, ledger.ErrNotFound, errFormat) || sourceGone(err)
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
