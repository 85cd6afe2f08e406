package delivery

import (
	"context"
	"errors"
	"slices"

	"billdrop/ingest/ledger"
)

// sentBefore reports whether the row was sent for this file, by any run. Another file may have
// sent its reference since, so the ledger's attempts count as well.
func (d *delivery) sentBefore(ctx context.Context) (bool, error) {
	if d.rec == nil || d.rec.Send.Key == "" {
		return false, nil
	}
	if d.rec.Send.File == d.file.ID {
		return d.rec.Send.Count > 0, nil
	}
	h, err := d.ledger.History(ctx, d.lane.scope, d.bill.Reference)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(h.Attempts, func(a ledger.Attempt) bool { return a.File == d.file.ID }), nil
}

// settleStep decides how a row that was sent ends without another send. A look-up for this cause
// never leads to one.
func settleStep(rec *ledger.Bill) decision {
	if rec.State == ledger.Exists {
		return decision{Do: stepCompare}
	}
	return decision{Do: stepLookUp, Cause: causeExhausted}
}

// leaveUnsent records that the row was not sent.
func (d *delivery) leaveUnsent() error {
	o := ledger.Outcome{
		Row: d.row, Line: d.line, Reference: d.bill.Reference, Status: ledger.NotSent,
		Currency: d.bill.Currency, Amount: d.bill.Amount,
	}
	if err := d.ledger.Record(d.recordCtx, ledger.Entry{File: d.file.ID, Outcome: &o}); err != nil {
		return d.broken(err)
	}
	d.rowDone(o.Status)
	return nil
}
