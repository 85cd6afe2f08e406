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
func (l Location) existing(ctx context.Context) (Ledger, error) {
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
func copyInto(ctx context.Context, source Ledger, from, to Location) (counts ledger.Counts, err error) {
	if _, err := source.Idle(ctx); err != nil {
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
	var original, copied ledger.Store = source, target
	var into ledger.PaymentStore
	if paid != nil {
		if into, err = to.Payments(ctx); err == nil {
			original, copied = ledger.WithPayments(source, paid), ledger.WithPayments(target, into)
		}
	}
	if err == nil {
		counts, err = ledger.Copy(ctx, original, copied)
	}
	return counts, errors.Join(err, closeIfAny(into), closeIfAny(paid), target.Close())
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

// Verify compares a ledger with the digests that it keeps; see ledger.Verify.
func Verify(ctx context.Context, l Location) (counts ledger.Counts, found []ledger.Finding, err error) {
	led, err := l.Read(ctx)
	if errors.Is(err, ledger.ErrNotFound) {
		return counts, nil, l.Missing()
	}
	if err != nil {
		return counts, nil, err
	}
	counts, found, err = ledger.Verify(ctx, led)
	return counts, found, errors.Join(err, led.Close())
}
