package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/alecthomas/kong"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/engine"
	"billdrop/ingest"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
)

// Exit codes, as the documentation promises them.
const (
	exitDone      = 0
	exitAttention = 1 // done, but some rows or files need attention
	exitUsage     = 2 // wrong usage or configuration; nothing was changed
	exitStopped   = 3 // the work could not be done; safe to run again
	exitLocked    = 4 // another billdrop holds the ledger
	exitSignal    = 128
)

// errAttention ends a command that has done its work and printed something that needs
// attention. It only sets the exit code.
var errAttention = errors.New("some rows or files need attention")

// usagef returns a mistake in how billdrop is called.
func usagef(format string, args ...any) describe.Misuse {
	return describe.Misused(fmt.Errorf(format, args...))
}

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

// Is makes the cause count as a cancellation.
func (e *signalError) Is(target error) bool { return target == context.Canceled }

// exitCode is the one place where errors become exit codes.
func exitCode(ctx context.Context, err error) int {
	var stop *signalError
	var parse *kong.ParseError
	var usage describe.Misuse
	var differ *ledger.FormatsDiffer
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errAttention):
		return exitAttention
	case errors.As(err, &usage), errors.As(err, &parse), errors.Is(err, config.ErrSecret),
		errors.Is(err, ledger.ErrNotFound), errors.Is(err, ledger.ErrLinked), errors.Is(err, ingest.ErrNotApplicable), errors.Is(err, inbox.ErrConfig),
		errors.Is(err, engine.ErrSetup), errors.Is(err, ledger.ErrNameTaken), errors.As(err, &differ):
		return exitUsage
	case errors.Is(err, ledger.ErrLocked):
		return exitLocked
	case errors.As(context.Cause(ctx), &stop):
		return exitSignal + int(stop.signal)
	}
	return exitStopped // delivery.ErrStopped, ledger.ErrUnusable, errors of the inbox, all others
}

// hints returns what to do about err: its own advice, or what its exit code suggests.
func hints(err error, code int) []string {
	const safe = "nothing that was done is done twice"
	var parse *kong.ParseError
	switch own := describe.Advice(err); {
	case errors.Is(err, delivery.ErrStopped) && len(own) > 0:
		return append(own, "then run again; "+safe)
	case len(own) > 0:
		return own
	case errors.Is(err, ledger.ErrNameTaken):
		return []string{"give each worker a worker.name of its own, or none; a worker that was killed keeps its name until worker.lost_after has passed"}
	case code == exitLocked:
		return []string{"wait for it to end, or stop it; two workers need a ledger each"}
	case code == exitStopped:
		return []string{"put that right and run again; " + safe}
	case errors.As(err, &parse):
		return []string{helpCommand(parse) + " shows what it takes, with an example"}
	}
	return nil
}

// helpCommand is the command line that shows the help of the command that was parsed.
func helpCommand(parse *kong.ParseError) string {
	if parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return node.FullPath() + " --help"
		}
	}
	return "billdrop --help"
}
