package monitor

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/ingest/ledger"
)

// sumsFor is how long sums over all payments are shown before they are added up again.
const sumsFor = 5 * time.Second

var (
	paymentsTotal = prometheus.NewDesc("billdrop_payments_total", "Payments that were looked at for a report, by how they were matched with a bill.", []string{"merchant", "matched_by"}, nil)
	paymentsPaid  = prometheus.NewDesc("billdrop_payments_amount_total", "Sum of the payments that were received, in minor units.", []string{"merchant", "currency"}, nil)
	unreported    = prometheus.NewDesc("billdrop_payments_unreported", "Payments that were received and are in no published report yet.", []string{"merchant"}, nil)
)

// matchedBy are reported even if their number is 0.
var matchedBy = []ledger.MatchedBy{ledger.ByBill, ledger.ByAccount, ledger.ByCustomer, ledger.ByPaymentRequest, ledger.BySeveral, ledger.ByNone}

// Delivery counts what became of a delivery to the webhook receiver. A nil Monitor counts
// nothing.
func (m *Monitor) Delivery(merchant string, r webhook.Result) {
	if m != nil {
		m.metrics.deliveries.WithLabelValues(merchant, string(r)).Inc()
	}
}

// paymentSums are sums by merchant, kept for a moment.
type paymentSums struct {
	mu   sync.Mutex
	at   time.Time
	sums map[string]ledger.PaymentSums
}

// payments returns the sums of the payments of each merchant; nil if none are received.
func (v *view) payments(ctx context.Context) (map[string]ledger.PaymentSums, error) {
	if v.Payments == nil {
		return nil, nil
	}
	v.paid.mu.Lock()
	defer v.paid.mu.Unlock()
	if time.Since(v.paid.at) < sumsFor {
		return v.paid.sums, nil
	}
	sums := make(map[string]ledger.PaymentSums)
	for _, lane := range v.lanes() {
		s, err := v.Payments.Sums(ctx, lane.Scope())
		if err != nil {
			return nil, err
		}
		if held, twice := sums[lane.Scope().Merchant]; twice && held.Unreported+len(held.By) > 0 {
			continue // the same merchant in the other mode; webhooks go to one of them
		}
		sums[lane.Scope().Merchant] = s
	}
	v.paid.at, v.paid.sums = time.Now(), sums
	return sums, nil
}

// paymentLine is what the page shows of a merchant's payments.
type paymentLine struct {
	Merchant   string
	Matched    int // those that were looked at for a report
	Unclear    int // of these, without one bill that they are certainly for
	Unreported int
	Oldest     time.Time // of the unreported ones
	Paid       []string  // sums by currency
}

// paymentLines returns a line for each merchant that got payments.
func (v *view) paymentLines(ctx context.Context) ([]paymentLine, error) {
	sums, err := v.payments(ctx)
	var lines []paymentLine
	for _, merchant := range slices.Sorted(maps.Keys(sums)) {
		s := sums[merchant]
		line := paymentLine{Merchant: merchant, Unclear: s.By[ledger.BySeveral] + s.By[ledger.ByNone], Unreported: s.Unreported, Oldest: s.Oldest,
			Paid: describe.Amounts(s.Amounts)}
		for _, n := range s.By {
			line.Matched += n
		}
		if line.Matched+line.Unreported > 0 {
			lines = append(lines, line)
		}
	}
	return lines, err
}

// collectPayments collects the metrics of payments.
func (v *view) collectPayments(ctx context.Context, to chan<- prometheus.Metric) {
	sums, err := v.payments(ctx)
	if err != nil {
		return // the counts are unknown, not 0
	}
	metric := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	for merchant, s := range sums {
		for _, by := range matchedBy {
			metric(paymentsTotal, prometheus.CounterValue, float64(s.By[by]), merchant, string(by))
		}
		for currency, amount := range s.Amounts {
			metric(paymentsPaid, prometheus.CounterValue, float64(amount), merchant, currency)
		}
		metric(unreported, prometheus.GaugeValue, float64(s.Unreported), merchant)
	}
}
