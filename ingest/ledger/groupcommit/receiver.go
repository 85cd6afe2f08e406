package groupcommit

import (
	"context"
	"fmt"

	"billdrop/ingest/ledger"
)

// receiveBatch is how many payments one commit covers at most.
const receiveBatch = 512

// Received is a payment that is to be recorded.
type Received struct {
	Scope     ledger.Scope
	WebhookID string
	Payment   ledger.Payment
	Repeated  bool // set by the commit: it was recorded before
}

// Receiver records payments as they are received: as many with one commit as came during the
// commit before.
type Receiver struct{ queue *Queue[*Received] }

// NewReceiver returns a receiver whose goroutine records payments by insert, which makes all of
// them durable or none, and sets which of them are repeated. closed is what Receive returns
// after Close.
func NewReceiver(insert func([]*Received) error, closed error) *Receiver {
	return &Receiver{New(Config[*Received]{Commit: insert, Max: receiveBatch, Closed: closed, FailAlone: true})}
}

// Receive implements ledger.Payments. A caller whose context ends gets no answer, and the
// payment may be recorded all the same.
func (r *Receiver) Receive(ctx context.Context, s ledger.Scope, webhookID string, payment ledger.Payment) (repeated bool, err error) {
	received := &Received{Scope: s, WebhookID: webhookID, Payment: payment}
	if err := r.queue.Do(ctx, received); err != nil {
		return false, fmt.Errorf("record payment: %w", err)
	}
	return received.Repeated, nil
}

// Close returns once what was received is recorded, or has failed.
func (r *Receiver) Close() { _ = r.queue.Close() } // each failure was returned to its caller
