package ingest

import (
	"errors"
	"strings"
)

// ErrDirectories: the SFTP server lacks directories of a feed. No waiting mends that.
var ErrDirectories = errors.New("no such directory on the SFTP server")

// Error is what keeps a feed from its work, and what to do about it.
type Error struct {
	Err  error  // what is wrong
	Hint string // what to do
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Advice returns what a person is to do about it.
func (e *Error) Advice() string { return e.Hint }

// adviceOn returns what the first error in err that has advice advises; "" when none has.
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

// trouble is what the log records of an error of a feed.
func trouble(f *Feed, err error) []any {
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
