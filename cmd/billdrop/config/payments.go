package config

import (
	"errors"
	"net"
	"slices"
	"time"

	"billdrop/client"
	"billdrop/ingest/ledger"
	"billdrop/ingest/payments"
)

// Webhooks is where the events of payments are received.
type Webhooks struct {
	Listen   string `yaml:"listen"`    // host:port; "" = nowhere
	CertFile string `yaml:"cert_file"` // PEM; needed unless Listen is a loopback address
	KeyFile  string `yaml:"key_file"`  // PEM, of the certificate
}

// Receiver is a merchant whose events are received.
type Receiver struct {
	ledger.Scope
	Secrets *client.Webhooks
}

// Receivers reads the webhook secrets of all merchants that have one, and returns all errors at
// once. If there are none, it checks the key of the certificate, too.
func (c *Config) Receivers() ([]Receiver, error) {
	var all []Receiver
	var wrong []error
	for i := range c.Feeds {
		f := &c.Feeds[i]
		if f.API.WebhookSecretFile == "" || slices.ContainsFunc(all, func(r Receiver) bool { return r.Merchant == f.Merchant }) {
			continue
		}
		r := Receiver{Scope: f.Scope()}
		text, err := ReadSecret("api.webhook_secret_file", f.API.WebhookSecretFile)
		if err == nil {
			r.Secrets, err = client.ParseWebhookSecrets(text)
			var own *client.Error
			if errors.As(err, &own) {
				err = refuse(own.Hint, "api.webhook_secret_file: %s %s", f.API.WebhookSecretFile, own.Problem)
			}
		}
		all, wrong = append(all, r), append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return all, err
	}
	return all, CheckSecret("webhooks.key_file", c.Webhooks.KeyFile)
}

// PaymentSchedule is when the feed's merchant gets its payment reports. The configuration was
// checked.
func (f *Feed) PaymentSchedule() payments.Schedule {
	s, _ := payments.ParseSchedule(f.PaymentsEvery, f.zone())
	return s
}

// zone is the zone of Timezone, this machine's if there is none or it is not known.
func (f *Feed) zone() *time.Location {
	zone, err := Expect{Timezone: f.Timezone}.Zone()
	if err != nil {
		return time.Local
	}
	return zone
}

func (k *checker) checkWebhooks() {
	w := &k.config.Webhooks
	if w.CertFile != "" && w.KeyFile == "" {
		k.problem("webhooks.cert_file", "needs key_file; name the certificate's key there")
	}
	if w.KeyFile != "" && w.CertFile == "" {
		k.problem("webhooks.key_file", "needs cert_file; name the key's certificate there")
	}
	switch host, port, err := net.SplitHostPort(w.Listen); {
	case w.Listen == "" && k.needs.Webhooks:
		k.problem("webhooks.listen", "is missing; write the address at which events are received, such as \"127.0.0.1:8081\" behind a TLS proxy")
	case w.Listen == "":
	case err != nil || port != "0" && !client.ValidPort(port):
		k.problem("webhooks.listen", "is not valid; write an address with a port, such as \"127.0.0.1:8081\"")
	case w.CertFile == "" && !client.IsLoopback(host):
		k.problem("webhooks.listen", "is not a loopback address, so it needs cert_file and key_file; or write \"127.0.0.1:%s\", and put a TLS proxy in front", port)
	}
	first := map[string]int{}
	secret := false
	for i := range k.config.Feeds {
		f := &k.config.Feeds[i]
		secret = secret || f.API.WebhookSecretFile != ""
		j, seen := first[f.Merchant]
		if !seen {
			first[f.Merchant] = i
			continue
		}
		other := &k.config.Feeds[j]
		if other.API.Live != f.API.Live && (other.API.WebhookSecretFile != "" || f.API.WebhookSecretFile != "") {
			k.problem(join(feedPath(i), "merchant"), "has a live and a test key (%s), and webhooks cannot tell which is meant; give test bills a merchant of their own", feedPath(j))
		}
		if other.Payments != f.Payments {
			k.problem(join(feedPath(i), "payments"), "differs from that of %s though both have the same merchant; write the same directory for both", feedPath(j))
		}
		if other.PaymentsEvery != f.PaymentsEvery {
			k.problem(join(feedPath(i), "payments_every"), "differs from that of %s though both have the same merchant; write the same for both", feedPath(j))
		}
	}
	if w.Listen != "" && !secret {
		k.problem("api.webhook_secret_file", "is missing; write the path of a file that holds the webhook secret (whsec_…), which Moment hands out")
	}
}

// checkPayments checks when a feed's merchant gets payment reports.
func (k *checker) checkPayments(at string, f *Feed) {
	if _, err := (Expect{Timezone: f.Timezone}).Zone(); err != nil {
		k.problem(join(at, "timezone"), "is not a known time zone; write its IANA name, such as \"Africa/Johannesburg\" or \"UTC\", or leave it out for this machine's")
	}
	if _, err := payments.ParseSchedule(f.PaymentsEvery, f.zone()); err != nil {
		k.problem(join(at, "payments_every"), "is not valid; write a duration of at least 1s, such as 1h, or a time of day, such as \"daily 06:00\"")
	}
}
