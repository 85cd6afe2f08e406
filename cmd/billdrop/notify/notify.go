// Package notify runs the operator's on_finish command for each file that is finished or
// held.
package notify

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/report"
)

const (
	// commandTime is how long a command may run. Then it gets SIGTERM, and after
	// commandGrace SIGKILL.
	commandTime  = 30 * time.Second
	commandGrace = 5 * time.Second
	// atOnce is how many commands run at a time, and maxWaiting how many files may wait for
	// one. A command that hangs must not fill the memory of a worker.
	atOnce     = 4
	maxWaiting = 1024
	// closeTime is how long Close waits for the commands.
	closeTime = 60 * time.Second
)

// Notifier runs commands beside the work. Neither their output nor their failure affects
// it; a failure is logged. Finished may be called concurrently. A nil Notifier runs none.
type Notifier struct {
	log       *slog.Logger
	commands  map[string][]string // by feed
	env       []string
	limit     time.Duration // commandTime; shorter in tests, as are the next two
	grace     time.Duration // commandGrace
	closeTime time.Duration
	waiting   chan report.Summary
	running   sync.WaitGroup
	ctx       context.Context // ends the commands that run
	stop      context.CancelFunc

	mu     sync.Mutex
	closed bool
}

// New returns a notifier for the feeds that have a command; nil if none has. The caller
// closes it.
func New(log *slog.Logger, c *config.Config) *Notifier {
	commands := make(map[string][]string)
	for i := range c.Feeds {
		if f := &c.Feeds[i]; len(f.OnFinish) > 0 {
			commands[f.Name] = f.OnFinish
		}
	}
	if len(commands) == 0 {
		return nil
	}
	n := &Notifier{
		log: log, commands: commands, env: config.WithoutKey(os.Environ()),
		limit: commandTime, grace: commandGrace, closeTime: closeTime,
	}
	n.start()
	return n
}

func (n *Notifier) start() {
	n.waiting = make(chan report.Summary, maxWaiting)
	// A signal that stops the work does not stop the commands for what was done.
	n.ctx, n.stop = context.WithCancel(context.Background())
	for range atOnce {
		n.running.Go(n.work)
	}
}

// Finished queues a file for the command of its feed, if it has one. It does not block.
func (n *Notifier) Finished(s report.Summary) {
	if n == nil || n.commands[s.Feed] == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		select {
		case n.waiting <- s:
			return
		default:
		}
	}
	n.skipped(s, "too many files wait for earlier commands to end: see why they take so long")
}

func (n *Notifier) skipped(s report.Summary, why string) {
	n.log.Warn("on_finish was not run for a file", "feed", s.Feed, "file", s.File, "file_id", s.FileID, "why", why)
}

// Close waits for the commands, up to closeTime, and ends those that still run.
func (n *Notifier) Close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	n.closed = true
	close(n.waiting)
	n.mu.Unlock()
	late := time.AfterFunc(n.closeTime, n.stop)
	n.running.Wait()
	late.Stop()
	n.stop()
}

// work runs commands until the queue is closed and empty.
func (n *Notifier) work() {
	for s := range n.waiting {
		if n.ctx.Err() != nil {
			n.skipped(s, "billdrop ends, and earlier commands took too long: see why they do")
			continue
		}
		n.run(s)
	}
}

// run runs the command for one file. The log line about a failure does not quote what the
// command printed, which may hold anything.
func (n *Notifier) run(s report.Summary) {
	command := n.commands[s.Feed]
	begun := time.Now() // before the time limit starts, so that "after" is not below it
	ctx, cancel := context.WithTimeout(n.ctx, n.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = n.env
	cmd.Stdin = bytes.NewReader(s.Bytes())
	cmd.WaitDelay = n.grace
	endGroup := ownGroup(cmd)
	log := n.log.With("feed", s.Feed, "file", s.File, "file_id", s.FileID, "command", filepath.Base(command[0]))
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		endGroup() // processes that it started, and those that ignore SIGTERM
		log.Warn("on_finish took too long and was ended; have it hand the work on and return",
			"after", time.Since(begun).Round(time.Millisecond))
	case errors.As(err, &exit):
		log.Warn("on_finish failed; to see why, run the command by hand with the summary.json of this file on standard input",
			"status", exit.ProcessState.String())
	case err != nil:
		log.Warn("on_finish could not be run; check that the command exists and is executable", "error", err)
	default:
		log.Debug("on_finish done", "after", time.Since(begun).Round(time.Millisecond))
	}
}
