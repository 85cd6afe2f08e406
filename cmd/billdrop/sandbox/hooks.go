package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/describe"
)

// secretFile holds the secret with which events are signed. A receiver reads it there.
const secretFile = "webhook.secret"

// checkHooks checks what was given, before anything is made.
func checkHooks(cfg emulator.HookConfig) error {
	if cfg.Secret != "" {
		if _, err := emulator.NewHooks(cfg); err != nil {
			return describe.Misused(err).Hint("write --webhook-secret whsec_… with base64 after the underscore, or leave it out")
		}
	}
	return checkHookURL(cfg.URL)
}

// checkHookURL checks that events stay on this machine.
func checkHookURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if u.Hostname() == "localhost" {
			return nil
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.Unmap().IsLoopback() {
			return nil
		}
	}
	return describe.Misused(errors.New("--webhook-url is not a web address on loopback")).
		Hint("write one such as http://127.0.0.1:8081/webhooks/sandbox")
}

// newHooks returns what delivers the events of payments, signed with the secret that is
// given, or with the sandbox's own, which stays the same each time the sandbox starts.
func (b *Sandbox) newHooks(cfg emulator.HookConfig) (*emulator.Hooks, error) {
	path := b.Path(secretFile)
	if cfg.Secret == "" {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the sandbox's webhook secret: %w", err)
		}
		if cfg.Secret = strings.TrimSpace(string(text)); cfg.Secret == "" {
			secret := make([]byte, 24)
			rand.Read(secret) // never fails
			cfg.Secret = emulator.NewHookSecret(string(secret))
		}
	}
	hooks, err := emulator.NewHooks(cfg)
	if err != nil {
		return nil, describe.Advise(fmt.Errorf("read the sandbox's webhook secret %s: %w", path, err), "remove the file; the sandbox makes a new one")
	}
	return hooks, WritePrivate(path, cfg.Secret+"\n")
}
