// Command billdrop picks bill files up from an SFTP directory, validates every row, creates one bill per row
// through Moment's Billing API, exactly once, and writes a report back.
//
// This package is the wiring: command line, configuration, output, and from typed errors to documented exit
// codes. What is written where: standard output gets what was asked for (tables, or one JSON document with
// --output json); standard error gets log lines and messages, which start with "error:", "warning:" or
// "hint:". Nothing below main ends the process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // for expect.timezone where the system has no zones

	"github.com/alecthomas/kong"

	"billdrop/cmd/billdrop/config"
	"billdrop/ingest"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
)

// Exit codes, as the documentation promises them.
const (
	exitDone      = 0
	exitAttention = 1 // done, but some rows or files need attention
	exitUsage     = 2 // bad usage or configuration; nothing was touched
	exitStopped   = 3 // the work could not be done; safe to run again
	exitLocked    = 4 // another billdrop holds the ledger
	exitSignal    = 128
)

// errAttention ends a command that did its work but found something that a person has to look at. The output
// has said what; the error is only for the exit code.
var errAttention = errors.New("some rows or files need attention")

// usageError is a mistake in how billdrop was called or set up: nothing was touched.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// signalError is the cause with which a signal cancels the context.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string {
	name := e.signal.String()
	switch e.signal {
	case syscall.SIGINT:
		name = "SIGINT"
	case syscall.SIGTERM:
		name = "SIGTERM"
	}
	return "interrupted by " + name
}

// Is lets a caller that only knows contexts see a cancellation.
func (e *signalError) Is(target error) bool { return target == context.Canceled }

func main() {
	// net/http logs answers that it did not expect, through package log. They may contain
	// the key and personal data.
	log.SetOutput(io.Discard)
	// Memory stays flat whatever the size of a file: garbage may pile up to twice the little that lives, but not beyond
	// what a small machine can spare. GOGC and GOMEMLIMIT in the environment say otherwise.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	os.Exit(start())
}

// memoryLimit is what the Go runtime aims to stay under, bytes. It is no hard limit, and the ledger's engine has its own memory.
const memoryLimit = 72 << 20

// start runs the command line under a context that the first SIGINT or SIGTERM cancels: the soft stop, which
// lets what is in flight come back. A second signal ends the process at once.
func start() int {
	screen := newConsole(os.Stderr)
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
	code := run(ctx, os.Args[1:], &session{stdin: os.Stdin, stdout: os.Stdout, screen: screen, env: os.LookupEnv})
	signal.Stop(signals)
	close(over)
	<-joined
	cancel(nil)
	return code
}

// run is the program but for the process around it.
func run(ctx context.Context, args []string, s *session) int {
	err := dispatch(ctx, args, s)
	code := exitCode(ctx, err)
	switch {
	case code == exitDone || code == exitAttention: // the output has said it
	case code > exitSignal:
		if !errors.Is(err, context.Canceled) {
			s.screen.errorf("%v", err) // it went wrong on its own, too
		}
		s.screen.warnf("%s; safe to run again, nothing that was done is done twice", context.Cause(ctx))
	default:
		s.screen.errorf("%s", message(err, code))
	}
	return code
}

// exitCode is the one place where errors become exit codes.
func exitCode(ctx context.Context, err error) int {
	var stop *signalError
	var parse *kong.ParseError
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errAttention):
		return exitAttention
	case errors.As(err, &usage), errors.As(err, &parse), errors.Is(err, config.ErrSecret),
		errors.Is(err, ledger.ErrNotFound), errors.Is(err, ingest.ErrNotApplicable), errors.Is(err, inbox.ErrConfig):
		return exitUsage
	case errors.Is(err, ledger.ErrLocked):
		return exitLocked
	case errors.As(context.Cause(ctx), &stop):
		return exitSignal + int(stop.signal)
	}
	return exitStopped // delivery.ErrStopped, ledger.ErrUnusable, inbox errors, and whatever nobody foresaw
}

// message is what a person is told about err: what went wrong, and what to do next.
func message(err error, code int) string {
	text := err.Error()
	switch code {
	case exitLocked:
		return text + "\nhint: wait for it to end, or stop it; two workers need a ledger each"
	case exitUsage:
		var parse *kong.ParseError
		if errors.As(err, &parse) {
			return text + "\nhint: " + helpCommand(parse) + " shows what it takes, with an example"
		}
		return text
	case exitStopped:
		var advised interface {
			error
			Advice() string
		}
		if errors.As(err, &advised) && advised.Advice() != "" {
			return text + "\nhint: " + advised.Advice() + "; then run again, nothing that was done is done twice"
		}
		if !strings.Contains(text, "run again") && !strings.Contains(text, "\nhint:") {
			text += "\nhint: put that right and run again; nothing that was done is done twice"
		}
		return text
	}
	return text
}

// helpCommand is the help of the command that the person had in mind, as far as it was understood.
func helpCommand(parse *kong.ParseError) string {
	if parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return "billdrop " + node.Name + " --help"
		}
	}
	return "billdrop --help"
}
