package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestPlaceIsMasked: no spelling of a place shows a password.
func TestPlaceIsMasked(t *testing.T) {
	for text, want := range map[string]string{
		"sqlite:/var/lib/ledger.db":                           "/var/lib/ledger.db",
		"postgres://billdrop@db.example.com/billdrop":         "postgres://billdrop@db.example.com/billdrop",
		"postgres://billdrop:S3CRET@db/billdrop":              "postgres://billdrop:***@db/billdrop",
		"postgres://u:S3CRET%21%40@db:5433/x?sslmode=require": "postgres://u:***@db:5433/x?sslmode=require",
		"postgresql://u@a,b:5433/x?password=S3CRET":           "postgresql://u@a,b:5433/x?password=***",
		"postgres://:S3CRET@db/x":                             "postgres://:***@db/x",
		"postgres://u@db/x?sslpassword=S3CRET&sslcert=c":      "postgres://u@db/x?sslcert=c&sslpassword=***",
	} {
		p, err := ParsePlace(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if p.String() != want {
			t.Errorf("%s is shown as %s, want %s", text, p, want)
		}
		for _, form := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if shown := fmt.Sprintf(form, p); strings.Contains(shown, "S3CRET") {
				t.Errorf("%s: %s", form, shown)
			}
		}
		if p.Shared() && p.URL() != text {
			t.Errorf("the engine gets %s", p.URL())
		}
	}
}
