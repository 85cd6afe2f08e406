package monitor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"billdrop/client"
	"billdrop/cmd/billdrop/webhook"
	"billdrop/ingest"
	"billdrop/ingest/delivery"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
	"billdrop/ingest/watch"
)

func TestSplitAddress(t *testing.T) {
	for _, c := range []struct{ address, host, port string }{
		{"9310", "127.0.0.1", "9310"}, {":9310", "127.0.0.1", "9310"}, {"0", "127.0.0.1", "0"},
		{"127.0.0.1:9310", "127.0.0.1", "9310"}, {"0.0.0.0:80", "0.0.0.0", "80"}, {"[::]:9310", "::", "9310"}, {"localhost:9310", "localhost", "9310"},
	} {
		host, port, err := splitAddress(c.address)
		if err != nil || host != c.host || port != c.port {
			t.Errorf("%s is %s, %s, %v; want %s, %s", c.address, host, port, err, c.host, c.port)
		}
	}
	for _, address := range []string{"", ":", "x", ":x", "host", "65536", "-1", "+80", "080", "1.2.3.4", "1.2.3.4:", "::1", "a:b:c", ":http"} {
		if host, port, err := splitAddress(address); !errors.Is(err, ErrAddress) {
			t.Errorf("%q is %s, %s, %v; want a refusal", address, host, port, err)
		}
	}
}

func TestListen(t *testing.T) {
	l, err := Listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !IsLoopback(l) {
		t.Errorf("a port alone is %s, which is not of loopback", l.Addr())
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if _, err := Listen(t.Context(), port); !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a port in use: %v", err)
	}
	wide, err := Listen(t.Context(), "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	if IsLoopback(wide) {
		t.Errorf("%s is taken for loopback", wide.Addr())
	}
}

func TestIsLocalHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:9310": true, "127.0.0.1:9310": true, "127.0.0.2": true, "[::1]:9310": true, "[::1]": true,
		"": false, "example.com": false, "example.com:9310": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "192.0.2.7:9310": false,
	} {
		if got := isLocalHost(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}

// TestPace: only the latest 30 seconds count, or less if the pace is younger.
func TestPace(t *testing.T) {
	var p pace
	start := time.Unix(1_800_000_000, 0)
	p.begin(start)
	for i := range 1000 {
		p.add(start.Add(time.Duration(i) * 10 * time.Millisecond)) // 100 a second, for 10 s
	}
	for _, c := range []struct {
		after time.Duration
		want  float64
	}{{10 * time.Second, 100}, {20 * time.Second, 50}, {29 * time.Second, 1000. / 29}, {39 * time.Second, 100. / 30}, {time.Hour, 0}} {
		if got := p.perSecond(start.Add(c.after)); got < c.want-0.01 || got > c.want+0.01 {
			t.Errorf("after %v: %v rows a second, want %v", c.after, got, c.want)
		}
	}
}

func TestLeft(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "less than a minute", 90 * time.Second: "about 2 min", 59 * time.Minute: "about 59 min", 125 * time.Minute: "about 2 h 5 min",
	} {
		if got := left(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.Local)
	if got := short(now.Add(-time.Hour), now); got != "07:00:00" {
		t.Errorf("today: %s", got)
	}
	if got := short(now.Add(-9*time.Hour), now); got != "2026-11-22 23:00" {
		t.Errorf("yesterday: %s", got)
	}
}

func TestMayShow(t *testing.T) {
	for reference, want := range map[string]bool{
		"INV-2026/11:7#a_b.c": true, "": true,
		"Naledi Dube": false, "naledi@example.com": false, "+27821234567": false, "<b>": false, "M\x1b3": false, "Zoë": false, strings.Repeat("x", 101): false,
	} {
		if got := mayShow(reference); got != want {
			t.Errorf("%q: %t", reference, got)
		}
	}
}

// TestAnswerLabel: whatever a server answers, there are few labels.
func TestAnswerLabel(t *testing.T) {
	labels := make(map[string]bool)
	for status := 100; status < 1000; status++ {
		for _, kind := range []client.Kind{client.Refused, client.ServerFault, client.Unreadable} {
			labels[answerLabel(client.Answer{Kind: kind, Status: status})] = true
		}
	}
	if len(labels) > 150 {
		t.Errorf("%d labels", len(labels))
	}
	for want, a := range map[string]client.Answer{
		"201": {Kind: client.Created, Status: 201}, "409 taken": {Kind: client.Taken, Status: 409}, "7xx": {Kind: client.Refused, Status: 777},
		"timeout": {Kind: client.Lost, Err: context.DeadlineExceeded}, "not sent": {Kind: client.NotSent, Err: context.DeadlineExceeded},
	} {
		if got := answerLabel(a); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// fixedAPI gives one answer to everything.
type fixedAPI struct{ answer client.Answer }

func (f fixedAPI) CreateBill(context.Context, string, string, []byte) client.Answer { return f.answer }
func (fixedAPI) CreatePaymentRequest(context.Context, string, string, []byte) client.Answer {
	panic("no payment requests here")
}

func (f fixedAPI) GetBill(context.Context, string) client.Answer     { return f.answer }
func (f fixedAPI) GetCustomer(context.Context, string) client.Answer { return f.answer }
func (f fixedAPI) GetAccount(context.Context, string) client.Answer  { return f.answer }

// TestCountingCostsNoMemory: the answer that nearly every row gets is counted without an
// allocation.
func TestCountingCostsNoMemory(t *testing.T) {
	api := New("test").API(ledger.Scope{Merchant: "acme", Mode: "test"}, fixedAPI{client.Answer{Kind: client.Created, Status: 201}})
	if n := testing.AllocsPerRun(1000, func() { api.CreateBill(t.Context(), "key", "ref", nil) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
	var none *Monitor
	if api := none.API(ledger.Scope{}, fixedAPI{}); api != (fixedAPI{}) {
		t.Errorf("without a monitor the API is %T", api)
	}
}

// states is a worker with these inboxes.
type states []watch.State

func (s states) Inboxes() []watch.State { return s }

// noProgress ignores all progress.
type noProgress struct{}

func (noProgress) FileStarted(ingest.Started)          {}
func (noProgress) RowDone(string, ledger.Status)       {}
func (noProgress) FileLeft(string)                     {}
func (noProgress) FileFinished(string, report.Summary) {}

// newSite returns a site of one feed over a ledger, and its handler.
func newSite(t *testing.T, led ledger.Ledger, worker Worker) (http.Handler, *view) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	lane := delivery.NewLane(ledger.Scope{Merchant: "acme", Mode: "test"}, fixedAPI{}, delivery.Policy{Concurrency: 7})
	feeds := []*ingest.Feed{{Name: "bills", Lane: lane}}
	m := New("test")
	if _, err := m.Progress(t.Context(), led, feeds, noProgress{}); err != nil {
		t.Fatal(err)
	}
	handler, v, err := m.handler(Site{Worker: worker, Ledger: led, Feeds: feeds, Log: log, Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return handler, v
}

// ask sends a request and returns the answer.
func ask(t *testing.T, h http.Handler, method, target string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, nil)
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, w.Result().Header, string(body)
}

func TestReady(t *testing.T) {
	led := ledgertest.NewMemory()
	now := time.Now()
	for _, c := range []struct {
		name  string
		state watch.State
		busy  bool
		code  int
		says  string
	}{
		{"nothing yet", watch.State{Feed: "bills"}, false, 503, "feed bills: its first poll has not ended yet\n"},
		{"first poll is busy", watch.State{Feed: "bills"}, true, 200, "feed bills: ok, its first poll is busy with a file\n"},
		{"good", watch.State{Feed: "bills", Polled: now}, false, 200, "feed bills: ok\n"},
		{"failed", watch.State{Feed: "bills", Polled: now, Failed: "no such\ndirectory"}, false, 503, "feed bills: no such; directory\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, v := newSite(t, led, states{c.state})
			if c.busy {
				v.files.moving["f"] = &moving{feed: "bills"}
			}
			code, header, body := ask(t, h, "GET", "/readyz")
			if want := "ledger: ok\n" + c.says; code != c.code || body != want {
				t.Errorf("%d %q, want %d %q", code, body, c.code, want)
			}
			if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") {
				t.Errorf("header: %v", header)
			}
		})
	}
}

// TestLastGoodPoll: a failure does not change the time of the latest good poll.
func TestLastGoodPoll(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	worker := states{{Feed: "bills", Polled: now}}
	h, _ := newSite(t, ledgertest.NewMemory(), worker)
	ask(t, h, "GET", "/metrics")
	worker[0].Polled, worker[0].Failed = now.Add(time.Hour), "down"
	_, _, body := ask(t, h, "GET", "/metrics")
	for _, line := range []string{
		`billdrop_feed_last_success_timestamp_seconds{feed="bills"} 1.8e+09`, `billdrop_feed_last_poll_timestamp_seconds{feed="bills"} 1.8000036e+09`,
		`billdrop_feed_ready{feed="bills"} 0`, `billdrop_api_concurrency_limit{merchant="acme",mode="test"} 7`, `billdrop_ledger_up 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the metrics lack %s:\n%s", line, body)
		}
	}
}

// TestMetricsAreDocumented: docs/monitoring.md has name, type and labels of each metric, and
// no other metric.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	type metric struct{ kind, labels string }
	documented := make(map[string]metric)
	for _, m := range regexp.MustCompile("(?m)^\\| `(billdrop_\\w+)` \\| (\\w+) \\|([^|]*)\\|").FindAllStringSubmatch(string(doc), -1) {
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		documented[m[1]] = metric{m[2], strings.Join(labels, " ")}
	}
	led := openHandle(t, ledgertest.NewStore(0)) // shared, or the number of workers is not among them
	if err := led.Join(t.Context(), ledger.Member{Name: "east", LostAfter: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if err := led.AddFile(t.Context(), &ledger.File{ID: "f", Feed: "bills", State: ledger.Done, Finished: time.Now()}); err != nil {
		t.Fatal(err)
	}
	_, v := newSite(t, led, states{{Feed: "bills", Polled: time.Now()}})
	v.API(ledger.Scope{Merchant: "acme", Mode: "test"}, fixedAPI{}).GetBill(t.Context(), "ref")
	v.Payments = fixedPayments{}
	v.Delivery("acme", webhook.Recorded)
	families, err := v.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]metric)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "billdrop_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		there[f.GetName()] = metric{strings.ToLower(f.GetType().String()), strings.Join(labels, " ")}
	}
	if diff := cmp.Diff(there, documented, cmp.AllowUnexported(metric{})); diff != "" {
		t.Errorf("docs/monitoring.md (- the code, + the page):\n%s", diff)
	}
	for _, name := range regexp.MustCompile(`billdrop_\w+`).FindAllString(string(doc), -1) {
		if _, ok := there[name]; !ok {
			t.Errorf("docs/monitoring.md speaks of %s, which is not there", name)
		}
	}
}

// fixedPayments has the same sums for every merchant.
type fixedPayments struct{ ledger.Payments }

func (fixedPayments) Sums(context.Context, ledger.Scope) (ledger.PaymentSums, error) {
	return ledger.PaymentSums{By: map[ledger.MatchedBy]int{ledger.ByBill: 1200, ledger.ByNone: 3}, Amounts: map[string]int64{"ZAR": 123456, "USD": 100},
		Unreported: 7, Oldest: time.Now().Add(-time.Hour)}, nil
}

func (fixedPayments) PaidSince(_ context.Context, _ ledger.Scope, after int64, _ time.Time) ([]ledger.PaidSum, int64, error) {
	return nil, after, nil
}

func TestPaymentsAreShown(t *testing.T) {
	h, v := newSite(t, ledgertest.NewMemory(), states{{Feed: "bills", Polled: time.Now()}})
	if _, _, page := ask(t, h, "GET", "/"); strings.Contains(page, "Payments") {
		t.Errorf("payments are shown where none are received:\n%s", page)
	}
	v.Payments = fixedPayments{}
	v.Delivery("acme", webhook.Forged)
	_, _, body := ask(t, h, "GET", "/metrics")
	for _, line := range []string{
		`billdrop_payments_total{matched_by="bill_id",merchant="acme"} 1200`, `billdrop_payments_total{matched_by="several",merchant="acme"} 0`,
		`billdrop_payments_amount_total{currency="ZAR",merchant="acme"} 123456`, `billdrop_payments_unreported{merchant="acme"} 7`,
		`billdrop_webhooks_total{merchant="acme",result="forged"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the metrics lack %s:\n%s", line, body)
		}
	}
	_, _, page := ask(t, h, "GET", "/")
	for _, text := range []string{"Payments", "ZAR 1,234.56", "USD 1.00", ">1,203<", ">3<", ">7<", "1 hour ago"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q:\n%s", text, page)
		}
	}
	(*Monitor)(nil).Delivery("acme", webhook.Recorded) // counts nothing
}

func TestInboxMetrics(t *testing.T) {
	h, _ := newSite(t, ledgertest.NewMemory(), states{{
		Feed: "bills", Polled: time.Now(), Waiting: 3, OldestWaiting: time.Now().Add(-time.Hour),
		Remarks: []watch.Remark{{Kind: "missing", Name: "a*.csv"}, {Kind: "stranger", Name: `"<script>`}, {Kind: "stranger", Name: "y"}},
	}})
	_, _, body := ask(t, h, "GET", "/metrics")
	for _, line := range []string{
		`billdrop_inbox_waiting_files{feed="bills"} 3`, `billdrop_inbox_missing_files{feed="bills"} 1`,
		`billdrop_inbox_remarks{feed="bills",kind="stranger"} 2`, `billdrop_inbox_remarks{feed="bills",kind="unsettled"} 0`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the metrics lack %s:\n%s", line, body)
		}
	}
	if !strings.Contains(body, `billdrop_inbox_oldest_file_age_seconds{feed="bills"} 360`) {
		t.Errorf("the age of the oldest file is not an hour:\n%s", body)
	}
	if _, _, page := ask(t, h, "GET", "/"); strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;script&gt;") {
		t.Errorf("a name in the inbox is not escaped:\n%s", page)
	}
}

// brokenLedger cannot be read.
type brokenLedger struct{ ledger.Ledger }

func (brokenLedger) Files(context.Context, ledger.Query) ([]*ledger.File, error) {
	return nil, ledger.ErrUnusable
}

func TestBrokenLedger(t *testing.T) {
	h, v := newSite(t, ledgertest.NewMemory(), states{{Feed: "bills", Polled: time.Now()}})
	v.Ledger = brokenLedger{}
	if code, _, body := ask(t, h, "GET", "/readyz"); code != 503 || !strings.Contains(body, "ledger: it cannot be read") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _, body := ask(t, h, "GET", "/"); code != 503 || !strings.Contains(body, "The ledger cannot be read") {
		t.Errorf("page: %d %s", code, body)
	}
	if _, _, body := ask(t, h, "GET", "/metrics"); !strings.Contains(body, "billdrop_ledger_up 0\n") || strings.Contains(body, "billdrop_files_held{") {
		t.Errorf("metrics:\n%s", body)
	}
}

func TestWhatIsRefused(t *testing.T) {
	h, v := newSite(t, ledgertest.NewMemory(), states{{Feed: "bills"}})
	for _, path := range []string{"/", "/metrics", "/healthz", "/readyz", "/files/x"} {
		if code, _, _ := ask(t, h, "POST", path); code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, code)
		}
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "rebound.example"
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusMisdirectedRequest {
			t.Errorf("GET %s of another host: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/files/x", "/nothing", "/files/", "/style.css"} {
		if code, _, _ := ask(t, h, "GET", path); code != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, code)
		}
	}
	if code, _, _ := ask(t, h, "HEAD", "/healthz"); code != 200 {
		t.Errorf("HEAD: %d", code)
	}
	v.over.Store(true)
	if code, _, _ := ask(t, h, "GET", "/healthz"); code != 503 {
		t.Errorf("after the worker's end: %d", code)
	}
}

// TestServerEnds: Close joins everything, even with a client that never finishes its
// request.
func TestServerEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	led := ledgertest.NewMemory()
	m := New("test")
	if _, err := m.Serve(listenAnywhere(t), Site{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, errUnwired) {
		t.Errorf("without Progress: %v", err)
	}
	if _, err := m.Progress(t.Context(), led, nil, noProgress{}); err != nil {
		t.Fatal(err)
	}
	l := listenAnywhere(t)
	s, err := m.Serve(l, Site{Worker: states{}, Ledger: led, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n"); err != nil {
		t.Fatal(err)
	}
	s.patience = 10 * time.Millisecond
	s.Close()
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
	var none *Server
	none.Close()
}

func listenAnywhere(t *testing.T) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), "0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
