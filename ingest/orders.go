package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"billdrop/ingest/durable"
	"billdrop/ingest/ledger"
)

// Order is what a person has to say about one file. One process writes to a ledger, so while it is taken, another process
// leaves the order in the spool, and the worker that polls next carries it out.
//
// An order is an empty file, ORDER-FILE_ID in the spool's directory orders/: the name says everything, so it is there
// whole or not at all. It is removed once what it asks for is durable; after a crash in between it is met again, and
// changes nothing. Whoever may write to the spool may give orders.
type Order string

const (
	OrderReject  Order = "reject"  // give a held file up
	OrderApprove Order = "approve" // release a held file
	OrderRetry   Order = "retry"   // send the failed and unknown rows of a finished file again
)

// OrdersDir is the directory of the orders, in the spool's.
const OrdersDir = "orders"

// idForm is what newID makes: nothing that could lead out of a directory.
const idForm = `[0-9]{8}-[0-9]{6}-[0-9a-f]{8}`

var orderName = regexp.MustCompile(`^(reject|approve|retry)-(` + idForm + `)$`)

// LeaveOrder leaves an order for the worker that polls next with this ledger and spool, in the place of earlier ones about
// the file. led is only read. Errors wrap ledger.ErrNotFound, ErrNotApplicable and ErrNothingToDo, when the order does not fit
// the file as it stands; any other means that the order could not be left.
func LeaveOrder(ctx context.Context, led ledger.Ledger, spoolDir string, o Order, id string) (*ledger.File, error) {
	f, err := led.File(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := o.fits(ctx, led, f); err != nil {
		return nil, err
	}
	name := string(o) + "-" + id
	if !orderName.MatchString(name) {
		return nil, fmt.Errorf("leave order %q: not of the form of an order", name)
	}
	// Not MkdirAll: a spool that is not there is not the worker's.
	dir := filepath.Join(spoolDir, OrdersDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("leave order: %w", err)
	}
	if err := WithdrawOrders(spoolDir, id); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(file.Close(), durable.SyncDir(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("leave order: %w", err)
	}
	return f, nil
}

// WithdrawOrders removes the orders about a file that no worker has taken up yet; fine if there are none.
func WithdrawOrders(spoolDir, id string) error {
	for _, o := range []Order{OrderReject, OrderApprove, OrderRetry} {
		name := string(o) + "-" + id
		if !orderName.MatchString(name) {
			return nil // no id of ours has any
		}
		if err := os.Remove(filepath.Join(spoolDir, OrdersDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("withdraw order: %w", err)
		}
	}
	return nil
}

// fits tells why an order does not apply to a file as it stands; nil when it does. Errors wrap ErrNotApplicable and
// ErrNothingToDo, but for the ledger's own.
func (o Order) fits(ctx context.Context, led ledger.Ledger, f *ledger.File) error {
	switch {
	case o == OrderRetry:
		return retriable(ctx, led, f)
	case f.State != ledger.Held:
		return fmt.Errorf("%w: %s is not held (%s)", ErrNotApplicable, f.ID, f.State)
	case o == OrderApprove && givenUp(f):
		return fmt.Errorf("%w: %s was rejected by hand already, and the next run reports it so", ErrNotApplicable, f.ID)
	}
	return nil
}

// obey makes durable what an order that fits asks for; live does the rest.
func (j *job) obey(ctx context.Context, o Order) error {
	switch o {
	case OrderReject:
		return j.giveUp(ctx)
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

// orders lists those that wait, rejections first: of a file that is told both, nothing is sent.
func (s spool) orders() ([]leftOrder, error) {
	dir := filepath.Join(s.dir, OrdersDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read orders: %w; give the user that billdrop runs as the right to", err)
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

// obey carries out the orders about files of the feed. What they start is gone on with by resume.
func (r *round) obey(ctx context.Context, origin ledger.Origin) {
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
			continue // another round's
		}
		if err == nil {
			err = o.fits(ctx, r.Ledger, f)
		}
		if err == nil {
			err = r.newJob(r.feed, f, r.placeFor(f)).obey(ctx, o.Order)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil, hopeless(err):
			r.answer(o, err)
		default: // it waits for better times
			r.fail(fmt.Errorf("%s %s: %w", o.Order, o.file, err))
		}
	}
}

// hopeless reports whether an order would fail in the same way at the next poll.
func hopeless(err error) bool {
	for _, final := range []error{ErrNotApplicable, ErrNothingToDo, ledger.ErrNotFound, errFormat} {
		if errors.Is(err, final) {
			return true
		}
	}
	return lost(err)
}

// answer tells what came of an order, and removes it.
func (r *round) answer(o leftOrder, why error) {
	err := os.Remove(o.path)
	if errors.Is(err, fs.ErrNotExist) && why != nil {
		return // another feed's round found out the same
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.fail(fmt.Errorf("remove order: %w; remove it, or give the user that billdrop runs as the right to", err))
	}
	log := r.Log.With("order", string(o.Order), "file_id", o.file, "left_at", o.at)
	if why != nil {
		log.Warn("order not carried out, and dropped: see how the file stands, and give it again if it is still wanted", "feed", r.feed.Name, "why", why)
		return
	}
	log.Info("order taken", "feed", r.feed.Name)
}
