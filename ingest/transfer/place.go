// Package transfer moves bill files and their reports: out of an inbox, into the spool, to
// where finished files rest; over SFTP or on this machine.
//
// A place is told which file is meant and returns what it learnt. It keeps no state of a
// file of its own, so every step can be repeated after a crash with what the ledger holds.
package transfer

import (
	"context"
	"errors"
	"io"
	"time"
)

// File is what a place needs of one bill file.
type File struct {
	Name     string    // as the biller named it: a base name
	Path     string    // where it is now; "" = standard input, which is kept in the spool alone
	Size     int64     // bytes, at the latest copy
	ModTime  time.Time // of the latest copy
	Stem     string    // of its report names; "" until the content is known
	Rejected bool      // refused as a whole, so it rests among the rejected files
}

// Place is where one file comes from and where its reports go: a feed's remote directories,
// or a directory of this machine. Every method may be repeated after a crash at any point
// of it, and then completes what was begun. None leaves an incomplete report under its final
// name.
type Place interface {
	// Claimed reports whether a claim that a crash cut short took place.
	Claimed(ctx context.Context, f File) (bool, error)
	// TakeCompanions moves the companions of a claimed file beside it, and removes its
	// marker.
	TakeCompanions(ctx context.Context, f File) error
	// Fetch copies the bill file into w and returns its modification time. After an error w
	// may hold anything.
	Fetch(ctx context.Context, f File, w io.Writer) (modTime time.Time, err error)
	// Changed reports whether the bill file has other content than the copy of it, whose SHA-256
	// (hex) is sum. Of one that is gone, or cannot be looked at now, nothing is known: false.
	Changed(ctx context.Context, f File, sum string) bool
	// Rests returns the paths under which the file may rest if it was archived, the likeliest
	// first.
	Rests(f File) []string
	// Companion reads the companion NAME+suffix of the bill file; nil without error when
	// there is none. ErrUnusableCompanion when it is not one.
	Companion(ctx context.Context, f File, suffix string) ([]byte, error)
	// Reported reports whether a report of this name exists.
	Reported(ctx context.Context, name string) (bool, error)
	// Digest returns the SHA-256 (hex) of a report; "" without error when there is none. For
	// anything but a regular file it returns what no report has.
	Digest(ctx context.Context, name string) (string, error)
	// Publish puts a report in place: written under a temporary name, read back, compared,
	// renamed. If the report is gone after the rename, its receiver has already taken it.
	Publish(ctx context.Context, name string, content io.ReadSeeker) error
	// Withdraw removes a report; nil if there is none.
	Withdraw(ctx context.Context, name string) error
	// Archive moves the bill file to where finished files rest, and returns its new path.
	// spooled opens the copy that was processed, which takes the place of a file that is
	// gone or has changed; fs.ErrNotExist from it means that there is no copy.
	Archive(ctx context.Context, f File, spooled func() (io.ReadSeekCloser, error)) (string, error)
}

// notRegular is the Digest of anything but a regular file.
const notRegular = "of something that is not a regular file"

// ErrNoSource: the file was read from standard input, so it can be read again from the
// spool alone.
var ErrNoSource = errors.New("standard input is kept in the spool alone")

// Error is a failure that a person can mend.
type Error struct {
	Err  error  // what is wrong
	Hint string // what to do
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Advice returns what a person is to do about it.
func (e *Error) Advice() string { return e.Hint }
