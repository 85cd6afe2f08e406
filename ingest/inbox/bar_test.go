package inbox

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusedLoginIsBarred: ten feeds poll every 30 seconds with a wrong password. One of them
// tries the login, and later and later; all of them return the refusal.
func TestRefusedLoginIsBarred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var tries []time.Duration
		p := NewPool(Config{})
		p.dial = func(context.Context) (*Account, error) {
			tries = append(tries, time.Since(start))
			time.Sleep(time.Second) // the server takes its time
			return nil, &Error{Op: "connect", Kind: ErrLogin, Err: errors.New("user"), Hint: "check the password"}
		}
		for range 2 * 60 { // polls, an hour
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					err := p.Connect(t.Context())
					var failure *Error
					if !errors.Is(err, ErrLogin) || !errors.As(err, &failure) || failure.Advice() != "check the password" {
						t.Errorf("got %v", err)
					}
					if time.Since(start) > time.Minute && len(tries) > 0 && time.Since(start)-tries[len(tries)-1] > 2*time.Second &&
						!strings.Contains(err.Error(), "not tried again before") {
						t.Errorf("at %v: %v", time.Since(start), err)
					}
				})
			}
			wg.Wait()
			time.Sleep(30 * time.Second)
		}
		// After 1, 2, 4, 8 and then 15 minutes, at the next poll.
		if len(tries) < 6 || len(tries) > 8 {
			t.Fatalf("%d tries in an hour: %v", len(tries), tries)
		}
		for i, least := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute} {
			if gap := tries[i+1] - tries[i]; gap < least || gap > least+35*time.Second {
				t.Errorf("try %d came %v after the one before, want %v", i+2, gap, least)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Connect(t.Context()); !errors.Is(err, ErrUnreachable) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestInterruptedDial: a dial that its caller's context ends is made again for those who waited.
func TestInterruptedDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		p := NewPool(Config{})
		p.dial = func(ctx context.Context) (*Account, error) {
			if dials++; dials == 1 {
				<-ctx.Done()
				return nil, interrupted(ctx, "connect")
			}
			return nil, &Error{Op: "connect", Kind: ErrHostKey}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.Connect(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("interrupted: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := p.Connect(t.Context()); !errors.Is(err, ErrHostKey) {
				t.Errorf("the one who waited: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}
