package console

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"billdrop/ingest"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// TestMessages: every line says what it is.
func TestMessages(t *testing.T) {
	var b bytes.Buffer
	c := New(&b)
	c.Error("one\ntwo", "do this", "and that\nas well")
	c.Error("three")
	c.Warnf("odd\n%s", "very odd")
	const want = "error: one\nerror: two\nhint: do this\nhint: and that\nhint: as well\n" +
		"error: three\nwarning: odd\nwarning: very odd\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

func TestColour(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, true}, {map[string]string{"NO_COLOR": "1"}, false}, {map[string]string{"NO_COLOR": ""}, true},
		{map[string]string{"TERM": "dumb"}, false}, {map[string]string{"TERM": "xterm"}, true},
	} {
		env := func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }
		if got := colour(env); got != c.want {
			t.Errorf("%v: %t", c.env, got)
		}
	}
}

// TestBarAndLogLines: a log line goes above the bar, whole, and the bar is gone at the end.
func TestBarAndLogLines(t *testing.T) {
	var b bytes.Buffer
	c := &Console{w: &b, terminal: true}
	p := NewProgress(c, slog.New(slog.DiscardHandler), true)
	p.FileStarted(ingest.Started{ID: "1", Name: "bills.csv", Rows: 10})
	for range 5 {
		p.RowDone("1", ledger.Created)
	}
	p.drawBar()
	if got := taken(c, &b); !strings.Contains(got, "bills.csv") || !strings.Contains(got, "5/10") || strings.Contains(got, "\n") {
		t.Errorf("the bar: %q", got)
	}
	fmt.Fprintln(c, "a log line")
	if got := taken(c, &b); !strings.HasPrefix(got, eraseLine+"a log line\n") || !strings.Contains(got, "5/10") {
		t.Errorf("a log line over a bar: %q", got)
	}
	p.FileStarted(ingest.Started{ID: "2", Name: "more.csv", Rows: 10})
	p.drawBar()
	if got := taken(c, &b); !strings.Contains(got, "2 files") || !strings.Contains(got, "5/20") {
		t.Errorf("the bar of two files: %q", got)
	}
	for range 10 {
		p.RowDone("2", ledger.Created)
	}
	p.FileFinished("1", report.Summary{})
	p.drawBar()
	if got := taken(c, &b); strings.Contains(got, "\n") {
		t.Errorf("a bar at its end starts a new line: %q", got)
	}
	p.FileFinished("2", report.Summary{})
	p.Close()
	if got := taken(c, &b); !strings.HasSuffix(got, eraseLine) {
		t.Errorf("the bar stays: %q", got)
	}
	fmt.Fprintln(c, "done")
	if got := taken(c, &b); got != "done\n" {
		t.Errorf("after the bar: %q", got)
	}
}

// taken returns what was written since the last call.
func taken(c *Console, b *bytes.Buffer) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer b.Reset()
	return b.String()
}
