package config

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPaymentKeys: what is wrong about webhooks and payment reports is told with what to write.
func TestPaymentKeys(t *testing.T) {
	const head = "merchant: acme\nledger: sqlite:/l\nspool_dir: /s\n"
	const secret = "api: {key_file: /k, webhook_secret_file: /w}\n"
	const key = "api: {key_file: /k}\n"
	const feed = "feeds: [{name: a, amounts: minor}]\n"
	for _, c := range []struct{ text, want string }{
		{secret + "webhooks: {listen: \"127.0.0.1:8081\"}\n" + feed, ""},
		{secret + "webhooks: {listen: \"[::1]:8081\"}\n" + feed, ""},
		{secret + "webhooks: {listen: \"localhost:8081\"}\n" + feed, ""},
		{secret + "webhooks: {listen: \"0.0.0.0:8443\", cert_file: c.pem, key_file: k.pem}\n" + feed, ""},
		{key + "feeds: [{name: a, amounts: minor, payments: /payments, payments_every: \"daily 06:00\", timezone: Africa/Johannesburg}]\n", ""},
		{secret + "webhooks: {listen: \"0.0.0.0:8081\"}\n" + feed, "webhooks.listen: is not a loopback address"},
		{secret + "webhooks: {listen: \":8081\"}\n" + feed, "webhooks.listen: is not a loopback address"},
		{secret + "webhooks: {listen: \"8081\"}\n" + feed, "webhooks.listen: is not valid"},
		{secret + "webhooks: {listen: \"127.0.0.1:99999\"}\n" + feed, "webhooks.listen: is not valid"},
		{secret + "webhooks: {cert_file: c.pem}\n" + feed, "webhooks.cert_file: needs key_file"},
		{secret + "webhooks: {key_file: c.pem}\n" + feed, "webhooks.key_file: needs cert_file"},
		{key + "webhooks: {listen: \"127.0.0.1:8081\"}\n" + feed, "api.webhook_secret_file: is missing"},
		{"api: {key_file: /k, webhook_secret: CANARY}\n" + feed, "secrets never stand in this file"},
		{key + "feeds: [{name: a, amounts: minor, payments_every: 500ms}]\n", "payments_every: is not valid"},
		{key + "feeds: [{name: a, amounts: minor, payments_every: daily}]\n", "payments_every: is not valid"},
		{key + "feeds: [{name: a, amounts: minor, timezone: Africa/Jozi}]\n", "timezone: is not a known time zone"},
		{key + "feeds: [{name: a, amounts: minor, payments: /inbox}]\n", "payments: is the inbox of feeds[0] too"},
		{key + "feeds: [{name: a, amounts: minor, payments: /processing/}]\n", "payments: is the processing directory too"},
		{key + "feeds: [{name: a, amounts: minor, payments: \" \"}]\n", "payments: is not valid"},
		{key + "feeds: [{name: a, amounts: minor, payments: /p}, {name: b, amounts: minor, inbox: /b}]\n", "payments: differs from that of feeds[0]"},
		{key + "feeds: [{name: a, amounts: minor}, {name: b, amounts: minor, inbox: /b, payments_every: 2h}]\n", "payments_every: differs from that of feeds[0]"},
		{key + "feeds: [{name: a, amounts: minor, payments: /p}, {name: b, merchant: other, amounts: minor, inbox: /b}]\n", ""},
		{secret + "feeds: [{name: a, amounts: minor}, {name: b, amounts: minor, inbox: /b, api: {live: true, key_file: /l}}]\n", "has a live and a test key"},
	} {
		_, problems := parse([]byte(head+c.text), "/", noEnv, Needs{})
		text := ""
		for _, p := range problems {
			text += p.Key + ": " + p.What + "\n"
		}
		if (c.want == "") != (text == "") || !strings.Contains(text, c.want) || strings.Contains(text, "CANARY") {
			t.Errorf("%s%s\nwant %q", c.text, text, c.want)
		}
	}
	if _, problems := parse([]byte(head+secret+feed), "/", noEnv, Needs{Webhooks: true}); len(problems) != 1 || problems[0].Key != "webhooks.listen" {
		t.Errorf("receive without an address: %v", problems)
	}
}

// TestReceivers: a secret file is for its owner alone, and no message quotes what is in it.
func TestReceivers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "webhook.secret")
	good := "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef01234567"))
	for _, c := range []struct {
		content string
		mode    os.FileMode
		ok      bool
	}{
		{good + "\n", 0o600, true}, {"\ufeff" + good + "\r\n" + good + "\r\n", 0o600, true},
		{good, 0o644, false}, {"", 0o600, false}, {"CANARY", 0o600, false}, {good + "\nwhsec_CANARY!", 0o600, false},
	} {
		if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		conf := &Config{Feeds: []Feed{{Merchant: "acme", API: API{WebhookSecretFile: path}}, {Merchant: "acme", API: API{WebhookSecretFile: path}}, {Merchant: "none"}}}
		found, err := conf.Receivers()
		if (err == nil) != c.ok || c.ok && (len(found) != 1 || found[0].Merchant != "acme") || !c.ok && !errors.Is(err, ErrSecret) {
			t.Errorf("%q: %v, %v", c.content, found, err)
		}
		if err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("the message quotes the file: %v", err)
		}
	}
}
