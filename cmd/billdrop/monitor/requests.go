package monitor

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"billdrop/client"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
)

// API returns an API that counts and times every request to api.
func (m *Monitor) API(scope ledger.Scope, api delivery.API) delivery.API {
	if m == nil {
		return api
	}
	lane := prometheus.Labels{"merchant": scope.Merchant, "mode": scope.Mode}
	answers := m.metrics.requests.MustCurryWith(lane)
	seconds := m.metrics.seconds.MustCurryWith(lane)
	return &countedAPI{
		api: api, inFlight: m.metrics.inFlight.With(lane), answers: answers,
		created: answers.WithLabelValues(http.MethodPost, "201"),
		posts:   seconds.WithLabelValues(http.MethodPost), gets: seconds.WithLabelValues(http.MethodGet),
	}
}

// countedAPI counts requests. It looks up the usual metrics beforehand, because each look-up
// hashes the labels.
type countedAPI struct {
	api         delivery.API
	inFlight    prometheus.Gauge
	answers     *prometheus.CounterVec // by method and answer
	created     prometheus.Counter     // of answers: POST, 201
	posts, gets prometheus.Observer    // seconds
}

var _ delivery.API = (*countedAPI)(nil)

// CreateBill implements delivery.API.
func (c *countedAPI) CreateBill(ctx context.Context, key, reference string, body []byte) client.Answer {
	began := c.begin()
	a := c.api.CreateBill(ctx, key, reference, body)
	c.end(began, c.posts)
	if a.Kind == client.Created && !a.Replayed {
		c.created.Inc()
	} else {
		c.answers.WithLabelValues(http.MethodPost, answerLabel(a)).Inc()
	}
	return a
}

// CreatePaymentRequest implements delivery.API.
func (c *countedAPI) CreatePaymentRequest(ctx context.Context, key, reference string, body []byte) client.Answer {
	began := c.begin()
	a := c.api.CreatePaymentRequest(ctx, key, reference, body)
	c.end(began, c.posts)
	c.answers.WithLabelValues(http.MethodPost, answerLabel(a)).Inc()
	return a
}

// GetBill implements delivery.API.
func (c *countedAPI) GetBill(ctx context.Context, reference string) client.Answer {
	return c.get(c.api.GetBill, ctx, reference)
}

// GetCustomer implements delivery.API.
func (c *countedAPI) GetCustomer(ctx context.Context, reference string) client.Answer {
	return c.get(c.api.GetCustomer, ctx, reference)
}

// GetAccount implements delivery.API.
func (c *countedAPI) GetAccount(ctx context.Context, reference string) client.Answer {
	return c.get(c.api.GetAccount, ctx, reference)
}

func (c *countedAPI) get(get func(context.Context, string) client.Answer, ctx context.Context, reference string) client.Answer {
	began := c.begin()
	a := get(ctx, reference)
	c.end(began, c.gets)
	c.answers.WithLabelValues(http.MethodGet, answerLabel(a)).Inc()
	return a
}

func (c *countedAPI) begin() time.Time {
	c.inFlight.Inc()
	return time.Now()
}

func (c *countedAPI) end(began time.Time, seconds prometheus.Observer) {
	seconds.Observe(time.Since(began).Seconds())
	c.inFlight.Dec()
}

// answerLabel is the answer's label. Unregistered statuses are reported by their class, so a
// server cannot create ever new labels.
func answerLabel(a client.Answer) string {
	if a.Status != 0 && http.StatusText(a.Status) == "" {
		return strconv.Itoa(a.Status/100) + "xx"
	}
	label, _, _ := strings.Cut(a.Label(), ": ") // why nothing was sent is in the log
	return label
}
