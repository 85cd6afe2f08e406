package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

func TestMajorUnits(t *testing.T) {
	for _, c := range []struct {
		currency string
		minor    int64
		want     string
	}{
		{"ZAR", 0, "0.00"}, {"ZAR", 5, "0.05"}, {"ZAR", 2000, "20.00"}, {"ZAR", 123456789, "1,234,567.89"},
		{"ZAR", -150, "-1.50"}, {"JPY", 1500, "1,500"}, {"BHD", 1234, "1.234"}, {"???", 2000, "2,000"},
	} {
		if got := majorUnits(c.currency, c.minor); got != c.want {
			t.Errorf("%d minor units of %s are %s, want %s", c.minor, c.currency, got, c.want)
		}
	}
}

func TestShowFile(t *testing.T) {
	start := time.Date(2026, 11, 5, 6, 0, 0, 0, time.UTC)
	done := finished{where: "/results", Summary: report.Summary{
		File: "november.csv", Stem: "november-01234567", Outcome: ledger.CompletedWithErrors,
		Rows: report.Rows{Total: 1250, By: map[ledger.Status]int{ledger.Created: 1200, ledger.Existing: 48, ledger.Invalid: 2}},
		Amounts: report.Amounts{
			"ZAR": {ledger.Created: 12345600, ledger.Existing: 4800, ledger.Invalid: 0}, "USD": {ledger.Created: 99},
		},
		Requests: report.Requests{Posts: 1201, Gets: 1}, Parties: report.Parties{Customers: 3},
		StartedAt: report.At(start), FinishedAt: report.At(start.Add(1500 * time.Millisecond)),
	}}
	held := finished{where: "/results", Summary: report.Summary{
		File: "big.csv", FileID: "20261105-1", Stem: "big-89abcdef", Outcome: ledger.FileHeld, Code: "over_limit", Detail: "too many rows",
	}}
	refused := finished{where: "out", Summary: report.Summary{
		File: "x.csv", Stem: "x-00000000", Outcome: ledger.FileRejected, Code: "truncated", Detail: "no final line end", Line: 7,
	}}
	var b bytes.Buffer
	for _, f := range []finished{done, held, refused} {
		showFile(&b, f)
	}
	want := `november.csv: completed with errors, in 1.5s
  STATUS     ROWS   USD         ZAR
  created   1,200  0.99  123,456.00
  existing     48  0.00       48.00
  invalid       2  0.00        0.00
  total     1,250  0.99  123,504.00
  1,201 requests sent, 1 look-up; new: 3 customers, 0 accounts
  reports: /results/november-01234567.rejects.csv /results/november-01234567.results.csv /results/november-01234567.summary.json
big.csv: held (over_limit)
  too many rows
  nothing is sent until somebody approves file 20261105-1
x.csv: rejected (truncated)
  line 7: no final line end
  reports: out/x-00000000.summary.json
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(- want, + got)\n%s", diff)
	}
}

func TestExitCode(t *testing.T) {
	term, stop := context.WithCancelCause(t.Context())
	stop(&signalError{syscall.SIGTERM})
	interrupted, stop := context.WithCancelCause(t.Context())
	stop(&signalError{syscall.SIGINT})
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"done", t.Context(), nil, 0},
		{"attention", t.Context(), errAttention, 1},
		{"usage", t.Context(), usagef("x"), 2},
		{"configuration", t.Context(), usageError{&config.Errors{}}, 2},
		{"secret", t.Context(), fmt.Errorf("x: %w", config.ErrSecret), 2},
		{"stopped", t.Context(), fmt.Errorf("x: %w", delivery.ErrStopped), 3},
		{"ledger", t.Context(), fmt.Errorf("x: %w", ledger.ErrUnusable), 3},
		{"host key", t.Context(), fmt.Errorf("x: %w", inbox.ErrHostKey), 3},
		{"unforeseen", t.Context(), errors.New("x"), 3},
		{"locked", t.Context(), errors.Join(nil, fmt.Errorf("x: %w", ledger.ErrLocked)), 4},
		{"SIGTERM", term, context.Cause(term), 143},
		{"SIGTERM, told as a cancellation", term, fmt.Errorf("x: %w", context.Canceled), 143},
		{"SIGINT", interrupted, context.Cause(interrupted), 130},
		{"done when the signal came", term, nil, 0},
		{"done with findings when the signal came", term, errAttention, 1},
		{"locked when the signal came", term, ledger.ErrLocked, 4},
	} {
		if got := exitCode(c.ctx, c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.want)
		}
	}
}

// TestMessages: every line says what it is, and what stopped a run says what to do.
func TestMessages(t *testing.T) {
	var b bytes.Buffer
	c := &console{w: &b}
	c.errorf("%s", message(errors.Join(errors.New("one"), errors.New("two")), exitStopped))
	c.errorf("%s", message(errors.New("down; then run again"), exitStopped))
	c.errorf("%s", message(ledger.ErrLocked, exitLocked))
	c.warnf("odd")
	want := "error: one\nerror: two\nhint: put that right and run again; nothing that was done is done twice\n" +
		"error: down; then run again\n" +
		"error: another billdrop holds the lock of this ledger\nhint: wait for it to end, or stop it; two workers need a ledger each\n" +
		"warning: odd\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(- want, + got)\n%s", diff)
	}
}

// TestBarAndLogLines: a log line goes above the bar, whole, and the bar is gone at the end.
func TestBarAndLogLines(t *testing.T) {
	var b bytes.Buffer
	screen := &console{w: &b, terminal: true}
	s := &session{screen: screen, log: slog.New(slog.DiscardHandler)}
	p := newProgress(s)
	p.FileStarted(ingest.Started{ID: "1", Name: "bills.csv", Rows: 10})
	for range 5 {
		p.RowDone("1", ledger.Created)
	}
	p.drawBar()
	if got := taken(screen, &b); !strings.Contains(got, "bills.csv") || !strings.Contains(got, "5/10") || strings.Contains(got, "\n") {
		t.Errorf("the bar: %q", got)
	}
	fmt.Fprintln(screen, "a log line")
	if got := taken(screen, &b); !strings.HasPrefix(got, eraseLine+"a log line\n") || !strings.Contains(got, "5/10") {
		t.Errorf("a log line over a bar: %q", got)
	}
	p.FileStarted(ingest.Started{ID: "2", Name: "more.csv", Rows: 10})
	p.drawBar()
	if got := taken(screen, &b); !strings.Contains(got, "2 files") || !strings.Contains(got, "5/20") {
		t.Errorf("the bar of two files: %q", got)
	}
	for range 10 {
		p.RowDone("2", ledger.Created)
	}
	p.FileFinished("1", report.Summary{})
	p.drawBar()
	if got := taken(screen, &b); strings.Contains(got, "\n") {
		t.Errorf("a bar at its end starts a new line: %q", got)
	}
	p.FileFinished("2", report.Summary{})
	p.close()
	if got := taken(screen, &b); !strings.HasSuffix(got, eraseLine) {
		t.Errorf("the bar stays: %q", got)
	}
	fmt.Fprintln(screen, "done")
	if got := taken(screen, &b); got != "done\n" {
		t.Errorf("after the bar: %q", got)
	}
}

// taken is what was written since it was last asked.
func taken(c *console, b *bytes.Buffer) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer b.Reset()
	return b.String()
}

func TestShellWord(t *testing.T) {
	for path, want := range map[string]string{"/a/b.csv": "/a/b.csv", "/a b": "'/a b'", "/it's": `'/it'\''s'`, "$HOME": "'$HOME'"} {
		if got := shellWord(path); got != want {
			t.Errorf("%s becomes %s, want %s", path, got, want)
		}
	}
}
