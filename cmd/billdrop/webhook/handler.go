// Package webhook receives the events of payments that Moment delivers: POST
// /webhooks/MERCHANT. It is made to face the internet: what is not signed is refused before
// it is read any further, everything is bounded, and a good delivery is answered once it is
// durable.
//
// Nothing of a body reaches a log or an answer. A delivery is signed over its id, its
// timestamp and its body; see client.Webhooks.
package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
)

// PathPrefix comes before the merchant's name.
const PathPrefix = "/webhooks/"

const (
	// maxBody is the most that is read of a delivery, in bytes. An event has some 500.
	maxBody = 64 << 10
	// recordTimeout bounds how long a delivery waits until it is durable. Moment delivers
	// again what was not answered.
	recordTimeout = 8 * time.Second
	// maxWebhookID is the longest webhook-id that is kept, in bytes.
	maxWebhookID = 255
)

// Result is what became of a delivery. They are labels of a metric, so they never change.
type Result string

const (
	Recorded  Result = "recorded"
	Repeated  Result = "repeated"  // it was recorded before
	Ignored   Result = "ignored"   // good, and of a type that reports no payment
	Nonsense  Result = "nonsense"  // signed, and not an event that can be read
	Malformed Result = "malformed" // headers missing, or a body that broke off
	Forged    Result = "forged"    // no secret of the merchant's made the signature
	Stale     Result = "stale"     // its timestamp is more than 3 minutes off
	TooLarge  Result = "too_large"
	Failed    Result = "failed" // it could not be recorded; Moment delivers it again
)

// status is the answer to a delivery.
func (r Result) status() int {
	switch r {
	case Malformed:
		return http.StatusBadRequest
	case Forged, Stale:
		return http.StatusUnauthorized
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case Failed:
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// Store is where payments are recorded: a part of ledger.Payments.
type Store interface {
	// Receive returns once the payment is durable. It reports whether it was known.
	Receive(ctx context.Context, s ledger.Scope, webhookID string, p ledger.Payment) (repeated bool, err error)
}

// Merchant is one that events are delivered for.
type Merchant struct {
	Scope  ledger.Scope
	Checks *client.Webhooks
}

// Handler answers deliveries. It may be used concurrently.
type Handler struct {
	Merchants []Merchant
	Store     Store
	Log       *slog.Logger
	// Count, if not nil, is called for each delivery to a merchant.
	Count func(merchant string, r Result)

	quiet quiet
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	m := h.merchant(r.URL)
	switch {
	case m == nil:
		refuse(w, http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	result, err := h.receive(w, r, m)
	h.tell(m, result, err)
	if status := result.status(); status != http.StatusOK {
		refuse(w, status)
	}
}

// refuse answers with a status. The rest of a body is not waited for, and the connection is
// not used again.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Connection", "close")
	http.Error(w, http.StatusText(status), status)
}

// merchant returns the one that a path names, or nil.
func (h *Handler) merchant(u *url.URL) *Merchant {
	name, found := strings.CutPrefix(u.Path, PathPrefix)
	if !found {
		return nil
	}
	for i := range h.Merchants {
		if h.Merchants[i].Scope.Merchant == name {
			return &h.Merchants[i]
		}
	}
	return nil
}

// receive takes one delivery to its end. The error is that of the store.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, m *Merchant) (Result, error) {
	if r.ContentLength > maxBody {
		return TooLarge, nil
	}
	received := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return TooLarge, nil
	case err != nil: // the client was too slow, or has gone
		return Malformed, nil
	}
	id, err := m.Checks.Verify(r.Header, body, received)
	switch {
	case errors.Is(err, client.ErrForged):
		return Forged, nil
	case errors.Is(err, client.ErrStale):
		return Stale, nil
	case err != nil, len(id) > maxWebhookID:
		return Malformed, nil
	}
	event, kind := client.ReadEvent(body)
	switch kind {
	case client.Ignored:
		return Ignored, nil
	case client.Nonsense:
		return Nonsense, nil
	}
	// A sender that does not wait for the answer does not undo its delivery.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordTimeout)
	defer cancel()
	repeated, err := h.Store.Receive(ctx, m.Scope, id, paymentOf(&event, received))
	switch {
	case err != nil:
		return Failed, err
	case repeated:
		return Repeated, nil
	}
	return Recorded, nil
}

// paymentOf returns what is kept of an event.
func paymentOf(e *client.Event, received time.Time) ledger.Payment {
	return ledger.Payment{
		ReceivedAt: received.UTC().Truncate(time.Millisecond), EventID: e.ID, Type: e.Type, ObligationID: e.ObligationID, PaymentID: e.PaymentID,
		Currency: e.Currency, Amount: e.Amount, BillID: e.BillID, AccountID: e.AccountID, CustomerID: e.CustomerID,
	}
}

// tell counts a delivery, and logs what an operator should know of.
func (h *Handler) tell(m *Merchant, r Result, err error) {
	merchant := m.Scope.Merchant
	if h.Count != nil {
		h.Count(merchant, r)
	}
	n, say := h.quiet.count(merchant, r, time.Now())
	if !say {
		return
	}
	log := h.Log.With("merchant", merchant, "deliveries", n)
	switch r {
	case Failed:
		log.Error("a payment could not be recorded; Moment delivers it again", "error", err)
	case Forged:
		log.Warn("deliveries were refused: their signature is not made with a secret in api.webhook_secret_file")
	case Stale:
		log.Warn("deliveries were refused: their timestamp is more than 3 minutes off; check this machine's clock")
	case Malformed, TooLarge:
		log.Warn("deliveries were refused", "why", string(r))
	case Nonsense:
		log.Warn("deliveries with a good signature could not be read, so they are in no report; ask Moment what changed")
	}
}
