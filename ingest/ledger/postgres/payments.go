package postgres

import (
	"context"
	"sync"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/groupcommit"
)

// receiveLock is the advisory lock under which one batch at a time is received, so that
// payments can be seen in the order of their numbers.
const receiveLock = 0x62647270_00000003

// Payments is a ledger.Payments in the database of a ledger, made by OpenPayments. Any number of
// processes may have it open, whether they are workers or not.
//
// A call whose commit got no answer is tried again, and succeeds if it had succeeded
// before. A payment that was recorded by such a commit is reported as repeated.
type Payments struct {
	*groupcommit.Receiver
	l         *Ledger // its connections alone
	closeOnce sync.Once
}

var _ ledger.Payments = (*Payments)(nil)

// OpenPayments opens the payments of the ledger in the database at url; see Open.
func OpenPayments(ctx context.Context, url string, o Options) (*Payments, error) {
	l, err := prepared(ctx, url, o)
	if err != nil {
		return nil, err
	}
	p := &Payments{l: l}
	p.Receiver = groupcommit.NewReceiver(func(batch []*groupcommit.Received) error {
		return p.insert(context.Background(), batch)
	}, unusable(errClosed))
	return p, nil
}

// insertPayments inserts, of payments that have an id in common, the first one. The lock is taken
// before a number is, because the rows of the insert come from it.
const insertPayments = `WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock($1))
	INSERT INTO payments (scope, webhook_id, event_id, type, obligation_id, payment_id, currency, amount, bill_id, account_id, customer_id, received)
	SELECT v.scope, v.webhook_id, v.event_id, v.type, v.obligation_id, v.payment_id, v.currency, v.amount, v.bill_id, v.account_id, v.customer_id, v.received
	FROM turn, unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::text[], $11::text[],
		$12::text[], $13::bigint[]) WITH ORDINALITY
		AS v (scope, webhook_id, event_id, type, obligation_id, payment_id, currency, amount, bill_id, account_id, customer_id, received, no)
	ORDER BY v.no ON CONFLICT DO NOTHING RETURNING scope::bigint, webhook_id, event_id`

// paymentKey names a payment.
type paymentKey struct {
	scope              int64
	webhookID, eventID string
}

// insert records a batch, and finds out which of it is repeated.
func (p *Payments) insert(ctx context.Context, batch []*groupcommit.Received) error {
	var rows given
	keys := make([]paymentKey, len(batch))
	for i, r := range batch {
		scope, err := p.l.scope(ctx, r.Scope)
		if err != nil {
			return err
		}
		rows.add(receivedValues(scope, r.WebhookID, &r.Payment))
		keys[i] = paymentKey{scope, r.WebhookID, r.Payment.EventID}
	}
	added := make(map[paymentKey]bool)
	err := p.l.query(ctx, insertPayments, append([]any{int64(receiveLock)}, rows.args()...), func() { clear(added) }, func(row tableRow) error {
		var k paymentKey
		err := row.Scan(&k.scope, &k.webhookID, &k.eventID)
		added[k] = true
		return err
	})
	if err != nil {
		return readError(ctx, "write", err)
	}
	for i, r := range batch {
		r.Repeated = !added[keys[i]]
		delete(added, keys[i]) // the same again in this batch is repeated
	}
	return nil
}

// receivedValues are what is recorded of a payment as it is received.
func receivedValues(scope int64, webhookID string, e *ledger.Payment) []any {
	return []any{scope, webhookID, e.EventID, e.Type, e.ObligationID, e.PaymentID, e.Currency, e.Amount, e.BillID, e.AccountID, e.CustomerID,
		e.ReceivedAt.UnixMicro()}
}

// scope returns the number of a scope; 0 if nothing was recorded of it.
func (p *Payments) scope(ctx context.Context, s ledger.Scope) (n int64, err error) {
	if n, ok := p.l.scopes.Load(s); ok {
		return n.(int64), nil
	}
	err = p.l.query(ctx, "SELECT id::bigint FROM scopes WHERE merchant = $1 AND mode = $2", []any{stored(s.Merchant), stored(s.Mode)}, func() { n = 0 },
		func(row tableRow) error { return row.Scan(&n) })
	if err != nil {
		return 0, readError(ctx, "read payments", err)
	}
	if n != 0 {
		p.l.scopes.Store(s, n)
	}
	return n, nil
}

// Close implements ledger.Payments. What cannot be committed soon, because the server is
// out of reach, is given up: nobody was told that it is recorded.
func (p *Payments) Close() error {
	p.closeOnce.Do(func() {
		last := time.AfterFunc(closePatience, func() { close(p.l.closing) })
		p.Receiver.Close()
		if last.Stop() {
			close(p.l.closing)
		}
		p.l.pool.Close()
	})
	return nil
}
