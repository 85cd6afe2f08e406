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

// TestServersWebhooks delivers through nginx and Caddy, with the directives that
// docs/payments.md gives: signatures hold, and what is too large is refused, by nginx already.
func TestServersWebhooks(t *testing.T) {
	page := string(readAll(t, "../../docs/payments.md"))
	directives := func(pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindStringSubmatch(page)
		if found == nil {
			t.Fatalf("docs/payments.md has no %q", pattern)
		}
		return found[1]
	}
	for _, c := range []struct {
		name    string
		start   func(t *testing.T, address string) *servertest.Server
		refuses string // who refuses what is too large
	}{
		{"nginx", func(t *testing.T, address string) *servertest.Server {
			block := directives(`(?s)location /webhooks/ \{\n(.*?)\n    \}`)
			rules := regexp.MustCompile(`(?m)^ *proxy_.*$`).ReplaceAllString(block, "") // the test's own, which are the same
			return servertest.NewNginx(t, address, "", rules)
		}, "nginx"},
		{"caddy", func(t *testing.T, address string) *servertest.Server {
			block := directives(`(?s)bills\.example\.com \{\n(    handle .*?)\n\}`)
			if !strings.Contains(block, "127.0.0.1:8081") {
				t.Fatalf("the example leads elsewhere: %s", block)
			}
			return servertest.NewCaddy(t, strings.ReplaceAll(block, "127.0.0.1:8081", address))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			box, conf, address := payingSite(t, emulator.HookConfig{})
			receiver, stderr := background(t, "receive", "--config", conf)
			listens(t, address)
			proxy := c.start(t, address)
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
			if res.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(text, []byte(c.refuses)) {
				t.Errorf("a large body: %d %s", res.StatusCode, text)
			}
			if res, err = http.Get("http://" + proxy.Address + "/webhooks/" + sandbox.User); err != nil || res.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("GET: %v, %v", res, err)
			}
			_ = res.Body.Close()
			terminate(t, receiver)
			if _, err := os.Stat(box.Path("ledger.db-events")); err != nil {
				t.Error(err)
			}
		})
	}
}
