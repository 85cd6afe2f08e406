package monitor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/watch"
)

// readyTimeout bounds what a question for readiness waits for the ledger.
const readyTimeout = 3 * time.Second

// healthz answers 200 while the worker works.
func (v *view) healthz(w http.ResponseWriter, _ *http.Request) {
	if v.over.Load() {
		http.Error(w, "the worker has ended", http.StatusServiceUnavailable)
		return
	}
	plain(w, http.StatusOK, "ok\n")
}

// readyz answers 200 when the ledger can be read and every feed works, else 503, with a line for the ledger and each feed.
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

// ready reports whether a feed works, and what to tell of it. A first poll may take as long as the file that it found:
// a feed that sends rows has shown that it works.
func (v *view) ready(s watch.State) (ok bool, why string) {
	switch {
	case s.Failed != "":
		return false, oneLine(s.Failed)
	case s.Polled.IsZero() && v.files.busy(s.Feed):
		return true, "ok, its first poll is busy with a file"
	case s.Polled.IsZero():
		return false, "its first poll has not ended yet"
	}
	return true, "ok"
}

// oneLine joins the lines of an error.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // who asked has gone: nobody is left to be told
}

// goodPolls remembers each feed's latest good poll: the worker only tells of the latest. It may be used concurrently.
type goodPolls struct {
	mu sync.Mutex
	at map[string]time.Time
}

// latest is when the latest good poll of s's feed ended, as far as anybody has asked; zero: none has.
func (g *goodPolls) latest(s watch.State) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.Failed == "" && s.Polled.After(g.at[s.Feed]) {
		g.at[s.Feed] = s.Polled
	}
	return g.at[s.Feed]
}
