//go:build unix

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
	path := filepath.Join(t.TempDir(), "tell")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// telling is a teller for one feed, impatient, and its log.
func telling(t *testing.T, limit time.Duration, command ...string) (*teller, *bytes.Buffer) {
	log := new(bytes.Buffer)
	return startTeller(&teller{
		log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), commands: map[string][]string{"bills": command},
		env: os.Environ(), limit: limit, grace: 100 * time.Millisecond, last: time.Minute,
	}), log
}

func TestTellerGivesTheSummary(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	tell, log := telling(t, time.Minute, script(t, `cat > "$1"; echo CANARY; echo CANARY >&2`), out)
	s := report.Summary{Feed: "bills", File: "a.csv", FileID: "id-1", Outcome: ledger.Completed}
	tell.finished(s)
	tell.finished(report.Summary{Feed: "another", FileID: "id-2"})
	tell.close()
	got, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(got, s.Bytes()) {
		t.Errorf("%v: the command got\n%s\nwant\n%s", err, got, s.Bytes())
	}
	if strings.Contains(log.String(), "CANARY") || strings.Contains(log.String(), "WARN") {
		t.Errorf("log: %s", log)
	}
}

// What goes wrong with a command is a line in the log, without what it printed, and no more.
func TestTellerFailures(t *testing.T) {
	for name, c := range map[string]struct {
		command []string
		want    string
	}{
		"status":   {[]string{script(t, "echo CANARY >&2; exit 3")}, `status="exit status 3"`},
		"signal":   {[]string{script(t, "kill -9 $$")}, `status="signal: killed"`},
		"gone":     {[]string{"/nowhere/to/be/found"}, "on_finish could not be run"},
		"deaf":     {[]string{script(t, "exit 0")}, "on_finish done"},
		"too long": {[]string{"sleep", "600"}, "on_finish took too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if name == "too long" {
				limit = 50 * time.Millisecond
			}
			tell, log := telling(t, limit, c.command...)
			tell.finished(report.Summary{Feed: "bills", FileID: "id-1"})
			tell.close()
			if !strings.Contains(log.String(), c.want) || strings.Contains(log.String(), "CANARY") {
				t.Errorf("log: %s, want %s", log, c.want)
			}
		})
	}
}

// A command that does not listen to SIGTERM is killed, with all that it has started.
func TestTellerKillsTheGroup(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	tell, log := telling(t, time.Second, script(t, `trap '' TERM; (trap '' TERM; sleep 600) & echo $$ $! > "$1"; wait; wait`), pids)
	tell.finished(report.Summary{Feed: "bills", FileID: "id-1"})
	tell.close()
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
		await(t, func() bool { return !alive(pid) })
	}
}

// alive reports whether a process runs; one that is dead and that nobody has asked after does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// Commands that hang do not keep the process for longer than it waits for them, and files that nobody was told of are named.
func TestTellerEnds(t *testing.T) {
	tell, log := telling(t, time.Hour, "sleep", "600")
	tell.last = 200 * time.Millisecond
	const files = tellWaiting + tellAtOnce + 50
	for i := range files {
		tell.finished(report.Summary{Feed: "bills", FileID: fmt.Sprintf("id-%04d", i)})
	}
	tell.close()
	tell.finished(report.Summary{Feed: "bills", FileID: "after"}) // comes too late, and breaks nothing
	ended, untold := strings.Count(log.String(), "on_finish took too long"), strings.Count(log.String(), "on_finish was not run")
	if ended+untold != files+1 || untold < 50 || !strings.Contains(log.String(), "file_id=id-1077") {
		t.Errorf("%d commands were ended and %d not run, of %d", ended, untold, files)
	}
}

func TestWithoutKey(t *testing.T) {
	got := withoutKey([]string{"A=1", "BILLDROP_API_KEY=sk_test_x", "BILLDROP_API_KEYS=2", "billdrop_api_key=x"})
	if !slices.Equal(got, []string{"A=1", "BILLDROP_API_KEYS=2"}) {
		t.Errorf("%q", got)
	}
}
