package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const secret = "sk_test_CANARY0123456789"

func TestParseKey(t *testing.T) {
	for _, tc := range []struct {
		in, mode string // mode "": refused
	}{
		{secret, "test"},
		{"  " + secret + "\r\n", "test"},
		{"sk_abcDEF", "live"},
		{"sk_live_abc", "live"},
		{"", ""},
		{" \n", ""},
		{"sk_", ""},
		{"sk_test_", ""},
		{"pk_test_CANARY", ""},
		{"pk_CANARY", ""},
		{"CANARY", ""},
		{"SK_TEST_CANARY", ""},
		{"Bearer sk_test_CANARY", ""},
		{"sk_test_CANARY\nsk_test_CANARY", ""},
		{"sk_test_CAN ARY", ""},
		{"sk_test_CANARYé", ""},
		{"sk_test_CANARY\x00", ""},
		{"sk_test_" + strings.Repeat("CANARY", 200), ""},
	} {
		k, err := ParseKey(tc.in)
		switch {
		case tc.mode == "" && err == nil:
			t.Errorf("ParseKey(%q): accepted", tc.in)
		case tc.mode == "" && k != "":
			t.Errorf("ParseKey(%q): a key in spite of the error %q", tc.in, err)
		case tc.mode == "":
			checkError(t, tc.in, err, "API key ")
		case err != nil:
			t.Errorf("ParseKey(%q): %v", tc.in, err)
		case k.Mode() != tc.mode || string(k) != strings.TrimSpace(tc.in):
			t.Errorf("ParseKey(%q): mode %s", tc.in, k.Mode())
		}
	}
}

// TestWrongKey: the second request of a check has a key that is nobody's, and all else the
// same. What answers both alike does not look at the key.
func TestWrongKey(t *testing.T) {
	var keys []string
	looks := true
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Authorization"))
		status := 404
		if looks && keys[len(keys)-1] != "Bearer "+secret {
			status = 401
		}
		w.WriteHeader(status)
	})
	c := newClient(t, Config{BaseURL: s.URL})
	want(t, c.GetBill(t.Context(), "B-1"), Absent, "404")
	want(t, c.GetBillWithWrongKey(t.Context(), "B-1"), KeyRefused, "401")
	looks = false
	want(t, c.GetBillWithWrongKey(t.Context(), "B-1"), Absent, "404")
	if !slices.Equal(keys, []string{"Bearer " + secret, "Bearer sk_test_CANARY012345~~~~", "Bearer sk_test_CANARY012345~~~~"}) {
		t.Errorf("sent %q", keys)
	}
	for in, changed := range map[Key]string{"sk_test_abc": "sk_test_~~~", "sk_a": "sk_~", "sk_live_abcdef": "sk_live_ab~~~~"} {
		if got := string(in.changed()); got != changed {
			t.Errorf("%q, want %q", got, changed)
		}
	}
}

// TestKeyIsNeverPrinted: no way of printing a key, or what holds one, shows it.
func TestKeyIsNeverPrinted(t *testing.T) {
	key, err := ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{BaseURL: "https://api.example.com", Key: key}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, v := range []any{key, &key, cfg, &cfg, c, []Key{key}, map[string]Key{"k": key}, struct{ K any }{key}} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%10s", "%T"} {
			fmt.Fprintf(&out, verb, v)
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		for _, form := range []string{"CANARY", fmt.Sprintf("%x", "CANARY"), fmt.Sprintf("%X", "CANARY"), fmt.Sprintf("% x", "CANARY"), "67 65 78"} {
			if strings.Contains(out.String(), form) {
				t.Errorf("the key shows as %q of a %T", form, v)
			}
		}
		all.Write(out.Bytes())
	}
	if !strings.Contains(all.String(), "sk_test_[redacted]") {
		t.Error("the placeholder is nowhere")
	}
	if got := Key("sk_abc").String(); got != "sk_[redacted]" {
		t.Errorf("a live key prints as %s", got)
	}
}
