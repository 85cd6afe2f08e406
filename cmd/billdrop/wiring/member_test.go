package wiring

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
)

// others are values of keys that have to be among a few, which set in place of the default.
var others = map[string]string{
	"amounts": "major", "delimiter": ";", "decimal_separator": ",", "short_rows": "blank", "total_row": "allow",
}

// TestFormatKeysAreTheFingerprint: for each key of a feed, the values that a worker joins with
// differ if and only if files are read in another way, and the key is the one that is named.
func TestFormatKeysAreTheFingerprint(t *testing.T) {
	base := config.DefaultFeed()
	base.Amounts = "minor"
	format, keys := Format(&base), formatKeys(&base)
	found := []string{}
	fields := reflect.TypeFor[config.Feed]()
	for i := range fields.NumField() {
		feed := base
		key := fields.Field(i).Tag.Get("yaml")
		switch v := reflect.ValueOf(&feed).Elem().Field(i); v.Kind() {
		case reflect.String:
			v.SetString("x")
			if other := others[key]; other != "" {
				v.SetString(other)
			}
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
		case reflect.Struct: // api, hold and expect say nothing about rows
			continue
		default:
			t.Fatalf("%s is a %s: teach this test to set one", key, v.Kind())
		}
		now, differ := formatKeys(&feed), []string{}
		for name := range now {
			if now[name] != keys[name] {
				differ = append(differ, name)
			}
		}
		other := Format(&feed).Fingerprint() != format.Fingerprint() || key == "merchant"
		switch {
		case other && !slices.Equal(differ, []string{key}):
			t.Errorf("%s: %v differ", key, differ)
		case !other && len(differ) > 0:
			t.Errorf("%s does not say how rows are read, and %v differ", key, differ)
		case other:
			found = append(found, key)
		}
	}
	if len(found) != len(keys)-2 { // all but those of api
		t.Errorf("only %v were changed, of %v", found, slices.Sorted(maps.Keys(keys)))
	}
	base.API.Live = true
	if formatKeys(&base)["api.live"] == keys["api.live"] {
		t.Error("test and live are the same")
	}
	base.API.BaseURL = "https://elsewhere.example.com"
	if formatKeys(&base)["api.base_url"] == keys["api.base_url"] {
		t.Error("two addresses of the API are the same")
	}
}

func TestMember(t *testing.T) {
	c := config.Default()
	c.Worker.Name = "east"
	c.Feeds = []config.Feed{config.DefaultFeed()}
	c.Feeds[0].Name = "bills"
	if m := Member(&c, ingest.RoleRun); m.Name != "east" || m.LostAfter != c.Worker.LostAfter || len(m.Formats["bills"]) == 0 {
		t.Errorf("%+v", m)
	}
	if m := Member(&c, ingest.RoleCommand); m.Name != "" {
		t.Errorf("a command has the worker's name %s, so it could not run beside it", m.Name)
	}
}
