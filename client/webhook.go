package client

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// webhookTolerance is how far the timestamp of a delivery may be from now. A retry
	// carries a new timestamp.
	webhookTolerance = 3 * time.Minute
	// maxWebhookHeader bounds each of the three headers of a delivery, in bytes.
	maxWebhookHeader = 1024
	// minWebhookSecret is the fewest bytes that a secret may have once it is decoded. Moment's
	// have more. An empty one would let everybody sign.
	minWebhookSecret = 16
	secretMark       = "whsec_"
)

var (
	// ErrMalformed: a delivery lacks one of the three headers, or one of them has no such form.
	ErrMalformed = errors.New("headers of a webhook are missing or malformed")
	// ErrForged: the signature is not one of the merchant's secrets'.
	ErrForged = errors.New("signature of a webhook does not match")
	// ErrStale: the timestamp is more than 3 minutes off, as in a delivery that is replayed.
	ErrStale = errors.New("timestamp of a webhook is more than 3 minutes off")
)

// Webhooks checks the signatures of deliveries to one merchant, after Standard Webhooks
// (https://www.standardwebhooks.com). It may be used concurrently.
type Webhooks struct {
	secrets []*standardwebhooks.Webhook
}

// ParseWebhookSecrets reads secrets, one a line: the old and the new one while a secret is
// rotated. The error is an *Error and quotes no secret.
func ParseWebhookSecrets(text string) (*Webhooks, error) {
	wrong := func(problem string) (*Webhooks, error) {
		return nil, &Error{"webhook secret", problem, "put the secret (whsec_…) there as Moment handed it out, one a line while it is rotated"}
	}
	w := new(Webhooks)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		encoded, marked := strings.CutPrefix(line, secretMark)
		if !marked {
			return wrong("does not begin with " + secretMark)
		}
		secret, err := base64.StdEncoding.DecodeString(encoded)
		switch {
		case err != nil:
			return wrong("is not base64 after " + secretMark)
		case len(secret) < minWebhookSecret:
			return wrong("is cut off")
		}
		checker, err := standardwebhooks.NewWebhookRaw(secret)
		if err != nil {
			return wrong("cannot be used")
		}
		w.secrets = append(w.secrets, checker)
	}
	if len(w.secrets) == 0 {
		return wrong("is empty")
	}
	return w, nil
}

// Verify returns the webhook-id of a delivery whose signature is good and whose timestamp is
// within 3 minutes of now. The signature is compared in constant time. Errors are
// ErrMalformed, ErrForged or ErrStale, and quote nothing.
func (w *Webhooks) Verify(h http.Header, body []byte, now time.Time) (id string, err error) {
	for _, name := range []string{standardwebhooks.HeaderWebhookID, standardwebhooks.HeaderWebhookTimestamp, standardwebhooks.HeaderWebhookSignature} {
		values := h.Values(name)
		if len(values) != 1 || values[0] == "" || len(values[0]) > maxWebhookHeader {
			return "", ErrMalformed
		}
	}
	id = h.Get(standardwebhooks.HeaderWebhookID)
	if strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", ErrMalformed
	}
	seconds, err := strconv.ParseInt(h.Get(standardwebhooks.HeaderWebhookTimestamp), 10, 64)
	if err != nil {
		return "", ErrMalformed
	}
	// The library's own check of the timestamp allows 5 minutes.
	good := false
	for _, secret := range w.secrets {
		good = secret.VerifyIgnoringTimestamp(body, h) == nil || good
	}
	if !good {
		return "", ErrForged
	}
	if off := now.Sub(time.Unix(seconds, 0)).Abs(); off > webhookTolerance {
		return "", ErrStale
	}
	return id, nil
}
