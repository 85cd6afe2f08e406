package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrDirectories: the SFTP server lacks directories of a feed. Unless they
	// were there before, waiting does not mend that.
	ErrDirectories = errors.New("no such directory on the SFTP server")
	// ErrNothingToDo: no row of the file is failed or unknown.
	ErrNothingToDo = errors.New("nothing to do")
	// ErrNotApplicable: the command does not apply to the file in its present state. The
	// text says why.
	ErrNotApplicable = errors.New("not possible for this file")
)

// Error is a failure that a person can mend.
type Error struct {
	Err  error  // what is wrong
	Hint string // what to do
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Advice returns what a person is to do about it.
func (e *Error) Advice() string { return e.Hint }

// notApplicable is an ErrNotApplicable with its reason and, where there is one, a hint.
func notApplicable(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf("%w: %w", ErrNotApplicable, fmt.Errorf(format, args...)), Hint: hint}
}

// isAny reports whether err is one of these.
func isAny(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(e error) bool { return errors.Is(err, e) })
}

// adviceOn returns the first advice in err, "" when there is none.
func adviceOn(err error) string {
	var advised interface {
		error
		Advice() string
	}
	if errors.As(err, &advised) {
		return advised.Advice()
	}
	return ""
}

// failure is an error of a feed as attributes of a log line.
func failure(f *Feed, err error) []any {
	attrs := []any{"feed", f.Name, "error", err}
	if hint := adviceOn(err); hint != "" {
		attrs = append(attrs, "hint", hint)
	}
	return attrs
}

// inOneLine is an error with its advice as one line of text; "" for nil.
func inOneLine(err error) string {
	if err == nil {
		return ""
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if hint := adviceOn(err); hint != "" {
		text += ": " + hint
	}
	return text
}
