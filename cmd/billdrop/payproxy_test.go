//go:build servers && unix

package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"billdrop/client/emulator"
	"billdrop/client/servertest"
	"billdrop/cmd/billdrop/sandbox"
)

// TestWebhooksThroughNginx delivers through nginx, with the directives that docs/payments.md gives:
// signatures hold, and what is too large is refused by nginx already.
func TestWebhooksThroughNginx(t *testing.T) {
	page := string(readAll(t, "../../docs/payments.md"))
	block := regexp.MustCompile(`(?s)location /webhooks/ \{\n(.*?)\n    \}`).FindStringSubmatch(page)
	if block == nil {
		t.Fatal("docs/payments.md has no location of nginx")
	}
	rules := regexp.MustCompile(`(?m)^ *proxy_.*$`).ReplaceAllString(block[1], "") // the test's own, which are the same
	box, conf, address := payingSite(t, emulator.HookConfig{})
	receiver, stderr := background(t, "receive", "--config", conf)
	listens(t, address)
	proxy := servertest.NewNginx(t, address, "", rules)
	hooks, err := emulator.NewHooks(emulator.HookConfig{URL: "http://" + proxy.Address + "/webhooks/" + sandbox.User, Secret: strings.TrimSpace(string(readAll(t, box.Path("webhook.secret")))), Twice: true})
	if err != nil {
		t.Fatal(err)
	}
	defer hooks.Close()
	for i := range 20 {
		hooks.Send(emulator.Event{ID: "evt_" + string(rune('a'+i)), Type: "obligation.amount_applied",
			Data: map[string]any{"id": "ob_1", "amount": 100, "currency": "ZAR", "payment_id": "pay_1", "bill_id": "bill_x"}})
	}
	hooks.Wait()
	if done, given, attempts := hooks.Counts(); done != 20 || given != 0 || attempts != 40 {
		t.Errorf("%d acknowledged, %d given up, %d deliveries: %s", done, given, attempts, stderr)
	}
	res, err := http.Post("http://"+proxy.Address+"/webhooks/"+sandbox.User, "application/json", bytes.NewReader(make([]byte, 100<<10)))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(text, []byte("nginx")) {
		t.Errorf("a large body: %d %s", res.StatusCode, text)
	}
	terminate(t, receiver)
	if _, err := os.Stat(box.Path("ledger.db-events")); err != nil {
		t.Error(err)
	}
}
