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
	return c.count(http.MethodPost, func() client.Answer { return c.api.CreateBill(ctx, key, reference, body) })
}

// CreatePaymentRequest implements delivery.API.
func (c *countedAPI) CreatePaymentRequest(ctx context.Context, key, reference string, body []byte) client.Answer {
	return c.count(http.MethodPost, func() client.Answer { return c.api.CreatePaymentRequest(ctx, key, reference, body) })
}

// GetBill implements delivery.API.
func (c *countedAPI) GetBill(ctx context.Context, reference string) client.Answer {
	return c.count(http.MethodGet, func() client.Answer { return c.api.GetBill(ctx, reference) })
}

// GetCustomer implements delivery.API.
func (c *countedAPI) GetCustomer(ctx context.Context, reference string) client.Answer {
	return c.count(http.MethodGet, func() client.Answer { return c.api.GetCustomer(ctx, reference) })
}

// GetAccount implements delivery.API.
func (c *countedAPI) GetAccount(ctx context.Context, reference string) client.Answer {
	return c.count(http.MethodGet, func() client.Answer { return c.api.GetAccount(ctx, reference) })
}

func (c *countedAPI) count(method string, ask func() client.Answer) client.Answer {
	seconds := c.gets
	if method == http.MethodPost {
		seconds = c.posts
	}
	c.inFlight.Inc()
	began := time.Now()
	a := ask()
	seconds.Observe(time.Since(began).Seconds())
	c.inFlight.Dec()
	if a.Kind == client.Created && !a.Replayed {
		c.created.Inc()
	} else {
		c.answers.WithLabelValues(method, answerLabel(a)).Inc()
	}
	return a
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
