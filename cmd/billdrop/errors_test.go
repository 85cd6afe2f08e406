package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"

	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/ingest/delivery"
	"billdrop/ingest/inbox"
	"billdrop/ingest/ledger"
)

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
		{"configuration", t.Context(), describe.Misused(&config.Errors{}), 2},
		{"secret", t.Context(), fmt.Errorf("x: %w", config.ErrSecret), 2},
		{"sandbox", t.Context(), describe.Advise(describe.Misused(errors.New("x")), "x"), 2},
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

// TestHints: an error says what to do, or its exit code does.
func TestHints(t *testing.T) {
	const again = "put that right and run again; nothing that was done is done twice"
	advised := describe.Advise(errors.New("x"), "do it")
	for name, c := range map[string]struct {
		err  error
		code int
		want []string
	}{
		"stopped":         {fmt.Errorf("x: %w", delivery.ErrStopped), exitStopped, []string{again}},
		"unforeseen":      {errors.New("x"), exitStopped, []string{again}},
		"own advice":      {fmt.Errorf("x: %w", advised), exitStopped, []string{"do it"}},
		"stop and advice": {describe.Advise(delivery.ErrStopped, "do it"), exitStopped, []string{"do it", "then run again; nothing that was done is done twice"}},
		"locked":          {ledger.ErrLocked, exitLocked, []string{"wait for it to end, or stop it; two workers need a ledger each"}},
		"usage":           {usagef("x").Hint("do %s", "it"), exitUsage, []string{"do it"}},
		"bare usage":      {usagef("x"), exitUsage, nil},
		"command line":    {&kong.ParseError{}, exitUsage, []string{"billdrop --help shows what it takes, with an example"}},
	} {
		if got := hints(c.err, c.code); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
