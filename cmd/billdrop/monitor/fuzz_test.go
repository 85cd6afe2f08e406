package monitor

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/ledgertest"
	"billdrop/ingest/report"
	"billdrop/ingest/watch"
)

// FuzzRequest: whatever is asked for, the answer is one of a few, bounded, and without a raw
// control or format character.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{"/", "/files/f", "/files/", "/healthz", "/readyz", "/metrics", "/files/\x1b\u202e", "/../x", ""} {
		f.Add(path, "do=retry&from=-1", "localhost", "name\u202e\x1b.csv")
		f.Add(path, "refresh=off&do=%1b&from=99999999999999999999", "evil.example", "<script>")
	}
	f.Fuzz(func(t *testing.T, path, query, host, name string) {
		path = strings.TrimPrefix(path, "/")
		led := ledgertest.NewMemory()
		if err := led.AddFile(t.Context(), &ledger.File{ID: "f", Name: name, Feed: "bills", State: ledger.Held, Detail: name}); err != nil {
			t.Fatal(err)
		}
		h, _ := newSite(t, led, states{{Feed: "bills", Polled: time.Unix(1, 0), Failed: name, Remarks: []watch.Remark{{Kind: watch.Stranger, Name: name, Text: name}}}})
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		target, err := url.ParseRequestURI("/" + path + "?" + query) // as the server does
		if err != nil {
			return
		}
		r.URL, r.Host = target, host
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 301, 307, 400, 404, 421, 503:
		default:
			t.Errorf("status %d", w.Code)
		}
		if w.Body.Len() > 1<<20 {
			t.Errorf("%d bytes", w.Body.Len())
		}
		for _, c := range w.Body.String() {
			if c != '\n' && c != '\uFFFD' && report.Hidden(c) {
				t.Errorf("raw %U", c)
				return
			}
		}
	})
}
