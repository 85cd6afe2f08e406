package client

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Prefixes of Moment's keys. Public keys (pk_) are for browsers and are no use here.
const (
	secretPrefix = "sk_"
	testPrefix   = "sk_test_"
	maxKeyBytes  = 512
)

// Key is a secret key of the API. Whatever prints it (fmt with any verb, slog, JSON, YAML, text) gets a
// placeholder that tells test from live and nothing more; only this package reads the secret itself. It must not
// be the key of a JSON object: encoding/json takes strings there as they are.
type Key string

// ParseKey reads a secret key; space around it, such as a key file's line end, is dropped. The error says what is
// wrong with it but never quotes it.
func ParseKey(s string) (Key, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return "", errors.New("API key is empty: put the secret key (sk_test_… or sk_…) there")
	case strings.HasPrefix(s, "pk_"):
		return "", errors.New("API key is a public key (pk_…): use the secret key (sk_test_… or sk_…)")
	case !strings.HasPrefix(s, secretPrefix):
		return "", errors.New("API key is no secret key: it should start with sk_test_ or sk_")
	case s == testPrefix || s == secretPrefix:
		return "", errors.New("API key is cut off after its prefix: copy the whole key")
	case len(s) > maxKeyBytes:
		return "", fmt.Errorf("API key is longer than %d bytes: copy the key alone", maxKeyBytes)
	}
	for i := range len(s) {
		// It goes into a header: a space or line end inside is a second line of the file, or a paste gone wrong.
		if s[i] <= ' ' || s[i] > '~' {
			return "", errors.New("API key has a space, a line end or another odd character inside: copy the key alone")
		}
	}
	return Key(s), nil
}

// Mode is "test" for a key that moves no money, and "live" for every other.
func (k Key) Mode() string {
	if strings.HasPrefix(string(k), testPrefix) {
		return "test"
	}
	return "live"
}

// String is the placeholder.
func (k Key) String() string {
	if k.Mode() == "test" {
		return "sk_test_[redacted]"
	}
	return "sk_[redacted]"
}

// GoString is the placeholder.
func (k Key) GoString() string { return k.String() }

// Format writes the placeholder for every verb: %x and %d of a string type would bypass String.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue is the placeholder.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText writes the placeholder; JSON and YAML encoders use it.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
