package config

import (
	"testing"
	"time"
)

func TestPresenting(t *testing.T) {
	for _, c := range []struct {
		feed Feed
		want *Presenting
	}{
		{Feed{Present: "none", PresentExpires: "720h"}, nil},
		{Feed{Present: "payment_request", PresentExpires: "48h", Timezone: "UTC"}, &Presenting{Expires: 48 * time.Hour, Zone: time.UTC}},
		{Feed{Present: "payment_request", PresentExpires: "due_date", Timezone: "UTC"}, &Presenting{Expires: 720 * time.Hour, DueDate: true, Zone: time.UTC}},
	} {
		got := c.feed.Presenting()
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%+v: %+v, want %+v", c.feed, got, c.want)
		}
	}
}
