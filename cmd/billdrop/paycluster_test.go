//go:build unix

package main

import (
	"fmt"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/ledger/postgres/pgtest"
)

// TestPaymentsInCluster: two workers on one PostgreSQL receive, and report, and one of them is killed
// now and then. Each event is in exactly one report.
func TestPaymentsInCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, pgtest.Start(t), emulator.Config{Seed: 1}, 2*time.Second)
	secret := emulator.NewHookSecret("0123456789abcdef01234567")
	dropped(t, c.box.Path("hook.secret"), secret)
	const workers, events = 2, 60
	var configs []string
	var hooks []*emulator.Hooks
	for i := range workers {
		address := "127.0.0.1:" + freePort(t)
		slot := fmt.Sprintf("w%d", i)
		configs = append(configs, c.config(slot, "", "", "feeds:\n  - name: bills\n", fmt.Sprintf(
			"webhooks: {listen: %q}\nfeeds:\n  - name: bills\n    payments: /payments\n    payments_every: 1s\n    api: {webhook_secret_file: %q}\n",
			address, c.box.Path("hook.secret"))))
		h, err := emulator.NewHooks(emulator.HookConfig{URL: "http://" + address + "/webhooks/" + sandbox.User, Secret: secret, Twice: true, Backoff: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Close)
		hooks = append(hooks, h)
	}
	lasting := c.run(configs[0], "")
	victim := c.run(configs[1], "")
	drop(t, c.box, "bills.csv", string(numberedBills(30)))
	await(t, func() bool { return len(summaries(t, c.box, "bills")) == 1 })
	sent := map[string]int64{}
	for n := range events {
		c.box.API.DeliverTo(hooks[n%workers])
		p, err := c.box.API.Pay(fmt.Sprintf("INV-%05d", n%30), int64(1+n), []string{emulator.AsBill, emulator.AsAccount}[n/30])
		if err != nil {
			t.Fatal(err)
		}
		sent[p.EventID] = int64(1 + n)
		if n%20 == 10 {
			victim.kill()
			victim = c.run(configs[1], "")
		}
	}
	lines := 0
	await(t, func() bool {
		lines = 0
		for _, records := range paymentLines(t, c.box) {
			lines += len(records)
		}
		return lines >= events
	})
	lasting.stop()
	victim.stop()
	seen := map[string]bool{}
	for name, records := range paymentLines(t, c.box) {
		for _, r := range records {
			if want, there := sent[r[1]]; !there || seen[r[1]] || r[6] != fmt.Sprint(want) || r[8] == "" {
				t.Errorf("%s: %v, want amount %d", name, r, want)
			}
			seen[r[1]] = true
		}
	}
	if len(seen) != events {
		t.Errorf("%d events, %d in reports", events, len(seen))
	}
}
