package monitor

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/watch"
)

// scrapeTimeout bounds how long a scrape waits for the ledger.
const scrapeTimeout = 5 * time.Second

// durations are the buckets of a request's duration, in seconds, up to the default timeout.
var durations = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// metrics are counted as things happen. docs/monitoring.md explains each of them.
type metrics struct {
	registry   *prometheus.Registry
	files      *prometheus.CounterVec // feed, outcome
	rows       *prometheus.CounterVec // feed, status
	requests   *prometheus.CounterVec // merchant, mode, method, answer
	seconds    *prometheus.HistogramVec
	inFlight   *prometheus.GaugeVec
	deliveries *prometheus.CounterVec // merchant, result
}

func newMetrics(version string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		files:    counter("billdrop_files_total", "Bill files that this process brought to their end, by outcome.", "feed", "outcome"),
		rows:     counter("billdrop_rows_total", "Rows that got their status from this process.", "feed", "status"),
		requests: counter("billdrop_api_requests_total", "Requests to the Billing API, by what came of them.", "merchant", "mode", "method", "answer"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "billdrop_api_request_duration_seconds", Help: "How long requests to the Billing API took, those without an answer included.",
			Buckets: durations,
		}, []string{"merchant", "mode", "method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "billdrop_api_requests_in_flight", Help: "Requests to the Billing API that wait for their answer.",
		}, []string{"merchant", "mode"}),
		deliveries: counter("billdrop_webhooks_total", "Deliveries to the webhook receiver, by what became of them.", "merchant", "result"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "billdrop_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.files, m.rows, m.requests, m.seconds, m.inFlight, m.deliveries, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// begin makes the counters of a feed at zero, because a rate needs a first value.
func (m *metrics) begin(feed string) {
	for _, outcome := range []string{ledger.Completed, ledger.CompletedWithErrors, ledger.FileRejected} {
		m.files.WithLabelValues(feed, outcome)
	}
	for _, status := range ledger.Statuses {
		m.rows.WithLabelValues(feed, string(status))
	}
}

// Gauges that are read for each scrape.
var (
	ledgerUp     = prometheus.NewDesc("billdrop_ledger_up", "1 while the ledger can be read.", nil, nil)
	feedReady    = feedDesc("billdrop_feed_ready", "1 while the feed works: its latest poll was good, or its first one is busy with a file.")
	lastPoll     = feedDesc("billdrop_feed_last_poll_timestamp_seconds", "When the feed's latest poll ended, good or not. Absent before the first.")
	lastGoodPoll = feedDesc("billdrop_feed_last_success_timestamp_seconds", "When the feed's latest good poll ended, as far as this process has seen. Absent before the first.")
	lastFile     = feedDesc("billdrop_feed_last_file_timestamp_seconds", "When the feed's latest file was finished. Absent where none was.")
	waiting      = feedDesc("billdrop_inbox_waiting_files", "Bill files in the inbox, complete or not, at the latest look.")
	oldest       = feedDesc("billdrop_inbox_oldest_file_age_seconds", "How long ago the bill file that lies in the inbox longest was first seen; 0 where none does.")
	missing      = feedDesc("billdrop_inbox_missing_files", "Expected files that are not there by their time.")
	remarks      = feedDesc("billdrop_inbox_remarks", "Things about the inbox that a person should know of, by kind.", "kind")
	underWay     = feedDesc("billdrop_files_in_progress", "Files that are claimed and not finished, the held ones apart.")
	held         = feedDesc("billdrop_files_held", "Files that wait for `billdrop approve`.")
	workers      = prometheus.NewDesc("billdrop_workers", "Live workers that share the ledger; absent where it is one machine's.", nil, nil)
	laneWidth    = prometheus.NewDesc("billdrop_api_concurrency_limit", "Requests that may be in flight at most now: the configured bound, or fewer after 429s and outages.", []string{"merchant", "mode"}, nil)
)

func feedDesc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"feed"}, more...), nil)
}

// remarkKinds are reported even if their number is 0.
var remarkKinds = []string{watch.Missing, watch.Stranger, watch.Unsettled, watch.Crowded}

// Describe implements prometheus.Collector.
func (v *view) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ledgerUp, feedReady, lastPoll, lastGoodPoll, lastFile, waiting, oldest, missing, remarks, underWay, held, laneWidth, workers,
		paymentsTotal, paymentsPaid, unreported} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (v *view) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	when := func(d *prometheus.Desc, at time.Time, labels ...string) {
		if !at.IsZero() {
			gauge(d, float64(at.UnixMilli())/1e3, labels...)
		}
	}
	for _, s := range v.Worker.Inboxes() {
		ready, _ := v.ready(s)
		gauge(feedReady, flag(ready), s.Feed)
		when(lastPoll, s.Polled, s.Feed)
		when(lastGoodPoll, v.good.latest(s), s.Feed)
		when(lastFile, v.files.lastOf(s.Feed), s.Feed)
		gauge(waiting, float64(s.Waiting), s.Feed)
		age := time.Duration(0)
		if !s.OldestWaiting.IsZero() {
			age = time.Since(s.OldestWaiting)
		}
		gauge(oldest, age.Seconds(), s.Feed)
		kinds := countRemarks(s.Remarks)
		gauge(missing, float64(kinds[watch.Missing]), s.Feed)
		for kind, n := range kinds {
			gauge(remarks, float64(n), s.Feed, kind)
		}
	}
	for _, lane := range v.lanes() {
		gauge(laneWidth, float64(lane.Width()), lane.Scope().Merchant, lane.Scope().Mode)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	v.collectPayments(ctx, to)
	files, err := v.Ledger.Files(ctx, ledger.Query{Unfinished: true})
	gauge(ledgerUp, flag(err == nil))
	if err != nil {
		return // the counts are unknown, not 0
	}
	if live, err := describe.ReadWorkers(ctx, v.Ledger); err == nil && v.shared != nil {
		gauge(workers, float64(len(live)))
	}
	for _, f := range v.Feeds {
		busy, resting := 0, 0
		for _, file := range files {
			switch {
			case file.Feed != f.Name:
			case file.State == ledger.Held:
				resting++
			default:
				busy++
			}
		}
		gauge(underWay, float64(busy), f.Name)
		gauge(held, float64(resting), f.Name)
	}
}

// lanes are the merchant accounts of all feeds, each once.
func (v *view) lanes() []*delivery.Lane {
	var lanes []*delivery.Lane
	seen := make(map[*delivery.Lane]bool)
	for _, f := range v.Feeds {
		if !seen[f.Lane] {
			seen[f.Lane] = true
			lanes = append(lanes, f.Lane)
		}
	}
	return lanes
}

// countRemarks counts remarks by kind.
func countRemarks(of []watch.Remark) map[string]int {
	kinds := make(map[string]int)
	for _, kind := range remarkKinds {
		kinds[kind] = 0
	}
	for _, r := range of {
		kinds[r.Kind]++
	}
	return kinds
}

func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
