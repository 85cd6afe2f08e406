package client

import (
	"fmt"
	"log/slog"
	"strings"
)

// Prefixes of Moment's keys. Public keys (pk_) are for browsers; the Billing API does not
// accept them.
const (
	secretPrefix = "sk_"
	testPrefix   = "sk_test_"
	publicPrefix = "pk_"
	maxKeyBytes  = 512
)

// Key is a secret key of the API. Printing one (fmt with any verb, slog, JSON, YAML,
// text) writes a placeholder that shows only whether it is a test or a live key; this
// package alone reads the secret. A Key must not be the key of a JSON object, because
// encoding/json writes strings there as they are.
type Key string

// ParseKey reads a secret key. It drops space around it, such as the line end of a key
// file. The error is an *Error, which says what is wrong with the key and never quotes
// it.
func ParseKey(s string) (Key, error) {
	s = strings.TrimSpace(s)
	wrong := func(problem, hint string) (Key, error) { return "", &Error{"key", problem, hint} }
	switch {
	case s == "":
		return wrong("is empty", "put the secret key (sk_test_… or sk_…) there")
	case strings.HasPrefix(s, publicPrefix):
		return wrong("is a public key (pk_…)", "use the secret key (sk_test_… or sk_…)")
	case !strings.HasPrefix(s, secretPrefix):
		return wrong("is not a secret key", "use the one that begins with sk_test_ or sk_")
	case s == testPrefix || s == secretPrefix:
		return wrong("is cut off after its prefix", "copy the whole key")
	case len(s) > maxKeyBytes:
		return wrong(fmt.Sprintf("is longer than %d bytes", maxKeyBytes), "copy the key alone")
	}
	for i := range len(s) {
		// The key is sent in a header (RFC 9110, section 5.5). A space or line end inside
		// it comes from a second line in the file, or from a paste that went wrong.
		if s[i] <= ' ' || s[i] > '~' {
			return wrong("has a space, a line end or a character outside ASCII in it", "copy the key alone")
		}
	}
	return Key(s), nil
}

// Mode returns "test" for a key that moves no money, and "live" for every other.
func (k Key) Mode() string {
	if strings.HasPrefix(string(k), testPrefix) {
		return "test"
	}
	return "live"
}

// changed returns the key with its last characters, at most four, replaced by ones that no
// key of the API's has.
func (k Key) changed() Key {
	const tail = 4
	secret := strings.TrimPrefix(strings.TrimPrefix(string(k), testPrefix), secretPrefix)
	kept := string(k)[:len(k)-min(tail, len(secret))]
	return Key(kept + strings.Repeat("~", len(k)-len(kept)))
}

// String returns the placeholder.
func (k Key) String() string {
	if k.Mode() == "test" {
		return "sk_test_[redacted]"
	}
	return "sk_[redacted]"
}

// Format writes the placeholder for every verb. Without it, %x, %d and %#v would bypass
// String.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue returns the placeholder.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns the placeholder; encoders of JSON and YAML use it.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Secret is another secret, such as a password. Printing one writes a placeholder, as for a
// Key.
type Secret string

// String returns the placeholder.
func (s Secret) String() string { return "[redacted]" }

// Format writes the placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue returns the placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns the placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
