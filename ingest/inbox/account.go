// Package inbox is one SFTP account: it lists, renames, fetches, publishes and removes
// files, and decides when a file in an inbox is complete. It alone speaks SSH and SFTP.
//
// An Account is one connection. A Pool shares connections among callers, and makes those that
// are lost again.
//
// Every wait is bounded: a dead, hung or stalled server ends every call with
// ErrUnreachable.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Account is a logged-in SFTP account. It owns one connection and the goroutines that watch it.
// A bastion that the connection passes through is part of it.
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

	reading sync.Mutex // held while a directory is listed, one at a time
	listing listing    // the listing that is being read

	noFstat atomic.Bool // the server has no FSTAT
	// bastion is what conn passes through; nil if it is direct. It ends with conn.
	bastion *ssh.Client
	done    chan struct{}  // closed by end
	wg      sync.WaitGroup // the goroutines that watch the connection

	mu    sync.Mutex
	cause error // why the connection ended; nil while it lives
}

var (
	errClosed  = errors.New("the account was closed")
	errStalled = errors.New("no progress")
	errLost    = errors.New("the connection was lost")
)

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
	a.join()
	return nil
}

// join returns when the goroutines of a connection that is closed have ended.
func (a *Account) join() {
	if a.ssh != nil {
		_ = a.ssh.Wait()
	}
	if a.bastion != nil {
		_ = a.bastion.Wait()
	}
	a.wg.Wait()
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
