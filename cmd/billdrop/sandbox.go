package main

import (
	"context"
	"errors"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
)

type sandboxCmd struct {
	Dir           string        `placeholder:"DIR" default:"${defaultSandbox}" help:"Directory to serve and to keep keys, ledger and reports in (default: ./billdrop-sandbox)."`
	SFTPAddr      string        `name:"sftp-addr" placeholder:"ADDR" default:"127.0.0.1:2222" help:"Loopback address of the SFTP server; port 0 takes a free one (default: 127.0.0.1:2222)."`
	APIAddr       string        `name:"api-addr" placeholder:"ADDR" default:"127.0.0.1:8022" help:"Loopback address of the Billing API; port 0 takes a free one (default: 127.0.0.1:8022)."`
	Latency       time.Duration `placeholder:"TIME" default:"0s" help:"How long the API takes to answer, such as 50ms (default: 0s)."`
	FaultRate     float64       `placeholder:"RATE" default:"0" help:"Share of requests that fail in some way, 0 to 1 (default: 0)."`
	Seed          uint64        `placeholder:"N" default:"1" help:"Which requests fail, and how: the same seed, the same faults (default: 1)."`
	RateLimit     int           `placeholder:"N" default:"0" help:"Requests per second above which the API answers 429; 0 = no limit (default: 0)."`
	WebhookURL    string        `name:"webhook-url" placeholder:"URL" help:"Where the events of payments are delivered, such as http://127.0.0.1:8081/webhooks/sandbox (default: nowhere)."`
	WebhookSecret string        `name:"webhook-secret" placeholder:"SECRET" help:"Secret with which they are signed, whsec_ and base64 (default: one that is in webhook.secret)."`
	WebhookFaults []string      `name:"webhook-faults" placeholder:"FAULTS" help:"What goes wrong with them: twice, late, out-of-order, separated by commas (default: nothing)."`
	ExistingParty string        `enum:"conflict,reuse" default:"conflict" help:"What the API does with a new customer or account whose reference exists: conflict (refuse) or reuse."`
}

func (sandboxCmd) Help() string {
	return `Both servers listen on loopback only. The directory gets a ready config.yaml, keys and a sample file; the output says what to try. The sandbox serves until it is interrupted. The API starts empty each time, and so does the ledger; archive and reports are kept.

A bill is paid with: curl -d '{"bill":"RATES-2611-000101","amount":2000,"as":"bill_id"}' http://127.0.0.1:8022/_sandbox/pay. Without an amount, all that remains is paid; as is bill_id, account_id, customer_id or payment_request.

Example: billdrop sandbox --latency 50ms --fault-rate 0.1`
}

// Run serves until ctx is cancelled.
func (c *sandboxCmd) Run(ctx context.Context, s *session) error {
	if c.FaultRate < 0 || c.FaultRate > 1 || c.Latency < 0 || c.RateLimit < 0 {
		return usagef("--fault-rate is not between 0 and 1, or --latency or --rate-limit is negative").Hint("see billdrop sandbox --help")
	}
	hooks, err := c.hooks()
	if err != nil {
		return err
	}
	box, err := sandbox.Open(ctx, sandbox.Options{
		Dir: c.Dir, SFTPAddr: c.SFTPAddr, APIAddr: c.APIAddr, Settle: time.Second,
		Hooks: hooks,
		API: emulator.Config{
			Latency: c.Latency, FaultRate: c.FaultRate, Seed: c.Seed, RateLimit: c.RateLimit, ExistingParty: c.ExistingParty,
		},
	})
	if err != nil {
		return err
	}
	if err := s.print(box.Document(), box.Introduction); err != nil {
		return errors.Join(err, box.Close())
	}
	<-ctx.Done()
	return errors.Join(context.Cause(ctx), box.Close())
}

// hooks returns where the events of payments go, and what goes wrong with them.
func (c *sandboxCmd) hooks() (emulator.HookConfig, error) {
	h := emulator.HookConfig{URL: c.WebhookURL, Secret: c.WebhookSecret, Seed: c.Seed}
	for _, fault := range c.WebhookFaults {
		switch fault {
		case "twice":
			h.Twice = true
		case "late":
			h.Late = true
		case "out-of-order":
			h.OutOfOrder = true
		default:
			return h, usagef("--webhook-faults has %q", fault).Hint("write twice, late, out-of-order, or some of them with commas between")
		}
	}
	return h, nil
}
