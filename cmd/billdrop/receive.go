package main

import (
	"context"
	"errors"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/wiring"
)

type receiveCmd struct{}

func (receiveCmd) Help() string {
	return `Receives the events of payments at webhooks.listen until it is interrupted, and does nothing else: for those who run "billdrop run --once" by cron, which reports what was received. Both use one ledger at the same time. A worker that stays ("billdrop run") receives by itself.

It needs webhooks.listen and api.webhook_secret_file in the configuration; "billdrop check" looks at both. Several may receive for one ledger, each at an address of its own.

Example: billdrop receive --config /etc/billdrop/config.yaml`
}

// Run receives until ctx is cancelled.
func (c *receiveCmd) Run(ctx context.Context, s *session) error {
	if s.json() {
		return usagef("receive has no JSON form, because it never completes a document").Hint("for log lines as JSON: --log-format json")
	}
	conf, err := loadConfig(s, config.Needs{Webhooks: true})
	if err != nil {
		return err
	}
	if err := conf.CheckRights(); err != nil {
		return describe.Misused(err)
	}
	reception, err := wiring.OpenReception(ctx, conf)
	if err != nil {
		return err
	}
	stop, failed, err := reception.Receive(ctx, s.kit(), conf)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		err = context.Cause(ctx)
	case err = <-failed:
	}
	return errors.Join(err, stop())
}
