package monitor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/watch"
)

// readyTimeout bounds how long /readyz waits for the ledger.
const readyTimeout = 3 * time.Second

// healthz answers 200 until the worker has ended.
func (v *view) healthz(w http.ResponseWriter, _ *http.Request) {
	if v.over.Load() {
		http.Error(w, "the worker has ended", http.StatusServiceUnavailable)
		return
	}
	plain(w, http.StatusOK, "ok\n")
}

// readyz answers 200 if the ledger can be read and every feed works, else 503. The body has a
// line for the ledger and one for each feed.
func (v *view) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	code := http.StatusOK
	var b strings.Builder
	line := func(what string, ok bool, why string) {
		if !ok {
			code = http.StatusServiceUnavailable
		}
		fmt.Fprintf(&b, "%s: %s\n", what, why)
	}
	if _, err := v.Ledger.Files(ctx, ledger.Query{Limit: 1}); err != nil {
		line("ledger", false, "it cannot be read; the log says why")
	} else {
		line("ledger", true, "ok")
	}
	for _, s := range v.Worker.Inboxes() {
		ok, why := v.ready(s)
		line("feed "+s.Feed, ok, why)
	}
	plain(w, code, b.String())
}

// ready reports whether a feed works, and why. A first poll takes as long as the files that it
// found, so a feed that sends rows counts as working.
func (v *view) ready(s watch.State) (ok bool, why string) {
	switch {
	case s.Failed != "":
		return false, cut(oneLine(s.Failed))
	case s.Polled.IsZero() && v.files.busy(s.Feed):
		return true, "ok, its first poll is busy with a file"
	case v.elsewhere(s):
		return true, "ok, another worker polls it"
	case s.Polled.IsZero():
		return false, "its first poll has not ended yet"
	}
	return true, "ok"
}

// elsewhere reports whether a feed is another worker's to poll, as far as this one knows: of
// those that share a ledger, one polls it, and the others stand by.
func (v *view) elsewhere(s watch.State) bool {
	return v.shared != nil && s.Failed == "" && s.Polled.IsZero()
}

// oneLine joins the lines of an error.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, visible(text)) // the client may have gone
}

// goodPolls records each feed's latest good poll. The worker reports only the latest poll. It
// may be used concurrently.
type goodPolls struct {
	mu sync.Mutex
	at map[string]time.Time
}

// latest is when the latest good poll of the feed ended, as far as a call saw it; zero if none
// did.
func (g *goodPolls) latest(s watch.State) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.Failed == "" && s.Polled.After(g.at[s.Feed]) {
		g.at[s.Feed] = s.Polled
	}
	return g.at[s.Feed]
}
