//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// balancer is an address that passes each request on to one of several backends, a live one or not.
func balancer(t *testing.T, backends []string) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: backends[rand.IntN(len(backends))]})
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := &http.Server{Handler: proxy}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// payingCluster is a cluster, or one worker on SQLite, whose events go to the receivers of its
// workers and to one beside them.
type payingCluster struct {
	*cluster
	front    string   // where events are delivered
	backends []string // addresses of the receivers, the last one that of `receive`
}

func newPayingCluster(t *testing.T, pg *pgtest.Server, receivers int, api emulator.Config, hooks emulator.HookConfig) *payingCluster {
	t.Helper()
	c := &payingCluster{cluster: &cluster{t: t, pg: pg, lostAfter: clusterKept}}
	if pg != nil {
		c.database = pg.Database(t)
	}
	for range receivers {
		c.backends = append(c.backends, "127.0.0.1:"+freePort(t))
	}
	c.front = balancer(t, c.backends)
	hooks.URL = "http://" + c.front + "/webhooks/" + sandbox.User
	box, err := sandbox.Open(t.Context(), sandbox.Options{Dir: t.TempDir(), SFTPAddr: "127.0.0.1:0", APIAddr: "127.0.0.1:0", Hooks: hooks, API: api})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	c.box = box
	return c
}

// configAt is the configuration of a worker that receives at the nth address.
func (c *payingCluster) configAt(slot string, n int) string {
	c.t.Helper()
	return c.config(slot, "", "", c.front, c.backends[n])
}

// TestPaymentsInCluster: workers and a receiver beside them get the events of one merchant, and are
// killed and frozen at random moments, in the middle of a report too. Each event is in one report.
func TestPaymentsInCluster(t *testing.T) {
	t.Parallel()
	c := newPayingCluster(t, pgtest.Start(t), 3, emulator.Config{Seed: 1}, emulator.HookConfig{Twice: true, Backoff: 20 * time.Millisecond})
	c.lostAfter = clusterLost
	confs := []string{c.configAt("a", 0), c.configAt("b", 1), c.configAt("c", 2)}
	workers := []*process{c.run(confs[0], ""), c.run(confs[1], "")}
	c.up(confs[0], workers...)
	receiver, stderr := background(t, "receive", "--config", confs[2])
	for _, address := range c.backends {
		listens(t, address)
	}
	drop(t, c.box, "bills.csv", string(numberedBills(200)))
	c.finished("bills")
	sent := map[string]int64{}
	payments := func() {
		for range 20 {
			amount := 1 + rand.Int64N(5)
			as := []string{emulator.AsBill, emulator.AsAccount}[rand.IntN(2)]
			if p, err := c.box.API.Pay(fmt.Sprintf("INV-%05d", rand.IntN(200)), amount, as); err == nil {
				sent[p.EventID] = amount
			}
		}
	}
	for n := range *clusterKills {
		payments()
		victim := n % len(workers)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(1500*time.Millisecond))))
		<-ctx.Done() // a random moment within a report and a half
		cancel()
		if n%4 == 3 {
			frozen := workers[victim]
			frozen.signal(syscall.SIGSTOP)
			payments()
			await(t, func() bool { _, live := c.workers(confs[1-victim])[frozen.name]; return !live })
			frozen.signal(syscall.SIGCONT)
			continue
		}
		workers[victim].kill()
		workers[victim] = c.run(confs[victim], "")
	}
	payments()
	await(t, func() bool { return c.box.Acknowledged() == int64(len(sent)) })
	lines := reportedLines(t, c.box)
	await(t, func() bool { return lines() >= len(sent) })
	for _, w := range workers {
		w.stop()
	}
	if code := terminate(t, receiver); code != exitSignal+int(syscall.SIGTERM) {
		t.Errorf("receive ended with %d: %s", code, stderr)
	}
	payments() // the sandbox delivers them again and again
	late, _ := background(t, "receive", "--config", confs[2])
	await(t, func() bool { return c.box.Acknowledged() == int64(len(sent)) })
	terminate(t, late)
	if out, err := billdrop(t, "run", "--once", "--config", confs[0]).CombinedOutput(); err != nil {
		t.Fatalf("run --once: %v: %s", err, out)
	}
	reports := paymentLines(t, c.box)
	eachOnce(t, sent, reports)
	if left, _ := filepath.Glob(c.box.Path("payments/.*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Logf("%d events, %d reports", len(sent), len(reports))
}

// eachOnce fails t unless each event is in one report, with its amount and a bill.
func eachOnce(t *testing.T, sent map[string]int64, reports map[string][][]string) {
	t.Helper()
	seen := map[string]int{}
	for name, records := range reports {
		for _, r := range records {
			seen[r[1]]++
			if want, there := sent[r[1]]; !there || r[6] != fmt.Sprint(want) || seen[r[1]] > 1 || r[8] == "" {
				t.Errorf("%s: %v; amount %d, seen %d times", name, r, want, seen[r[1]])
			}
		}
	}
	if len(seen) != len(sent) {
		t.Errorf("%d events, %d in reports", len(sent), len(seen))
	}
}

// event delivers a signed event, and expects that it is recorded.
func event(t *testing.T, address, secret, body string) {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := signer.Sign("msg_1", now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/webhooks/"+sandbox.User, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("webhook-id", "msg_1")
	req.Header.Set("webhook-timestamp", fmt.Sprint(now.Unix()))
	req.Header.Set("webhook-signature", signature)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("an event is answered %d", res.StatusCode)
	}
}

// TestLedgerCopyTakesPayments: after a copy into PostgreSQL the same payments are listed, none is
// reported again, and what comes is.
func TestLedgerCopyTakesPayments(t *testing.T) {
	t.Parallel()
	c := newPayingCluster(t, pgtest.Start(t), 1, emulator.Config{Seed: 1}, emulator.HookConfig{})
	database := c.configAt("a", 0)
	file := reworded(t, c.box, "file.yaml", c.front, c.backends[0])
	o := newOutside(t)
	sent := map[string]int64{}
	receive := func(conf string, amount int64) {
		receiver, _ := background(t, "receive", "--config", conf)
		listens(t, c.backends[0])
		sent[pay(t, c.box, "INV-00001", amount, emulator.AsAccount)] = amount
		await(t, func() bool { return c.box.Acknowledged() == int64(len(sent)) })
		terminate(t, receiver)
	}
	drop(t, c.box, "bills.csv", string(numberedBills(3)))
	o.say(0, "run", "--once", "--config", file)
	receive(file, 10)
	o.say(0, "run", "--once", "--config", file)
	receive(file, 20) // in no report yet
	copied := o.say(0, "ledger", "copy", "sqlite:"+c.box.Path("ledger.db"), c.database, "--config", database)
	if !bytes.Contains(copied.stdout, []byte("and 2 payments")) {
		t.Errorf("copied: %s", copied.stdout)
	}
	before := o.say(0, "payments", "--output", "json", "--config", file).stdout
	if after := o.say(0, "payments", "--output", "json", "--config", database).stdout; !bytes.Equal(before, after) || !bytes.Contains(after, []byte("INV-00001")) {
		t.Errorf("payments before:\n%s\nafter:\n%s", before, after)
	}
	receive(database, 30)
	await(t, func() bool { // a report a second at most
		o.say(0, "run", "--once", "--config", database)
		return len(paymentLines(t, c.box)) == 2
	})
	eachOnce(t, sent, paymentLines(t, c.box))
}
