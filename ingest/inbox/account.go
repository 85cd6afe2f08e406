// Package inbox is one SFTP account: it lists, claims by rename, fetches, publishes and removes files, and tells
// when a file in an inbox is complete. It alone speaks SSH and SFTP.
//
// Nothing here waits without end: a dead, hung or stalled server ends every call with ErrUnreachable.
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

// defaultTimeout is the Timeout of a Config that gives none.
const defaultTimeout = 60 * time.Second

// Config says where the account is, and how to log in. Address, User and KnownHostsFile are needed.
type Config struct {
	Address        string // host, or host:port; port 22 where none is given
	User           string
	PrivateKeyFile string        // readable by its owner alone, without passphrase
	PasswordFile   string        // one line; with neither file, the SSH agent at SSH_AUTH_SOCK
	KnownHostsFile string        // as OpenSSH's; hashed names, ports and @cert-authority included
	Timeout        time.Duration // a call without progress this long is given up; 0 = 60 s
}

// Account is a logged-in SFTP account. It owns one connection and the goroutines that watch over it.
//
// Methods may be called concurrently; they share the connection, so a call that is given up or cancelled ends the
// connection for all of them, and every later call returns ErrUnreachable. Calls are bounded: they return an
// error at most about an eighth over Timeout after the last progress, and at once when their context is done. Where the
// connection breaks during a call that changes something, nobody knows whether the change was made.
type Account struct {
	cfg   Config
	where string // for errors: the server's address
	conn  net.Conn
	ssh   *ssh.Client
	sftp  *sftp.Client
	stall stall
	done  chan struct{}  // closed by end
	wg    sync.WaitGroup // the watching goroutines

	mu    sync.Mutex
	cause error // why the connection ended; nil while it lives
}

var (
	errClosed  = errors.New("the account was closed")
	errStalled = errors.New("no progress")
	errLost    = errors.New("the connection was lost")
)

// Dial connects, checks the host key, logs in and starts SFTP, all within cfg.Timeout. ctx is for that alone. Errors wrap
// ErrConfig, ErrUnreachable, ErrHostKey, ErrLogin or ErrRefused (the server offers no SFTP), or ctx's own.
func Dial(ctx context.Context, cfg Config) (*Account, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	address := withPort(cfg.Address)
	op := "connect to sftp server " + address
	if cfg.Address == "" || cfg.User == "" {
		return nil, &Error{Op: "connect to sftp server", Kind: ErrConfig, Err: errors.New("address or user is missing"), Next: "set sftp.address and sftp.user"}
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
		return nil, &Error{Op: op, Kind: ErrUnreachable, Err: err, Next: "check sftp.address, the network and whether the server is up"}
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

// handshake takes a fresh connection to a running SFTP session, before the deadline.
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
				Next: fmt.Sprintf("have SFTP enabled for user %q on the server", a.cfg.User),
			}
		}
		return &Error{Op: op, Kind: ErrUnreachable, Err: fmt.Errorf("start sftp: %w", err), Next: a.next(ErrUnreachable)}
	}
	if err := a.conn.SetDeadline(time.Time{}); err != nil {
		return &Error{Op: op, Kind: ErrUnreachable, Err: err}
	}
	return nil
}

// handshakeError tells apart a host key, a login and a network that is to blame.
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
		return &Error{Op: op, Kind: ErrUnreachable, Err: fmt.Errorf("no login within %v", a.cfg.Timeout), Next: a.next(ErrUnreachable)}
	case errors.As(err, &noCommon):
		return &Error{Op: op, Kind: ErrUnreachable, Err: err, Next: "the server speaks only outdated SSH algorithms, or is no SSH server; ask its operator"}
	case keys.trusted && (strings.Contains(text, "unable to authenticate") ||
		strings.Contains(text, "authentication") || strings.Contains(text, "unexpected message type 51")): // the library has no type for these; 51 refuses a login
		return &Error{Op: op, Kind: ErrLogin, Err: fmt.Errorf("user %q with %s", a.cfg.User, login.with), Next: login.fix}
	default:
		return &Error{Op: op, Kind: ErrUnreachable, Err: err, Next: "check that it is an SSH server, and that it lets this machine in"}
	}
}

// noSFTP reports whether starting SFTP failed because the server would not, rather than for the connection.
func noSFTP(err error) bool {
	var channel *ssh.OpenChannelError
	text := err.Error() // the libraries have no type for the other two
	return errors.As(err, &channel) || strings.Contains(text, "subsystem request failed") || strings.Contains(text, "version packet")
}

// startSFTP opens the session, with the SFTP bytes counted on their way: they are what progress means.
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
	// Nobody is to read what a server says beside SFTP, but unread it would fill the channel.
	a.wg.Go(func() { _, _ = io.Copy(io.Discard, errs) })
	if err := session.RequestSubsystem("sftp"); err != nil {
		return err
	}
	// Reads and writes are pipelined: 64 packets of 32 KiB in flight fill a line at any usual round trip. Packet
	// sizes stay at the library's own, which every server serves whole.
	pipe := &pipe{in: in, out: out, stall: &a.stall}
	a.sftp, err = sftp.NewClientPipe(pipe, pipe,
		sftp.UseConcurrentReads(true), sftp.UseConcurrentWrites(true), sftp.UseFstat(true))
	return err
}

// watch starts the goroutines that notice a peer which is gone.
func (a *Account) watch() {
	a.wg.Go(func() {
		a.stall.run(a.cfg.Timeout, a.done, func() {
			a.end(fmt.Errorf("%w for %v", errStalled, a.cfg.Timeout))
		})
	})
	a.wg.Go(a.keepAlive)
	a.wg.Go(func() {
		_ = a.sftp.Wait() // returns when the connection has ended, for whatever reason
		a.end(errLost)
	})
}

// keepAlive asks the server for a life sign four times a timeout, so that an idle line stays open and its death is noticed.
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

// end cuts the connection, once, and keeps the first cause. It does not wait.
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

// ended is why the connection ended, nil while it lives.
func (a *Account) ended() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause
}

// Close ends the connection and returns when all that belonged to it has ended. Calls under way end with ErrUnreachable.
// Further calls do nothing. It never waits for the server.
func (a *Account) Close() error {
	a.end(errClosed)
	a.wg.Wait()
	_ = a.sftp.Close() // the connection is cut already: there is nothing left to fail
	_ = a.ssh.Wait()
	return nil
}

// call runs one call, bounded by ctx and by the timeout. op and args name it in errors.
func (a *Account) call(ctx context.Context, f func(op string) error, op string, args ...any) error {
	op = fmt.Sprintf("%s on %s", fmt.Sprintf(op, args...), a.where)
	if ctx.Err() != nil {
		return interrupted(ctx, op)
	}
	if cause := a.ended(); cause != nil {
		return &Error{Op: op, Kind: ErrUnreachable, Err: cause, Next: a.next(ErrUnreachable)}
	}
	release := context.AfterFunc(ctx, func() { a.end(fmt.Errorf("an earlier call was interrupted: %w", context.Cause(ctx))) })
	finish := a.stall.begin()
	err := f(op)
	finish()
	release()
	if err == nil {
		return nil // also where ctx was done too late to matter
	}
	var own *local
	if errors.As(err, &own) {
		return fmt.Errorf("%s: %w", op, own.err)
	}
	if ctx.Err() != nil {
		return interrupted(ctx, op)
	}
	if errors.Is(err, ErrUnreachable) {
		a.end(errLost) // keeps the cause where there is one: a stall, most likely
	}
	if cause := a.ended(); cause != nil {
		return &Error{Op: op, Kind: ErrUnreachable, Err: cause, Next: a.next(ErrUnreachable)}
	}
	return err
}

// withPort is address with port 22 where it has none.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), "22")
}
