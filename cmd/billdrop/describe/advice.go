package describe

import (
	"fmt"
	"slices"
)

// advised is an error and what to do about it.
type advised struct {
	error
	hint string
}

func (e *advised) Unwrap() error  { return e.error }
func (e *advised) Advice() string { return e.hint }

// Advise adds to err what to do about it. A person reads this in place of any advice
// that err has itself.
func Advise(err error, format string, args ...any) error {
	return &advised{err, fmt.Sprintf(format, args...)}
}

// Misuse is a mistake in how billdrop is called or set up. Nothing was changed.
type Misuse struct{ error }

// Misused returns err as a Misuse, with the same text.
func Misused(err error) Misuse { return Misuse{err} }

func (m Misuse) Unwrap() error { return m.error }

// Hint adds what to do about it, as Advise does.
func (m Misuse) Hint(format string, args ...any) Misuse {
	return Misuse{Advise(m.error, format, args...)}
}

// Advice returns what to do about err, one text for each error joined in it that has
// advice, without repetition.
func Advice(err error) []string {
	if a, ok := err.(interface{ Advice() string }); ok && a.Advice() != "" {
		return []string{a.Advice()}
	}
	var inner []error
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		inner = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		inner = e.Unwrap()
	}
	var hints []string
	for _, e := range inner {
		for _, hint := range Advice(e) {
			if !slices.Contains(hints, hint) {
				hints = append(hints, hint)
			}
		}
	}
	return hints
}
