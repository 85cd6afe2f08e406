package engine

import (
	"context"
	"errors"
	"fmt"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/ledger"
)

// ErrNotCopied: a copy was refused, and nothing was changed.
var ErrNotCopied = errors.New("nothing was copied")

// Copy takes a ledger from one place to another, whole and checked; see ledger.Copy. It fails with
// ErrNotCopied where that is refused.
func Copy(ctx context.Context, from, to Location) (ledger.Counts, error) {
	if from.Place == to.Place {
		return ledger.Counts{}, describe.Advise(fmt.Errorf("%w: FROM and TO are the same ledger", ErrNotCopied), "name another one for the copy")
	}
	source, err := from.existing(ctx)
	if err != nil {
		return ledger.Counts{}, err
	}
	counts, err := copyInto(ctx, source, from, to)
	return counts, errors.Join(refusal(err, from, to), source.Close())
}

// existing opens a ledger that is there already, for this process alone where it is a file.
func (l Location) existing(ctx context.Context) (ledger.Ledger, error) {
	led, err := l.Read(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, describe.Advise(fmt.Errorf("%w: there is no ledger %s", ErrNotCopied, l.Place), "check the path, or the name of the database")
	}
	if err == nil {
		err = led.Close()
	}
	if err != nil {
		return nil, err
	}
	return l.Open(ctx)
}

// copyInto makes the target only once the source may be copied.
func copyInto(ctx context.Context, source ledger.Ledger, from, to Location) (counts ledger.Counts, err error) {
	store, err := storeOf(source)
	if err != nil {
		return counts, err
	}
	if _, err := store.Idle(ctx); err != nil {
		return counts, fmt.Errorf("copy from it: %w", err)
	}
	paid, err := from.ReadPayments(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		paid, err = nil, nil // none was ever received
	}
	if err != nil {
		return counts, err
	}
	target, err := to.Open(ctx)
	if err != nil {
		return counts, errors.Join(err, closeIfAny(paid))
	}
	copied, err := storeOf(target)
	var into ledger.Payments
	if err == nil && paid != nil {
		if into, err = to.Payments(ctx); err == nil {
			store, copied, err = withPayments(store, paid, copied, into)
		}
	}
	if err == nil {
		counts, err = ledger.Copy(ctx, store, copied)
	}
	return counts, errors.Join(err, closeIfAny(into), closeIfAny(paid), target.Close())
}

// withPayments has both stores hold the payments, too.
func withPayments(from ledger.Store, paid ledger.Payments, to ledger.Store, into ledger.Payments) (ledger.Store, ledger.Store, error) {
	source, ok := paid.(ledger.PaymentStore)
	target, ok2 := into.(ledger.PaymentStore)
	if !ok || !ok2 {
		return nil, nil, fmt.Errorf("%T and %T cannot be copied", paid, into) // both engines can
	}
	return ledger.WithPayments(from, source), ledger.WithPayments(to, target), nil
}

func closeIfAny(p ledger.Payments) error {
	if p == nil {
		return nil
	}
	return p.Close()
}

// refusal says what to do about a copy that was refused.
func refusal(err error, from, to Location) error {
	switch {
	case errors.Is(err, ledger.ErrExists):
		return describe.Advise(fmt.Errorf("%w: %s is not empty", ErrNotCopied, to.Place), "name a new file, or an empty database")
	case errors.Is(err, ledger.ErrInUse):
		return describe.Advise(fmt.Errorf("%w: %w (from %s to %s)", ErrNotCopied, err, from.Place, to.Place),
			"stop all workers on both; one that was killed counts until lost_after and 10 s have passed")
	}
	return err
}

// storeOf is an engine as Copy and Verify want it.
func storeOf(led ledger.Ledger) (ledger.Store, error) {
	store, ok := led.(ledger.Store)
	if !ok {
		return nil, fmt.Errorf("%T cannot be copied", led) // both engines can
	}
	return store, nil
}

// Verify compares a ledger with the digests that it keeps; see ledger.Verify.
func Verify(ctx context.Context, l Location) (counts ledger.Counts, found []ledger.Finding, err error) {
	led, err := l.Read(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		return counts, nil, l.Missing()
	}
	if err != nil {
		return counts, nil, err
	}
	store, err := storeOf(led)
	if err == nil {
		counts, found, err = ledger.Verify(ctx, store)
	}
	return counts, found, errors.Join(err, led.Close())
}
