package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/pkg/sftp"
)

// Kinds of failure. Every error of an Account is an *Error that wraps exactly one of these,
// except the errors of the caller's own context, writer or reader.
var (
	// ErrUnreachable: there is no connection, it was lost, or nothing moved within the timeout.
	// The change that the call was to make may have been made. Dial again.
	ErrUnreachable = errors.New("sftp server out of reach")
	// ErrHostKey: the server's host key is unknown, changed or revoked. No login was tried.
	ErrHostKey = errors.New("host key not trusted")
	// ErrLogin: the server refused the user with that key or password.
	ErrLogin = errors.New("login refused")
	// ErrConfig: a file of this machine is not fit for use: a key, a password, known_hosts,
	// the agent.
	ErrConfig = errors.New("sftp configuration not usable")
	// ErrNotExist: the remote file or directory does not exist.
	ErrNotExist = errors.New("no such remote file or directory")
	// ErrNoDirectory: a remote directory that the call needs does not exist.
	ErrNoDirectory = errors.New("remote directory is missing")
	// ErrExists: the remote name is taken.
	ErrExists = errors.New("remote name is taken")
	// ErrNotRegular: the remote name is a directory, a link or another thing that is not a
	// regular file.
	ErrNotRegular = errors.New("not a regular file")
	// ErrPermission: the server does not permit it to this user. A read-only server answers so.
	ErrPermission = errors.New("the server does not permit it")
	// ErrFull: the server could not store the bytes. SFTP version 3 has no code for a full disk, so
	// every failure of a write, a sync or a close without another reason is this one.
	ErrFull = errors.New("the server could not store it")
	// ErrRefused: the server failed or refused without a reason.
	ErrRefused = errors.New("the server refused")
	// ErrChanged: the remote file was written to while it was read, or it is longer or shorter than
	// the server announced.
	ErrChanged = errors.New("remote file changed while it was read")
	// ErrMismatch: the bytes that were read back are not those that were sent.
	ErrMismatch = errors.New("remote file differs from what was sent")
)

// Error is a failure of an SFTP account. It never holds a password or key material.
type Error struct {
	Op   string // what was tried, on what, where
	Kind error  // one of the sentinels
	Err  error  // what was reported; may be nil
	Hint string // what to do about it; "" where Kind says all

	// brokenOff: the server refused the connection, or ended it before the login was decided.
	// A moment later it may admit another one.
	brokenOff bool
}

func (e *Error) Error() string {
	text := e.Op + ": " + e.Kind.Error()
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

// Advice returns what to do about the error.
func (e *Error) Advice() string { return e.Hint }

// Unwrap returns the sentinel and what was reported.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// misconfigured is an ErrConfig of the call op, with what to do about it.
func misconfigured(op, hint, format string, args ...any) error {
	return &Error{Op: op, Kind: ErrConfig, Err: fmt.Errorf(format, args...), Hint: hint}
}

// wasBrokenOff reports whether the other end refused or ended a connection that was being made.
func wasBrokenOff(err error) bool {
	for _, sign := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return strings.Contains(err.Error(), "ssh: disconnect") // the library has no type for it
}

// local marks an error of the caller's own writer or reader. The server is not to blame for it.
type local struct{ err error }

func (l *local) Error() string { return l.err.Error() }
func (l *local) Unwrap() error { return l.err }

// Status codes of later SFTP versions, which some servers send in version 3 too
// (draft-ietf-secsh-filexfer-13, section 9.1).
const (
	fxUnsupported   = 8
	fxNoSuchPath    = 10
	fxAlreadyExists = 11
	fxWriteProtect  = 12
	fxNoSpace       = 14
	fxQuota         = 15
)

// kind returns the sentinel for the error of one request, as the library reports it.
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
		// The connection broke, or the server speaks another protocol. Both end its use.
		return ErrUnreachable
	}
}

// unsupported reports whether the server does not have this request, or not for this user.
func unsupported(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) && status.Code == fxUnsupported || errors.Is(err, os.ErrPermission)
}

// stored is kind for a write, a sync or a close: a failure without a reason there means that
// the bytes found no room.
func stored(err error) error {
	if k := kind(err); k != ErrRefused {
		return k
	}
	return ErrFull
}

const unreachableHint = "check the network and the server, then run again"

// hint returns what to do about a failure of this kind, for calls that have nothing better to say.
func (a *Account) hint(kind error) string {
	switch kind {
	case ErrPermission:
		return fmt.Sprintf("let user %q read and write the feed's directories on the server", a.cfg.User)
	case ErrNoDirectory, ErrNotExist:
		return "create it on the server, or correct the feed's configuration"
	case ErrFull:
		return "make room on the server (disk, or the user's quota), then run again"
	case ErrRefused:
		return "look for the reason in the server's log"
	case ErrUnreachable:
		return unreachableHint
	case ErrListingCut:
		return "move away what does not belong there"
	case ErrChanged, ErrMismatch:
		return "run again; if it happens again, find out who else writes there"
	default:
		return ""
	}
}

// failure returns an error of this kind for the call op. An *Error, or an error of the
// caller's own, stays as it is.
func (a *Account) failure(op string, kind, err error) error {
	var done *Error
	var own *local
	switch {
	case errors.As(err, &done):
		return err
	case errors.As(err, &own):
		return fmt.Errorf("%s: %w", op, own.err)
	}
	return &Error{Op: op, Kind: kind, Err: err, Hint: a.hint(kind)}
}

// interrupted is the error of a call whose context ended.
func interrupted(ctx context.Context, op string) error {
	return fmt.Errorf("%s: %w", op, context.Cause(ctx))
}
