package emulator

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// maxDeliveries is how often an event is delivered at most.
	maxDeliveries = 30
	// deliveriesAtOnce bounds the deliveries under way.
	deliveriesAtOnce = 32
	// deliveryTimeout is how long a receiver may take.
	deliveryTimeout = 15 * time.Second
)

// HookConfig says where events go, and what goes wrong with them.
type HookConfig struct {
	URL        string
	Secret     string        // whsec_ and base64; see NewHookSecret
	Twice      bool          // every event is delivered once more after it was acknowledged
	Late       bool          // every event is delivered only after Lateness
	OutOfOrder bool          // every event is delivered after a time of its own, up to Lateness
	Lateness   time.Duration // 0 = 2 s
	// Backoff is the time before a delivery that was not acknowledged is repeated. It doubles
	// up to 32 times as much. 0 = 500 ms.
	Backoff   time.Duration
	Seed      uint64
	Transport http.RoundTripper // nil = http.DefaultTransport
}

// NewHookSecret returns a secret made of text.
func NewHookSecret(text string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(text))
}

// Hooks delivers events by webhook, signed after Standard Webhooks, until each was
// acknowledged. Methods may be called concurrently.
type Hooks struct {
	cfg      HookConfig
	signer   *standardwebhooks.Webhook
	client   *http.Client
	ctx      context.Context
	cancel   context.CancelFunc
	places   chan struct{}
	under    sync.WaitGroup
	mu       sync.Mutex // guards rng
	rng      *rand.Rand
	done     atomic.Int64
	given    atomic.Int64
	attempts atomic.Int64
}

// NewHooks makes a deliverer. Close ends it.
func NewHooks(cfg HookConfig) (*Hooks, error) {
	if cfg.Lateness == 0 {
		cfg.Lateness = 2 * time.Second
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = 500 * time.Millisecond
	}
	signer, err := standardwebhooks.NewWebhook(cfg.Secret)
	if err != nil || cfg.Secret == "" {
		return nil, errors.New("the webhook secret is not whsec_ and base64")
	}
	h := &Hooks{
		cfg: cfg, signer: signer, places: make(chan struct{}, deliveriesAtOnce), rng: rand.New(rand.NewPCG(cfg.Seed, 1)),
		client: &http.Client{Timeout: deliveryTimeout, Transport: cfg.Transport},
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h, nil
}

// DeliverTo sets where events go from now on; nil: nowhere.
func (a *API) DeliverTo(h *Hooks) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hooks = h
}

// Send delivers an event in the background. It does nothing on a nil Hooks.
func (h *Hooks) Send(e Event) {
	if h == nil {
		return
	}
	body, late := mustEncode(e), h.lateness() // drawn in order, so that a seed is a sequence
	h.under.Go(func() { h.deliver("msg_"+e.ID, body, late) })
}

// Wait waits until every event that was sent was acknowledged, or given up.
func (h *Hooks) Wait() { h.under.Wait() }

// Close gives up what is under way, and waits for its end.
func (h *Hooks) Close() {
	h.cancel()
	h.under.Wait()
}

// Counts returns how many events were acknowledged and how many were given up, and how many
// deliveries that took.
func (h *Hooks) Counts() (acknowledged, givenUp, attempts int64) {
	return h.done.Load(), h.given.Load(), h.attempts.Load()
}

// deliver takes one event to its end.
func (h *Hooks) deliver(id string, body []byte, late time.Duration) {
	if wait(h.ctx, late) != nil {
		h.given.Add(1)
		return
	}
	pause := h.cfg.Backoff
	for range maxDeliveries {
		if h.post(id, body) {
			h.done.Add(1)
			if h.cfg.Twice {
				h.post(id, body)
			}
			return
		}
		if wait(h.ctx, pause) != nil {
			break
		}
		pause = min(2*pause, 32*h.cfg.Backoff)
	}
	h.given.Add(1)
}

// lateness returns how long an event is held back.
func (h *Hooks) lateness() time.Duration {
	var d time.Duration
	if h.cfg.Late {
		d = h.cfg.Lateness
	}
	if h.cfg.OutOfOrder {
		h.mu.Lock()
		defer h.mu.Unlock()
		d += time.Duration(h.rng.Int64N(int64(h.cfg.Lateness)))
	}
	return d
}

// post delivers once, and reports whether it was acknowledged.
func (h *Hooks) post(id string, body []byte) bool {
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	case <-h.ctx.Done():
		return false
	}
	h.attempts.Add(1)
	req, err := h.request(id, body)
	if err != nil {
		return false
	}
	res, err := h.client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)) // so that the connection is used again
	_ = res.Body.Close()
	return res.StatusCode >= 200 && res.StatusCode < 300
}

// request returns a signed delivery with the timestamp of now.
func (h *Hooks) request(id string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(h.ctx, http.MethodPost, h.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("deliver event: %w", err)
	}
	now := time.Now()
	signature, err := h.signer.Sign(id, now, body)
	if err != nil {
		return nil, fmt.Errorf("sign event: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return req, nil
}
