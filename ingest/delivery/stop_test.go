package delivery

import (
	"errors"
	"fmt"
	"testing"

	"billdrop/client"
)

// Every reason to stop is one, says what to do, and is the set-up's where waiting does not help.
func TestStopReason(t *testing.T) {
	for kind, setup := range map[client.Kind]bool{
		client.KeyRefused: true, client.Redirected: true, client.Untrusted: true, client.Mismatched: true, client.Refused: true, client.ProxyRefused: true,
		client.ServerFault: false,
	} {
		err := fmt.Errorf("file x: %w", stopReason(client.Answer{Kind: kind, Status: 400}))
		if !errors.Is(err, ErrStopped) || errors.Is(err, ErrSetup) != setup {
			t.Errorf("%v: stopped %v, set-up %v", err, errors.Is(err, ErrStopped), errors.Is(err, ErrSetup))
		}
		var stop *Stop
		if !errors.As(err, &stop) || setup && stop.Advice() == "" {
			t.Errorf("%v: no advice", err)
		}
	}
}
