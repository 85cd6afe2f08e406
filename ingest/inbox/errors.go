package inbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pkg/sftp"
)

// What can go wrong, told by errors.Is. Every error of an Account that is not its caller's own (a context's, a
// writer's, a reader's) is an *Error and wraps exactly one of these.
var (
	// ErrUnreachable: no connection, a connection lost, or no progress within the timeout. What the call was to do
	// may or may not have been done. The account is of no more use; dial again.
	ErrUnreachable = errors.New("sftp server out of reach")
	// ErrHostKey: the server's host key is unknown, changed or revoked. Nothing was sent to it, no login was tried.
	ErrHostKey = errors.New("host key not trusted")
	// ErrLogin: the server refused the user with that key or password.
	ErrLogin = errors.New("login refused")
	// ErrConfig: something on this machine is not fit for use: a key or password file, known_hosts, the agent.
	ErrConfig = errors.New("sftp configuration not usable")
	// ErrNotExist: there is no such remote file or directory.
	ErrNotExist = errors.New("no such remote file or directory")
	// ErrNoDirectory: a remote directory that the call needs is missing.
	ErrNoDirectory = errors.New("remote directory is missing")
	// ErrExists: the remote name is taken.
	ErrExists = errors.New("remote name is taken")
	// ErrNotRegular: the remote name is a directory, a link or something else that is no regular file.
	ErrNotRegular = errors.New("not a regular file")
	// ErrPermission: the server does not allow it to this user; a read-only server answers so.
	ErrPermission = errors.New("the server does not permit it")
	// ErrFull: the server could not store what was written. SFTP's version 3 has no code of its own for a full disk; a
	// failure of a write, a sync or a close is told as this.
	ErrFull = errors.New("the server could not store it")
	// ErrRefused: the server failed or refused without saying why.
	ErrRefused = errors.New("the server refused")
	// ErrChanged: the remote file grew, shrank or was written to while it was read, or fewer bytes came than it has.
	ErrChanged = errors.New("remote file changed while it was read")
	// ErrMismatch: what the server gives back is not what was sent to it.
	ErrMismatch = errors.New("remote file differs from what was sent")
)

// Error is a failure of an SFTP account, for a person to read: what was tried and where, what went wrong, and what
// to do next. It never holds a password or key material.
type Error struct {
	Op   string // what was tried, where, on what
	Kind error  // one of the sentinels
	Next string // what to do about it; "" where Kind says all
	Err  error  // what was reported; may be nil
}

func (e *Error) Error() string {
	text := e.Op + ": " + e.Kind.Error()
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	if e.Next != "" {
		text += ": " + e.Next
	}
	return text
}

// Unwrap gives the sentinel, and what was reported.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// local marks an error of the caller's own writer or reader, which no server is to blame for.
type local struct{ err error }

func (l *local) Error() string { return l.err.Error() }
func (l *local) Unwrap() error { return l.err }

// Status codes of SFTP versions after 3, which some servers use all the same
// (draft-ietf-secsh-filexfer-13, section 9.1).
const (
	fxUnsupported   = 8
	fxNoSuchPath    = 10
	fxAlreadyExists = 11
	fxWriteProtect  = 12
	fxNoSpace       = 14
	fxQuota         = 15
)

// kind is the sentinel for what the library reported of one request.
func kind(err error) error {
	var status *sftp.StatusError
	switch {
	case errors.Is(err, os.ErrNotExist):
		return ErrNotExist
	case errors.Is(err, os.ErrPermission):
		return ErrPermission
	case errors.As(err, &status):
		switch status.Code {
		case fxNoSuchPath:
			return ErrNotExist
		case fxAlreadyExists:
			return ErrExists
		case fxWriteProtect:
			return ErrPermission
		case fxNoSpace, fxQuota:
			return ErrFull
		case uint32(sftp.ErrSSHFxNoConnection), uint32(sftp.ErrSSHFxConnectionLost):
			return ErrUnreachable
		default:
			return ErrRefused
		}
	default:
		// The connection broke, or the server speaks another protocol: either way there is no going on with it.
		return ErrUnreachable
	}
}

// unsupported reports whether the server answered that it has no such request, or none for this user.
func unsupported(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) && status.Code == fxUnsupported || errors.Is(err, os.ErrPermission)
}

// stored is kind for a write, a sync or a close, where a bare failure means that the bytes found no room.
func stored(err error) error {
	if k := kind(err); k != ErrRefused {
		return k
	}
	return ErrFull
}

// next is what to do about a failure of this kind, where the call has nothing better to say.
func (a *Account) next(kind error) string {
	switch kind {
	case ErrPermission:
		return fmt.Sprintf("let user %q read and write the feed's directories on the server", a.cfg.User)
	case ErrNoDirectory, ErrNotExist:
		return "create it on the server, or correct the feed's configuration"
	case ErrFull:
		return "make room on the server (disk, or the user's quota), then run again"
	case ErrRefused:
		return "look into the server's log for the reason"
	case ErrUnreachable:
		return "check the network and the server, then run again"
	case ErrChanged, ErrMismatch:
		return "run again; if it stays, find out who else writes there"
	default:
		return ""
	}
}

// failure makes an error of kind in the call op. It leaves alone what is an *Error already, or a caller's own.
func (a *Account) failure(op string, kind, err error) error {
	var done *Error
	var own *local
	switch {
	case errors.As(err, &done):
		return err
	case errors.As(err, &own):
		return fmt.Errorf("%s: %w", op, own.err)
	}
	return &Error{Op: op, Kind: kind, Next: a.next(kind), Err: err}
}

// interrupted is the error of a call that its context ended.
func interrupted(ctx context.Context, op string) error {
	return fmt.Errorf("%s: %w", op, context.Cause(ctx))
}
