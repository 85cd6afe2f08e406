package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/report"
)

const (
	// tellTime is how long a command of on_finish may take, and tellGrace how long it has to end when it is told to (SIGTERM)
	// before it is killed.
	tellTime  = 30 * time.Second
	tellGrace = 5 * time.Second
	// tellAtOnce is how many such commands run beside each other, and tellWaiting how many files may wait to be told of: a
	// command that hangs must not fill the memory of a worker that goes on.
	tellAtOnce  = 4
	tellWaiting = 1024
	// tellLast bounds how long the end of the process waits for them all.
	tellLast = 60 * time.Second
)

// teller runs the operator's command for each file that has come to its end or is held. Commands run beside the work;
// nothing that they do or print comes back to it, but for a line in the log when one fails. finished may be called
// concurrently; close joins everything.
type teller struct {
	log      *slog.Logger
	commands map[string][]string // by feed
	env      []string
	limit    time.Duration // tellTime; tests are less patient, here and below
	grace    time.Duration // tellGrace
	last     time.Duration // tellLast
	waiting  chan report.Summary
	running  sync.WaitGroup
	ctx      context.Context // ends the commands that still run
	stop     context.CancelFunc

	mu     sync.Mutex
	closed bool
}

// newTeller returns nil where no feed has a command.
func newTeller(s *session, c *config.Config) *teller {
	commands := make(map[string][]string)
	for i := range c.Feeds {
		if f := &c.Feeds[i]; len(f.OnFinish) > 0 {
			commands[f.Name] = f.OnFinish
		}
	}
	if len(commands) == 0 {
		return nil
	}
	return startTeller(&teller{log: s.log, commands: commands, env: withoutKey(os.Environ()), limit: tellTime, grace: tellGrace, last: tellLast})
}

func startTeller(t *teller) *teller {
	t.waiting = make(chan report.Summary, tellWaiting)
	// A signal that stops the work does not stop the telling of what was done.
	t.ctx, t.stop = context.WithCancel(context.Background())
	for range tellAtOnce {
		t.running.Go(t.tell)
	}
	return t
}

// withoutKey is the environment but for the API key, which is no command's business.
func withoutKey(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.EqualFold(name, config.EnvAPIKey) // Windows does not tell case
	})
}

// finished has a file told of, if its feed has a command. It does not wait.
func (t *teller) finished(s report.Summary) {
	if t.commands[s.Feed] == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		select {
		case t.waiting <- s:
			return
		default:
		}
	}
	t.untold(s, "too many files wait for earlier commands to end: see why they take so long")
}

func (t *teller) untold(s report.Summary, why string) {
	t.log.Warn("on_finish was not run for a file", "feed", s.Feed, "file", s.File, "file_id", s.FileID, "why", why)
}

// close waits for the commands, a while, and ends those that still run then.
func (t *teller) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.closed = true
	close(t.waiting)
	t.mu.Unlock()
	late := time.AfterFunc(t.last, t.stop)
	t.running.Wait()
	late.Stop()
	t.stop()
}

// tell runs commands until there are no more files to tell of.
func (t *teller) tell() {
	for s := range t.waiting {
		if t.ctx.Err() != nil {
			t.untold(s, "billdrop ends, and earlier commands took too long: see why they do")
			continue
		}
		t.run(s)
	}
}

// run runs the command for one file. What goes wrong with it is logged, in words of ours: what it prints may hold anything.
func (t *teller) run(s report.Summary) {
	command := t.commands[s.Feed]
	begun := time.Now() // before its time begins, so that it never seems to have been ended too soon
	ctx, cancel := context.WithTimeout(t.ctx, t.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = t.env
	cmd.Stdin = bytes.NewReader(s.Bytes())
	cmd.WaitDelay = t.grace
	endGroup := ownGroup(cmd)
	log := t.log.With("feed", s.Feed, "file", s.File, "file_id", s.FileID, "command", filepath.Base(command[0]))
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		endGroup() // what it has started itself, and what did not listen
		log.Warn("on_finish took too long and was ended; have it hand the work on and return", "after", time.Since(begun).Round(time.Millisecond))
	case errors.As(err, &exit):
		log.Warn("on_finish failed; to see why, run the command by hand with the summary.json of this file on standard input", "status", exit.ProcessState.String())
	case err != nil:
		log.Warn("on_finish could not be run; check that the command is there and may be executed", "error", err)
	default:
		log.Debug("on_finish done", "after", time.Since(begun).Round(time.Millisecond))
	}
}
