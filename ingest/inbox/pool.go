package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// redialAfter is the shortest wait before the one repetition of a dial that was refused or
	// broken off. Servers that limit how many connections log in at once, or that still count a
	// connection that has just ended, admit the next one after a moment.
	redialAfter = time.Second
	// A refused login is not tried again before firstBar has passed, then twice as long each
	// time, up to lastBar: servers lock accounts after a few refusals.
	firstBar = time.Minute
	lastBar  = 15 * time.Minute
	// narrowFor is how long a pool does with the connections that it has after the server
	// refused another one.
	narrowFor = time.Minute
)

// Pool is one SFTP account that many callers share. It logs in when a call needs a connection,
// keeps the connection, and logs in again when it is lost. Its methods may be called
// concurrently, and have the contracts of Account's methods of the same names.
//
// A call that finds its connection dead is made again, once, on another one, if it can have
// changed nothing or can be repeated. A rename whose answer was lost is never repeated.
type Pool struct {
	most int // connections at a time
	dial func(context.Context) (*Account, error)

	mu      sync.Mutex
	closed  bool
	members []*member
	dialing *attempt // one at a time; nil if there is none
	ending  sync.WaitGroup
	refused error         // the server refused the login; nil after a login that succeeded
	bar     time.Duration // from that refusal to the next try
	until   time.Time     // when that is
	narrow  time.Time     // before this, no other connection is tried beside a live one
}

// member is a connection of the pool.
type member struct {
	*Account
	calls int // under way
}

// attempt is a dial that several callers wait for.
type attempt struct {
	done        chan struct{} // closed at its end; the others are set before
	err         error
	interrupted bool // by the context of the caller who began it, so it proves nothing
}

// NewPool returns a pool that has no connection yet.
func NewPool(cfg Config) *Pool {
	p := &Pool{most: max(cfg.Connections, 1)}
	p.dial = func(ctx context.Context) (*Account, error) { return dialTwice(ctx, cfg) }
	return p
}

// dialTwice dials, and once more if the server refused the connection or broke it off before
// the login was decided.
func dialTwice(ctx context.Context, cfg Config) (*Account, error) {
	a, err := Dial(ctx, cfg)
	var failure *Error
	if !errors.As(err, &failure) || !failure.brokenOff {
		return a, err
	}
	timer := time.NewTimer(redialAfter + rand.N(redialAfter))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, interrupted(ctx, failure.Op)
	case <-timer.C:
		return Dial(ctx, cfg)
	}
}

// Connect logs in unless the account is logged in already. Its errors are those of Dial.
func (p *Pool) Connect(ctx context.Context) error {
	m, err := p.acquire(ctx)
	if err == nil {
		p.release(m)
	}
	return err
}

// Close ends the connections. Calls under way return ErrUnreachable, and so do later ones.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	for _, m := range p.members {
		p.retire(m)
	}
	p.members = nil
	dialing := p.dialing
	p.mu.Unlock()
	if dialing != nil {
		<-dialing.done
	}
	p.ending.Wait()
	return nil
}

// retire closes a connection without waiting for it. p.mu is held.
func (p *Pool) retire(m *member) {
	p.ending.Go(func() { _ = m.Close() }) // returns nil
}

// acquire returns the live connection with the fewest calls under way. If there is none, or all
// are busy and there may be more, it dials. The caller releases the connection.
func (p *Pool) acquire(ctx context.Context) (*member, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, &Error{Op: "use the sftp account", Kind: ErrUnreachable, Err: errClosed}
		}
		best := p.idlest()
		barred := p.refused != nil && time.Now().Before(p.until)
		if best != nil && (best.calls == 0 || len(p.members) >= p.most || p.dialing != nil || barred || time.Now().Before(p.narrow)) {
			best.calls++
			p.mu.Unlock()
			return best, nil
		}
		if barred {
			defer p.mu.Unlock()
			return nil, p.barred()
		}
		under := p.dialing
		if under == nil {
			under = &attempt{done: make(chan struct{})}
			p.dialing = under
			p.mu.Unlock()
			p.try(ctx, under, best != nil)
		} else {
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return nil, interrupted(ctx, "connect to the sftp server")
		case <-under.done:
		}
		// The failure of a dial is that of every caller that waited for it.
		if best == nil && under.err != nil && !under.interrupted {
			return nil, under.err
		}
		if ctx.Err() != nil {
			return nil, interrupted(ctx, "connect to the sftp server")
		}
	}
}

// idlest returns the live connection with the fewest calls under way, nil if there is none.
// It drops those that have ended. p.mu is held.
func (p *Pool) idlest() *member {
	p.members = slices.DeleteFunc(p.members, func(m *member) bool {
		dead := m.ended() != nil
		if dead {
			p.retire(m)
		}
		return dead
	})
	if len(p.members) == 0 {
		return nil
	}
	return slices.MinFunc(p.members, func(a, b *member) int { return a.calls - b.calls })
}

// barred is the error while a refused login is not tried again. p.mu is held.
func (p *Pool) barred() error {
	var failure *Error
	if !errors.As(p.refused, &failure) {
		return p.refused
	}
	again := *failure
	again.Err = fmt.Errorf("%w; not tried again before %s, so that the server does not lock the account",
		failure.Err, p.until.Format(time.TimeOnly))
	return &again
}

// try makes a connection and records what came of it. further means that there is a live one
// already.
func (p *Pool) try(ctx context.Context, under *attempt, further bool) {
	a, err := p.dial(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(under.done)
	p.dialing, under.err, under.interrupted = nil, err, ctx.Err() != nil
	switch {
	case err == nil:
		m := &member{Account: a}
		if p.refused, p.bar = nil, 0; p.closed {
			p.retire(m)
			return
		}
		p.members = append(p.members, m)
	case errors.Is(err, ErrLogin):
		p.bar = min(max(2*p.bar, firstBar), lastBar)
		p.refused, p.until = err, time.Now().Add(p.bar)
	case further:
		p.narrow = time.Now().Add(narrowFor)
	}
}

func (p *Pool) release(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.calls--
}

// call runs f on a connection. If the connection is lost, it runs f once more on another one,
// if f says that it may be repeated.
func (p *Pool) call(ctx context.Context, f func(*Account) (repeatable bool, err error)) error {
	for attempt := 1; ; attempt++ {
		m, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		repeatable, err := f(m.Account)
		p.release(m)
		// A call that stalled has waited a whole timeout already.
		if !repeatable || attempt == 2 || !errors.Is(err, ErrUnreachable) || errors.Is(err, errStalled) || ctx.Err() != nil {
			return err
		}
	}
}

// List is Account.List.
func (p *Pool) List(ctx context.Context, dir string) (entries []Entry, err error) {
	err = p.call(ctx, func(a *Account) (bool, error) {
		entries, err = a.List(ctx, dir)
		return true, err
	})
	return entries, err
}

// Lstat is Account.Lstat.
func (p *Pool) Lstat(ctx context.Context, name string) (e Entry, err error) {
	err = p.call(ctx, func(a *Account) (bool, error) {
		e, err = a.Lstat(ctx, name)
		return true, err
	})
	return e, err
}

// Rename is Account.Rename. If the connection is lost once the server may have the request, the
// error is ErrUnreachable, and the file may have either name.
func (p *Pool) Rename(ctx context.Context, from, to string) error {
	return p.call(ctx, func(a *Account) (bool, error) {
		requested, err := a.rename(ctx, from, to)
		return !requested, err
	})
}

// Fetch is Account.Fetch. It is repeated only while nothing was written to w.
func (p *Pool) Fetch(ctx context.Context, name string, w io.Writer) (n int64, err error) {
	err = p.call(ctx, func(a *Account) (bool, error) {
		n, err = a.Fetch(ctx, name, w)
		return n == 0, err
	})
	return n, err
}

// Publish is Account.Publish.
func (p *Pool) Publish(ctx context.Context, dir, name string, content io.ReadSeeker) error {
	return p.call(ctx, func(a *Account) (bool, error) { return true, a.Publish(ctx, dir, name, content) })
}

// Remove is Account.Remove.
func (p *Pool) Remove(ctx context.Context, name string) error {
	return p.call(ctx, func(a *Account) (bool, error) { return true, a.Remove(ctx, name) })
}

// Mkdir is Account.Mkdir.
func (p *Pool) Mkdir(ctx context.Context, dir string) error {
	return p.call(ctx, func(a *Account) (bool, error) { return true, a.Mkdir(ctx, dir) })
}

// Handle is one caller's use of a pool. Its Close leaves the connection open for the others and
// for the caller's next handle.
type Handle struct{ *Pool }

// Close does nothing: the connection stays open.
func (Handle) Close() error { return nil }

// Open connects as Connect does, and returns a handle.
func (p *Pool) Open(ctx context.Context) (Handle, error) { return Handle{p}, p.Connect(ctx) }
