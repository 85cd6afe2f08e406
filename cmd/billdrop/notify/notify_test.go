//go:build unix

package notify

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"billdrop/ingest/ledger"
	"billdrop/ingest/report"
)

// script writes a shell script and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "command")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// newTest returns an impatient notifier for one feed, and its log.
func newTest(limit time.Duration, command ...string) (*Notifier, *bytes.Buffer) {
	log := new(bytes.Buffer)
	n := &Notifier{
		log:      slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		commands: map[string][]string{"bills": command}, env: os.Environ(),
		limit: limit, grace: 100 * time.Millisecond, closeTime: time.Minute,
	}
	n.start()
	return n, log
}

func TestSummaryOnStandardInput(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	n, log := newTest(time.Minute, script(t, `cat > "$1"; echo CANARY; echo CANARY >&2`), out)
	s := report.Summary{Feed: "bills", File: "a.csv", FileID: "id-1", Outcome: ledger.Completed}
	n.Finished(s)
	n.Finished(report.Summary{Feed: "another", FileID: "id-2"})
	n.Close()
	got, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(got, s.Bytes()) {
		t.Errorf("%v: the command got\n%s\nwant\n%s", err, got, s.Bytes())
	}
	if strings.Contains(log.String(), "CANARY") || strings.Contains(log.String(), "WARN") {
		t.Errorf("log: %s", log)
	}
}

// A failure is one line in the log, without what the command printed.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		command []string
		want    string
	}{
		"status":    {[]string{script(t, "echo CANARY >&2; exit 3")}, `status="exit status 3"`},
		"signal":    {[]string{script(t, "kill -9 $$")}, `status="signal: killed"`},
		"gone":      {[]string{"/nowhere/to/be/found"}, "on_finish could not be run"},
		"no reader": {[]string{script(t, "exit 0")}, "on_finish done"},
		"too long":  {[]string{"sleep", "600"}, "on_finish took too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if name == "too long" {
				limit = 50 * time.Millisecond
			}
			n, log := newTest(limit, c.command...)
			n.Finished(report.Summary{Feed: "bills", FileID: "id-1"})
			n.Close()
			if !strings.Contains(log.String(), c.want) || strings.Contains(log.String(), "CANARY") {
				t.Errorf("log: %s, want %s", log, c.want)
			}
		})
	}
}

// A command that ignores SIGTERM is killed, with all that it has started.
func TestKillsTheGroup(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	n, log := newTest(time.Hour, script(t, `trap '' TERM; (trap '' TERM; sleep 600) & echo $$ $! > "$1"; wait; wait`), pids)
	n.closeTime = time.Millisecond
	n.Finished(report.Summary{Feed: "bills", FileID: "id-1"})
	for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		if b, err := os.ReadFile(pids); err == nil && bytes.HasSuffix(b, []byte("\n")) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the command does not run")
		}
	}
	n.Close()
	if !strings.Contains(log.String(), "on_finish took too long") {
		t.Errorf("log: %s", log)
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(b))
	if len(words) != 2 {
		t.Fatalf("the command wrote %q", b)
	}
	for _, word := range words {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); alive(pid); {
			if time.Now().After(deadline) {
				t.Fatalf("process %d is still alive", pid)
			}
			<-time.After(time.Millisecond)
		}
	}
}

// alive reports whether a process runs. A zombie does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// Commands that hang do not keep Close longer than closeTime, and skipped files are logged.
func TestCloseEndsCommands(t *testing.T) {
	n, log := newTest(time.Hour, "sleep", "600")
	n.closeTime = 200 * time.Millisecond
	const files = maxWaiting + atOnce + 50
	for i := range files {
		n.Finished(report.Summary{Feed: "bills", FileID: fmt.Sprintf("id-%04d", i)})
	}
	n.Close()
	n.Finished(report.Summary{Feed: "bills", FileID: "after"}) // comes too late, and breaks nothing
	ended, untold := strings.Count(log.String(), "on_finish took too long"), strings.Count(log.String(), "on_finish was not run")
	if ended+untold != files+1 || untold < 50 || !strings.Contains(log.String(), "file_id=id-1077") {
		t.Errorf("%d commands were ended and %d not run, of %d", ended, untold, files)
	}
}
