package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"billdrop/ingest/durable"
	"billdrop/ingest/ledger"
)

// OrdersDir is the directory of the orders, below the spool.
const OrdersDir = "orders"

// idForm matches what newID makes, and nothing that leads out of a directory.
const idForm = `[0-9]{8}-[0-9]{6}-[0-9a-f]{8}`

var orderName = regexp.MustCompile(`^(reject|approve|retry)-(` + idForm + `)$`)

// spoolOrders are the orders in a spool. Each is an empty file, ORDER-FILE_ID, in the directory
// orders/. Its name is all of it, so it is never half there. Every user who may write to the
// spool may give orders.
type spoolOrders struct{ spool string }

func (s spoolOrders) path(o Order, id string) string {
	return filepath.Join(s.spool, OrdersDir, orderFile(o, id))
}

func orderFile(o Order, id string) string { return string(o) + "-" + id }

func (s spoolOrders) leave(ctx context.Context, o Order, id string) error {
	path := s.path(o, id)
	if name := orderFile(o, id); !orderName.MatchString(name) {
		return fmt.Errorf("%q is not of the form of an order", name)
	}
	// Not MkdirAll: a spool that does not exist is not the worker's.
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.withdraw(ctx, id); err != nil {
		return err
	}
	file, err := durable.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), durable.SyncDir(dir))
}

func (s spoolOrders) withdraw(_ context.Context, id string) error {
	for _, o := range []Order{OrderReject, OrderApprove, OrderRetry} {
		if !orderName.MatchString(orderFile(o, id)) {
			return nil // not an id, so it has none
		}
		if err := os.Remove(s.path(o, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("withdraw order: %w", err)
		}
	}
	return nil
}

func (s spoolOrders) list(context.Context) ([]leftOrder, error) {
	dir := filepath.Join(s.spool, OrdersDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Err: fmt.Errorf("read orders: %w", err), Hint: "give the user that billdrop runs as the right to read " + dir}
	}
	var list []leftOrder
	for _, e := range entries {
		m := orderName.FindStringSubmatch(e.Name())
		info, err := e.Info()
		if m == nil || err != nil || !info.Mode().IsRegular() {
			continue
		}
		list = append(list, leftOrder{Order(m[1]), m[2], info.ModTime()})
	}
	return rejectionsFirst(list), nil
}

func (s spoolOrders) rejection(_ context.Context, id string) (bool, error) {
	info, err := os.Lstat(s.path(OrderReject, id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for orders: %w", err)
	}
	return info.Mode().IsRegular(), nil
}

func (s spoolOrders) remove(_ context.Context, o leftOrder) (bool, error) {
	err := os.Remove(s.path(o.Order, o.file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, &Error{Err: fmt.Errorf("remove order: %w", err), Hint: "remove it, or give the user that billdrop runs as the right to"}
	}
	return err == nil, nil
}

// rejectionsFirst sorts orders: rejections, approvals, retries.
func rejectionsFirst(list []leftOrder) []leftOrder {
	rank := map[Order]int{OrderReject: 0, OrderApprove: 1, OrderRetry: 2}
	slices.SortStableFunc(list, func(a, b leftOrder) int { return rank[a.Order] - rank[b.Order] })
	return list
}

// ledgerOrders are the orders in a ledger that several workers share. Those are left there
// that a command cannot carry out: a rejection of a file that another worker has in hand, and
// a rejection or retry of a file that was imported on another machine.
type ledgerOrders struct{ ledger ledger.Shared }

func (l ledgerOrders) leave(ctx context.Context, o Order, id string) error {
	return l.ledger.LeaveOrder(ctx, id, string(o))
}

func (l ledgerOrders) withdraw(ctx context.Context, id string) error {
	return l.ledger.WithdrawOrders(ctx, id)
}

func (l ledgerOrders) list(ctx context.Context) ([]leftOrder, error) {
	orders, err := l.ledger.Orders(ctx, "")
	if err != nil {
		return nil, err
	}
	list := make([]leftOrder, len(orders))
	for i, o := range orders {
		list[i] = leftOrder{Order(o.Order), o.File, o.At}
	}
	return rejectionsFirst(list), nil
}

func (l ledgerOrders) rejection(ctx context.Context, id string) (bool, error) {
	orders, err := l.ledger.Orders(ctx, id)
	return slices.ContainsFunc(orders, func(o ledger.LeftOrder) bool { return Order(o.Order) == OrderReject }), err
}

func (l ledgerOrders) remove(ctx context.Context, o leftOrder) (bool, error) {
	return l.ledger.RemoveOrder(ctx, ledger.LeftOrder{File: o.file, Order: string(o.Order), At: o.at})
}
