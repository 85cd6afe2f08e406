package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"billdrop/ingest/durable"
	"billdrop/ingest/ledger"
)

// Order is an operator's decision on one file. Only one process writes to a ledger. While
// that is at work, another process leaves the order in the spool, and the worker that polls
// next carries it out.
//
// An order is an empty file, ORDER-FILE_ID, in the directory orders/ of the spool. Its name
// is all of it, so it is never half there. It is removed once what it asks for is durable;
// repeated after a crash in between, it changes nothing. Every user who may write to the
// spool may give orders.
type Order string

const (
	OrderReject  Order = "reject"  // nothing more of an unfinished file is to be sent
	OrderApprove Order = "approve" // release a held file
	OrderRetry   Order = "retry"   // send the failed and unknown rows of a finished file again
)

// OrdersDir is the directory of the orders, below the spool.
const OrdersDir = "orders"

// idForm matches what newID makes, and nothing that leads out of a directory.
const idForm = `[0-9]{8}-[0-9]{6}-[0-9a-f]{8}`

var orderName = regexp.MustCompile(`^(reject|approve|retry)-(` + idForm + `)$`)

// LeaveOrder leaves an order for the worker that polls next with this ledger and spool. It
// replaces earlier orders about the file. led is only read.
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
	name := string(o) + "-" + id
	if !orderName.MatchString(name) {
		return nil, fmt.Errorf("leave order %q: not of the form of an order", name)
	}
	// Not MkdirAll: a spool that does not exist is not the worker's.
	dir := filepath.Join(spoolDir, OrdersDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("leave order: %w", err)
	}
	if err := WithdrawOrders(spoolDir, id); err != nil {
		return nil, err
	}
	file, err := durable.Create(filepath.Join(dir, name))
	if err == nil {
		err = errors.Join(file.Close(), durable.SyncDir(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("leave order: %w", err)
	}
	if f, err = led.File(ctx, id); err == nil {
		err = o.check(ctx, led, f)
	}
	if err != nil { // meanwhile it has gone on
		return nil, errors.Join(err, WithdrawOrders(spoolDir, id))
	}
	return f, nil
}

// WithdrawOrders removes the orders about a file that no worker has carried out yet, if
// any.
func WithdrawOrders(spoolDir, id string) error {
	for _, o := range []Order{OrderReject, OrderApprove, OrderRetry} {
		name := string(o) + "-" + id
		if !orderName.MatchString(name) {
			return nil // not an id, so it has none
		}
		if err := os.Remove(filepath.Join(spoolDir, OrdersDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("withdraw order: %w", err)
		}
	}
	return nil
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

// leftOrder is an order that waits.
type leftOrder struct {
	Order
	file string // id
	path string
	at   time.Time // when it was left
}

// orders lists the orders that wait, rejections first: a file that has both orders is not
// sent.
func (s spool) orders() ([]leftOrder, error) {
	dir := filepath.Join(s.dir, OrdersDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Err: fmt.Errorf("read orders: %w", err), Hint: "give the user that billdrop runs as the right to read " + dir}
	}
	byOrder := make(map[Order][]leftOrder)
	for _, e := range entries {
		m := orderName.FindStringSubmatch(e.Name())
		info, err := e.Info()
		if m == nil || err != nil || !info.Mode().IsRegular() {
			continue
		}
		o := Order(m[1])
		byOrder[o] = append(byOrder[o], leftOrder{o, m[2], filepath.Join(dir, e.Name()), info.ModTime()})
	}
	return append(append(byOrder[OrderReject], byOrder[OrderApprove]...), byOrder[OrderRetry]...), nil
}

// applyOrders carries out the orders about files of the feed. resume takes up what they
// start.
func (r *round) applyOrders(ctx context.Context, origin ledger.Origin) {
	orders, err := r.spool.orders()
	if err != nil {
		r.fail(err)
		return
	}
	for _, o := range orders {
		if r.fatal(ctx) {
			return
		}
		f, feed, err := r.fileOf(ctx, o.file)
		if err == nil && (feed != r.feed || f.Origin != origin) {
			continue // it is for another round
		}
		if err == nil {
			err = o.check(ctx, r.Ledger, f)
		}
		if err == nil {
			err = r.newJob(r.feed, f, r.placeOf(f)).apply(ctx, o.Order)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil, permanent(err):
			r.removeOrder(o, err)
		default: // the next poll tries again
			r.fail(fmt.Errorf("%s %s: %w", o.Order, o.file, err))
		}
	}
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
func (r *round) removeOrder(o leftOrder, why error) {
	err := os.Remove(o.path)
	if errors.Is(err, fs.ErrNotExist) && why != nil {
		return // another feed's round found the same
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.fail(&Error{Err: fmt.Errorf("remove order: %w", err), Hint: "remove it, or give the user that billdrop runs as the right to"})
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
	waits, err := j.spool.rejection(j.file.ID)
	if err != nil || !waits {
		return err
	}
	if err := j.reject(ctx); err != nil {
		return err
	}
	j.log.Info("order taken", "order", string(OrderReject))
	return WithdrawOrders(j.spool.dir, j.file.ID)
}

// rejection reports whether a rejection of a file waits.
func (s spool) rejection(id string) (bool, error) {
	info, err := os.Lstat(filepath.Join(s.dir, OrdersDir, string(OrderReject)+"-"+id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for orders: %w", err)
	}
	return info.Mode().IsRegular(), nil
}

// orderPoll is how often a rejection is looked for while the rows of a file are sent.
const orderPoll = time.Second

// errOrdered stops the sending of a file because a rejection of it waits.
var errOrdered = errors.New("a rejection of the file waits")

// untilRejected returns a context that ends with errOrdered when a rejection of the file
// waits. stop ends the watch, and must be called.
func (j *job) untilRejected(ctx context.Context) (watched context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for sleep(ctx, orderPoll) == nil {
			if waits, err := j.spool.rejection(j.file.ID); waits || err != nil {
				cancel(cmp.Or(err, errOrdered))
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		watch.Wait()
	}
}
