package delivery

import (
	"context"
	"sync/atomic"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// Inquiry looks bills up, past all files, with the patience, pace and pauses of the lane. It
// sends GETs alone. Its methods may be called concurrently; Width says how many calls make
// sense at a time.
type Inquiry struct {
	lane *Lane
	gate *gate
	gets atomic.Int64
}

// Inquire begins to look bills up. led is the ledger of a worker, whose rate limit and pauses may
// be shared with others; nil = no worker's. Every inquiry must be closed.
func (l *Lane) Inquire(led ledger.Ledger) *Inquiry {
	q := &Inquiry{lane: l, gate: l.join(led)}
	l.setup.feeding(-1) // nothing is sent that could be refused
	return q
}

// Close ends the inquiry.
func (q *Inquiry) Close() { q.lane.leave() }

// Bill looks a bill up by reference or id. One request is sent, unless it fails: then it is
// tried again as often as the lane's policy says. The answer is Found or Absent if it is
// usable. Errors are ctx's cause, and the *Stop of a lane that has to stop.
func (q *Inquiry) Bill(ctx context.Context, reference string) (client.Answer, error) {
	return q.get(ctx, q.lane.api.GetBill, reference)
}

// get sends one GET through the gate, as gate.ask does, and counts its requests.
func (q *Inquiry) get(ctx context.Context, get getter, reference string) (client.Answer, error) {
	return q.gate.ask(ctx, q.gate.acquire, get, reference, func(a client.Answer) error {
		if a.Kind != client.NotSent {
			q.gets.Add(1)
		}
		return nil
	})
}

// Gets returns how many requests were sent so far.
func (q *Inquiry) Gets() int { return int(q.gets.Load()) }

// Width returns how many requests may be in flight at most.
func (q *Inquiry) Width() int { return q.lane.policy.Concurrency }
