package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/report"
)

// payingSite is a sandbox whose events go to a port of this machine, and its configuration.
func payingSite(t *testing.T, hooks emulator.HookConfig) (box *sandbox.Sandbox, conf, address string) {
	t.Helper()
	address = "127.0.0.1:" + freePort(t)
	hooks.URL = "http://" + address + "/webhooks/" + sandbox.User
	box, err := sandbox.Open(t.Context(), sandbox.Options{Dir: t.TempDir(), SFTPAddr: "127.0.0.1:0", APIAddr: "127.0.0.1:0", Hooks: hooks,
		API: emulator.Config{Seed: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	return box, box.Path("config.yaml"), address
}

// background starts the real program; its standard error goes to a buffer that is read at the end.
func background(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *printed) {
	t.Helper()
	cmd = billdrop(t, args...)
	stderr = new(printed)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stderr
}

// printed is what a program has printed so far.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *printed) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *printed) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// terminate ends a program that was started, by SIGTERM, and returns its exit code.
func terminate(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// listens waits until something accepts connections.
func listens(t *testing.T, address string) {
	t.Helper()
	await(t, func() bool {
		res, err := http.Get("http://" + address + "/webhooks/" + sandbox.User)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed {
			t.Fatalf("GET is answered %d", res.StatusCode)
		}
		return true
	})
}

// pay has the sandbox apply a payment.
func pay(t *testing.T, box *sandbox.Sandbox, bill string, amount int64, as string) (eventID string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"bill": bill, "amount": amount, "as": as})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(box.APIURL+emulator.PayPath, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var paid emulator.Receipt
	if err := json.NewDecoder(res.Body).Decode(&paid); err != nil || res.StatusCode != 200 || paid.EventID == "" {
		t.Fatalf("pay: %d %v %+v", res.StatusCode, err, paid)
	}
	return paid.EventID
}

// paymentLines are the lines of all payment reports of a site, by name of the report.
func paymentLines(t *testing.T, box *sandbox.Sandbox) map[string][][]string {
	t.Helper()
	paths, err := filepath.Glob(box.Path("payments/payments-*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	reports := map[string][][]string{}
	for _, path := range paths {
		records, err := csv.NewReader(bytes.NewReader(readAll(t, path))).ReadAll()
		if err != nil || !slices.Equal(records[0], report.PaymentColumns[:]) {
			t.Fatalf("%s: %v, %v", path, err, records)
		}
		reports[filepath.Base(path)] = records[1:]
	}
	return reports
}

// TestPaymentsByCron: `receive` stays, `run --once` comes and goes on the same ledger, and every
// event is in one report, although it is delivered twice, late and in any order.
func TestPaymentsByCron(t *testing.T) {
	t.Parallel()
	box, conf, address := payingSite(t, emulator.HookConfig{Twice: true, OutOfOrder: true, Seed: 7})
	receiver, stderr := background(t, "receive", "--config", conf)
	listens(t, address)
	o := newOutside(t)
	var bills strings.Builder // the events repeat the metadata
	for i, line := range strings.Split(strings.TrimSpace(string(numberedBills(20))), "\n") {
		fmt.Fprintln(&bills, line+[]string{",metadata.note", ",CANARY"}[min(i, 1)])
	}
	drop(t, box, "bills.csv", bills.String())
	o.say(0, "run", "--once", "--config", conf)
	sent := map[string][3]string{} // event → bill, amount, how
	for i := range 20 {
		as := []string{emulator.AsBill, emulator.AsAccount}[i%2]
		bill := fmt.Sprintf("INV-%05d", i)
		sent[pay(t, box, bill, int64(100+i), as)] = [3]string{bill, fmt.Sprint(100 + i), as}
	}
	await(t, func() bool { return box.Acknowledged() == 20 })
	if err := os.Rename(box.Path("payments"), box.Path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	o.say(3, "run", "--once", "--config", conf)
	o.say(3, "run", "--once", "--output", "json", "--config", conf)
	if err := os.Rename(box.Path("elsewhere"), box.Path("payments")); err != nil {
		t.Fatal(err)
	}
	o.say(0, "run", "--once", "--config", conf)
	o.say(0, "run", "--once", "--config", conf)
	lines := 0
	for name, records := range paymentLines(t, box) {
		if !strings.HasPrefix(name, "payments-sandbox-20") || !strings.HasSuffix(name, "Z.csv") {
			t.Errorf("name %s", name)
		}
		for _, r := range records {
			lines++
			want, there := sent[r[1]]
			if !there || r[6] != want[1] || r[7] != want[2] || r[8] != want[0] || r[12] != "unpaid" || r[14] != want[1] {
				t.Errorf("line %v, want %v", r, want)
			}
			delete(sent, r[1])
		}
	}
	if lines != 20 || len(sent) != 0 {
		t.Errorf("%d lines, %d events in no report", lines, len(sent))
	}
	var doc struct{ Payments []map[string]any }
	if err := json.Unmarshal(o.say(0, "payments", "--output", "json", "--config", conf).stdout, &doc); err != nil || len(doc.Payments) != 20 {
		t.Errorf("payments: %v, %v", err, doc)
	}
	if err := json.Unmarshal(o.say(0, "payments", "INV-00003", "--since", "1h", "--output", "json", "--config", conf).stdout, &doc); err != nil ||
		len(doc.Payments) != 1 || doc.Payments[0]["bill_reference"] != "INV-00003" || doc.Payments[0]["amount"] != 103.0 {
		t.Errorf("payments of a bill: %v, %v", err, doc)
	}
	if out := o.say(0, "why", "INV-00003", "--config", conf).stdout; !bytes.Contains(out, []byte("1 payment for it, ZAR 1.03")) {
		t.Errorf("why: %s", out)
	}
	o.say(0, "why", "INV-00003", "--output", "json", "--config", conf)
	if out := o.say(0, "payments", "--limit", "2", "--config", conf).stdout; bytes.Count(out, []byte("payments-sandbox-")) != 2 {
		t.Errorf("payments: %s", out)
	}
	if code := terminate(t, receiver); code != exitSignal+int(syscall.SIGTERM) {
		t.Errorf("receive ended with %d: %s", code, stderr)
	}
	for _, name := range []string{"ledger.db-events", "ledger.db-events-wal"} {
		if b, err := os.ReadFile(box.Path(name)); bytes.Contains(b, []byte("CANARY")) || bytes.Contains(b, []byte("Naledi")) {
			t.Errorf("%s has personal data, %v", name, err)
		}
	}
	if strings.Contains(stderr.String(), "CANARY") {
		t.Errorf("the log has metadata: %s", stderr)
	}
	if info, err := os.Stat(box.Path("ledger.db-events")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestPaymentsInRun: a worker that stays receives and reports by itself, and counts. A report that
// cannot be published is delayed and loses nothing.
func TestPaymentsInRun(t *testing.T) {
	t.Parallel()
	box, conf, address := payingSite(t, emulator.HookConfig{})
	if err := os.Rename(box.Path("payments"), box.Path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	worker, stderr := background(t, "run", "--listen", port, "--config", conf)
	listens(t, address)
	drop(t, box, "bills.csv", string(numberedBills(3)))
	await(t, func() bool { return len(summaries(t, box, "bills")) == 1 })
	pay(t, box, "INV-00000", 0, emulator.AsCustomer)         // it has an account, so the customer says nothing
	await(t, func() bool { return box.Acknowledged() == 1 }) // so that the other one comes second
	pay(t, box, "INV-00001", 0, emulator.AsAccount)
	await(t, func() bool {
		return strings.Contains(metricsOf(t, port), `billdrop_payments_unreported{merchant="sandbox"} 2`)
	})
	await(t, func() bool { return strings.Contains(stderr.String(), "payments were not reported") })
	if err := os.Rename(box.Path("elsewhere"), box.Path("payments")); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return len(paymentLines(t, box)) == 1 })
	for _, records := range paymentLines(t, box) {
		if len(records) != 2 || records[0][7] != "none" || records[0][8] != "" || records[1][7] != "account_id" || records[1][8] != "INV-00001" || records[1][12] != "paid" {
			t.Errorf("lines %v", records)
		}
	}
	await(t, func() bool {
		return strings.Contains(metricsOf(t, port), `billdrop_payments_unreported{merchant="sandbox"} 0`)
	})
	text := ""
	await(t, func() bool { text = metricsOf(t, port); return text != "" })
	for _, want := range []string{
		`billdrop_payments_total{matched_by="account_id",merchant="sandbox"} 1`, `billdrop_payments_total{matched_by="none",merchant="sandbox"} 1`,
		`billdrop_payments_amount_total{currency="ZAR",merchant="sandbox"} 2001`, `billdrop_webhooks_total{merchant="sandbox",result="recorded"} 2`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if code := terminate(t, worker); code != exitSignal+int(syscall.SIGTERM) {
		t.Errorf("run ended with %d", code)
	}
	if !strings.Contains(stderr.String(), "payments reported") {
		t.Errorf("the log: %s", stderr)
	}
}

// metricsOf are the metrics of a worker; "" if it has answered too many requests of late.
func metricsOf(t *testing.T, port string) string {
	t.Helper()
	res, err := http.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return ""
	}
	return b.String()
}
