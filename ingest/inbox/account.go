// Package inbox is one SFTP account: it lists, renames, fetches, publishes and removes
// files, and decides when a file in an inbox is complete. It alone speaks SSH and SFTP.
//
// Every wait is bounded: a dead, hung or stalled server ends every call with
// ErrUnreachable.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// defaultTimeout is the Timeout of a Config that has none.
const defaultTimeout = 60 * time.Second

// Config is where the account is and how to log in. Address, User and KnownHostsFile are
// required.
type Config struct {
	Address        string // host, or host:port; the default port is 22
	User           string
	PrivateKeyFile string        // readable by its owner alone, without a passphrase
	PasswordFile   string        // one line; without either file, the SSH agent at SSH_AUTH_SOCK logs in
	KnownHostsFile string        // in OpenSSH's format: hashed names, ports, @cert-authority
	Timeout        time.Duration // a call without progress for this long fails; 0 = 60 s
	Connections    int           // of a Pool, at most; 0 = 1
}

// Account is a logged-in SFTP account. It owns one connection and the goroutines that watch it.
//
// Methods may be called concurrently. They share the connection: a call that times out or is
// cancelled ends it for all of them, and every later call returns ErrUnreachable. A call
// returns at once when its context is done, and otherwise at most 1.125 × Timeout after the
// last progress. A call that was to change something may have changed it when the connection
// breaks.
type Account struct {
	cfg   Config
	where string // for errors: the server's address
	conn  net.Conn
	ssh   *ssh.Client
	sftp  *sftp.Client
	stall stall
	done  chan struct{}  // closed by end
	wg    sync.WaitGroup // the goroutines that watch the connection

	mu    sync.Mutex
	cause error // why the connection ended; nil while it lives
}

var (
	errClosed  = errors.New("the account was closed")
	errStalled = errors.New("no progress")
	errLost    = errors.New("the connection was lost")
)

// Dial connects, checks the host key, logs in and starts SFTP, all within cfg.Timeout. ctx
// bounds Dial alone, not the account. Errors wrap ErrConfig, ErrUnreachable, ErrHostKey,
// ErrLogin, ErrRefused (the server does not offer SFTP), or the cause of ctx.
func Dial(ctx context.Context, cfg Config) (*Account, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	address := withPort(cfg.Address)
	op := "connect to sftp server " + address
	if cfg.Address == "" || cfg.User == "" {
		return nil, &Error{Op: "connect to sftp server", Kind: ErrConfig, Err: errors.New("the address or the user is missing"), Hint: "set sftp.address and sftp.user"}
	}
	deadline := time.Now().Add(cfg.Timeout)
	keys, err := readHostKeys(op, cfg.KnownHostsFile, address)
	if err != nil {
		return nil, err
	}
	login, err := readLogin(ctx, op, cfg, deadline)
	if err != nil {
		if ctx.Err() != nil {
			return nil, interrupted(ctx, op)
		}
		return nil, err
	}
	defer login.done()

	a := &Account{cfg: cfg, where: address, done: make(chan struct{})}
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, interrupted(ctx, op)
		}
		return nil, &Error{
			Op: op, Kind: ErrUnreachable, Err: err, Hint: "check sftp.address, the network, and that the server is up",
			brokenOff: wasBrokenOff(err),
		}
	}
	a.conn = &wire{Conn: conn, stall: &a.stall}
	release := context.AfterFunc(ctx, func() { conn.Close() })
	err = a.handshake(op, deadline, keys, login)
	if !release() && ctx.Err() != nil && err != nil {
		err = interrupted(ctx, op)
	}
	if err != nil {
		conn.Close()
		if a.ssh != nil {
			_ = a.ssh.Wait() // its goroutines end with the connection
			a.wg.Wait()
		}
		return nil, err
	}
	a.watch()
	return a, nil
}

// handshake turns a fresh connection into a running SFTP session, before the deadline.
func (a *Account) handshake(op string, deadline time.Time, keys *hostKeys, login *login) error {
	if err := a.conn.SetDeadline(deadline); err != nil {
		return &Error{Op: op, Kind: ErrUnreachable, Err: err}
	}
	conn, channels, requests, err := ssh.NewClientConn(a.conn, a.where, &ssh.ClientConfig{
		User:              a.cfg.User,
		Auth:              login.methods,
		HostKeyCallback:   keys.check,
		HostKeyAlgorithms: keys.algorithms(),
	})
	if err != nil {
		return a.handshakeError(op, err, keys, login)
	}
	a.ssh = ssh.NewClient(conn, channels, requests)
	if err := a.startSFTP(); err != nil {
		if time.Now().Before(deadline) && noSFTP(err) {
			return &Error{
				Op: op, Kind: ErrRefused, Err: fmt.Errorf("start sftp: %w", err),
				Hint: fmt.Sprintf("enable SFTP for user %q on the server", a.cfg.User),
			}
		}
		return &Error{Op: op, Kind: ErrUnreachable, Err: fmt.Errorf("start sftp: %w", err), Hint: a.hint(ErrUnreachable)}
	}
	if err := a.conn.SetDeadline(time.Time{}); err != nil {
		return &Error{Op: op, Kind: ErrUnreachable, Err: err}
	}
	return nil
}

// handshakeError returns what is to blame for a failed handshake: the host key, the login or
// the network.
func (a *Account) handshakeError(op string, err error, keys *hostKeys, login *login) error {
	if keys.refusal != nil {
		keys.refusal.Op = op
		return keys.refusal
	}
	var netErr net.Error
	var noCommon *ssh.AlgorithmNegotiationError
	text := err.Error()
	switch {
	case errors.As(err, &netErr) && netErr.Timeout():
		return &Error{Op: op, Kind: ErrUnreachable, Err: fmt.Errorf("no login within %v", a.cfg.Timeout), Hint: a.hint(ErrUnreachable)}
	case errors.As(err, &noCommon):
		return &Error{Op: op, Kind: ErrUnreachable, Err: err, Hint: "the server offers only outdated SSH algorithms; ask its operator for current ones"}
	case keys.trusted && (strings.Contains(text, "unable to authenticate") ||
		strings.Contains(text, "authentication") || strings.Contains(text, "unexpected message type 51")):
		// The library has no type for these. Message 51 refuses a login (RFC 4252, section 5.1).
		return &Error{Op: op, Kind: ErrLogin, Err: fmt.Errorf("user %q with %s", a.cfg.User, login.shown), Hint: login.hint}
	default:
		return &Error{
			Op: op, Kind: ErrUnreachable, Err: err, Hint: "check that sftp.address is an SSH server that admits this machine",
			brokenOff: wasBrokenOff(err),
		}
	}
}

// noSFTP reports whether SFTP did not start because the server refused it. Otherwise the
// connection is to blame.
func noSFTP(err error) bool {
	var channel *ssh.OpenChannelError
	text := err.Error() // the libraries have types for the first case alone
	return errors.As(err, &channel) || strings.Contains(text, "subsystem request failed") || strings.Contains(text, "version packet")
}

// startSFTP opens the session. It counts the SFTP bytes on their way, because they are what
// counts as progress.
func (a *Account) startSFTP() error {
	session, err := a.ssh.NewSession()
	if err != nil {
		return err
	}
	in, err := session.StdinPipe()
	if err != nil {
		return err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	errs, err := session.StderrPipe()
	if err != nil {
		return err
	}
	// What a server writes beside SFTP is of no use, but unread it would fill the channel.
	a.wg.Go(func() { _, _ = io.Copy(io.Discard, errs) })
	if err := session.RequestSubsystem("sftp"); err != nil {
		return err
	}
	// Reads and writes are pipelined: 64 packets of 32 KiB in flight fill a line at any usual
	// round trip. The packet size is the library's default, which every server serves whole.
	pipe := &pipe{in: in, out: out, stall: &a.stall}
	a.sftp, err = sftp.NewClientPipe(pipe, pipe,
		sftp.UseConcurrentReads(true), sftp.UseConcurrentWrites(true), sftp.UseFstat(true))
	return err
}

// watch starts the goroutines that detect a dead peer.
func (a *Account) watch() {
	a.wg.Go(func() {
		a.stall.run(a.cfg.Timeout, a.done, func() {
			a.end(fmt.Errorf("%w for %v", errStalled, a.cfg.Timeout))
		})
	})
	a.wg.Go(a.keepAlive)
	a.wg.Go(func() {
		_ = a.sftp.Wait() // returns when the connection has ended
		a.end(errLost)
	})
}

// keepAlive asks the server for a sign of life four times a timeout: an idle line stays open,
// and a dead one is detected.
func (a *Account) keepAlive() {
	ticker := time.NewTicker(max(a.cfg.Timeout/4, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-a.done:
			return
		case <-ticker.C:
			end := a.stall.begin()
			_, _, err := a.ssh.SendRequest("keepalive@openssh.com", true, nil)
			end()
			if err != nil {
				a.end(errLost)
				return
			}
		}
	}
}

// end closes the connection, once, and keeps the first cause. It does not wait.
func (a *Account) end(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause != nil {
		return
	}
	a.cause = cause
	a.conn.Close()
	close(a.done)
}

// ended returns why the connection ended, nil while it lives.
func (a *Account) ended() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause
}

// Close ends the connection and returns when its goroutines have ended. Calls under way
// return ErrUnreachable. It does not wait for the server. A second Close does nothing.
func (a *Account) Close() error {
	a.end(errClosed)
	a.wg.Wait()
	_ = a.sftp.Close() // the connection is closed already: nothing is left to fail
	_ = a.ssh.Wait()
	return nil
}

// call runs f, bounded by ctx and by the timeout. op and args name the call in errors.
func (a *Account) call(ctx context.Context, f func(op string) error, op string, args ...any) error {
	op = fmt.Sprintf("%s on %s", fmt.Sprintf(op, args...), a.where)
	if ctx.Err() != nil {
		return interrupted(ctx, op)
	}
	if cause := a.ended(); cause != nil {
		return &Error{Op: op, Kind: ErrUnreachable, Err: cause, Hint: a.hint(ErrUnreachable)}
	}
	release := context.AfterFunc(ctx, func() { a.end(fmt.Errorf("an earlier call was interrupted: %w", context.Cause(ctx))) })
	finish := a.stall.begin()
	err := f(op)
	finish()
	release()
	if err == nil {
		return nil // also if ctx was done too late to matter
	}
	var own *local
	if errors.As(err, &own) {
		return fmt.Errorf("%s: %w", op, own.err)
	}
	if ctx.Err() != nil {
		return interrupted(ctx, op)
	}
	if errors.Is(err, ErrUnreachable) {
		a.end(errLost) // keeps an earlier cause: most likely a stall
	}
	if cause := a.ended(); cause != nil {
		return &Error{Op: op, Kind: ErrUnreachable, Err: cause, Hint: a.hint(ErrUnreachable)}
	}
	return err
}

// withPort returns address with port 22 if it has none.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), "22")
}
