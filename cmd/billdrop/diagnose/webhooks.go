package diagnose

import (
	"strings"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
)

// webhooks checks what the receiver of payment events needs, without listening: a worker may do so.
func (e *examiner) webhooks(conf *config.Config) {
	const check = "webhooks"
	receivers, err := conf.Receivers()
	switch {
	case err != nil:
		e.wrong(check, err)
	case conf.Webhooks.Listen == "" && len(receivers) > 0:
		e.report(check, Warning, "there is a webhook secret, and webhooks.listen is empty, so no events are received: write an address there")
	case conf.Webhooks.Listen != "":
		names := make([]string, len(receivers))
		for i, r := range receivers {
			names[i] = "/webhooks/" + r.Merchant
		}
		e.report(check, OK, "%s with a secret that can be used, to be received at %s: %s",
			describe.Count(len(receivers), "merchant"), conf.Webhooks.Listen, strings.Join(names, ", "))
	}
}
