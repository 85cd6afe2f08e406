// Command billdrop picks bill files up from an SFTP directory, validates every row,
// creates one bill per row through Moment's Billing API, exactly once, and writes a
// report back.
//
// This package is the wiring: command line, output, and from typed errors to documented
// exit codes. Standard output gets what was asked for: tables, or one JSON document with
// --output json. Standard error gets log lines and messages, which begin with "error:",
// "warning:" or "hint:". Only main ends the process.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // for expect.timezone, on systems without zones

	"billdrop/cmd/billdrop/console"
)

// memoryLimit is what the Go runtime aims to stay under, in bytes. The ledger's engine
// has memory of its own.
const memoryLimit = 72 << 20

func main() {
	// net/http logs answers that it did not expect, through package log. They may contain
	// the key and personal data.
	log.SetOutput(io.Discard)
	// Garbage may grow to four times the live data, which is little, but not beyond what a
	// small machine has. GOGC and GOMEMLIMIT in the environment take precedence.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	os.Exit(start())
}

// start runs the command line under a context that the first SIGINT or SIGTERM cancels.
// This is the soft stop: requests in flight are answered and recorded. A second signal
// ends the process at once.
func start() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	over, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		select {
		case <-over:
			return
		case s := <-signals:
			cancel(&signalError{s.(syscall.Signal)})
		}
		select {
		case <-over:
		case s := <-signals:
			os.Exit(exitSignal + int(s.(syscall.Signal)))
		}
	}()
	code := run(ctx, os.Args[1:], &session{
		stdin: os.Stdin, stdout: os.Stdout, screen: console.New(os.Stderr), env: os.LookupEnv,
	})
	signal.Stop(signals)
	close(over)
	<-joined
	cancel(nil)
	return code
}

// run is the program without the process around it. It returns the exit code.
func run(ctx context.Context, args []string, s *session) int {
	err := dispatch(ctx, args, s)
	code := exitCode(ctx, err)
	switch {
	case code == exitDone || code == exitAttention: // the output is complete
	case code > exitSignal:
		if !errors.Is(err, context.Canceled) {
			s.screen.Error(err.Error()) // it failed for another reason, too
		}
		s.screen.Warnf("%s; safe to run again, nothing that was done is done twice", context.Cause(ctx))
	default:
		s.screen.Error(err.Error(), hints(err, code)...)
	}
	return code
}
