package inbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys checks a server's host key against a known_hosts file. It keeps the reason of a
// refusal.
type hostKeys struct {
	file    string
	address string // host:port, as it is dialled
	known   *knownhosts.HostKeyDB
	refusal *Error // set by check, on the goroutine of the handshake
	trusted bool   // a key was accepted: a later failure has another reason
}

// readHostKeys reads the known_hosts file. Its errors wrap ErrConfig.
func readHostKeys(op, file, address string) (*hostKeys, error) {
	const how = "write the server's host key into a file (ssh-keyscan prints the key; verify its fingerprint with the server's operator), and name the file in sftp.known_hosts_file"
	if file == "" {
		return nil, &Error{Op: op, Kind: ErrConfig, Err: errors.New("no known_hosts file is configured"), Hint: how}
	}
	known, err := knownhosts.NewDB(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &Error{Op: op, Kind: ErrConfig, Err: fmt.Errorf("known_hosts file %s is missing", file), Hint: how}
	case err != nil:
		return nil, &Error{Op: op, Kind: ErrConfig, Err: fmt.Errorf("read known_hosts: %w", err), Hint: "correct or replace " + file}
	}
	return &hostKeys{file: file, address: address, known: known}, nil
}

// algorithms returns the host key algorithms to ask for: first those of the keys that
// known_hosts holds, because a server with several keys would otherwise show one that is not
// among them. The others follow, so that a server without the known ones shows what it has.
func (h *hostKeys) algorithms() []string {
	algorithms := h.known.HostKeyAlgorithms(h.address)
	for _, name := range ssh.SupportedAlgorithms().HostKeys {
		if !slices.Contains(algorithms, name) {
			algorithms = append(algorithms, name)
		}
	}
	return algorithms
}

// check is an ssh.HostKeyCallback. It runs on the goroutine of the handshake.
func (h *hostKeys) check(address string, remote net.Addr, key ssh.PublicKey) error {
	err := h.known.HostKeyCallback()(address, remote, key)
	if err == nil {
		h.trusted = true
		return nil
	}
	offered := fmt.Sprintf("offered: %s %s", key.Type(), ssh.FingerprintSHA256(bare(key)))
	host, port, splitErr := net.SplitHostPort(h.address)
	if splitErr != nil {
		host, port = h.address, "22"
	}
	h.refusal = &Error{Kind: ErrHostKey}
	var keyErr *xknownhosts.KeyError
	var revoked *xknownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		h.refusal.Err = fmt.Errorf("%s, which %s marks as revoked", offered, h.file)
		h.refusal.Hint = "do not connect; ask the server's operator for the new key"
	case errors.As(err, &keyErr) && len(keyErr.Want) > 0:
		h.refusal.Err = fmt.Errorf("%s, but %s holds %s", offered, h.file, wanted(keyErr.Want))
		h.refusal.Hint = "the key was replaced, or the connection is intercepted: ask the server's operator for the fingerprint; replace the old line only if it is the one offered"
	case errors.As(err, &keyErr):
		h.refusal.Err = fmt.Errorf("%s, and %s does not hold a key of this server", offered, h.file)
		h.refusal.Hint = fmt.Sprintf("verify the fingerprint with the server's operator, then run: ssh-keyscan -p %s %s >> %s", port, host, h.file)
	default:
		h.refusal.Err = fmt.Errorf("%s: %w", offered, err)
		h.refusal.Hint = "ask the server's operator about its host certificate"
	}
	return h.refusal
}

// bare returns the key of a certificate, whose fingerprint is the one that people compare, and
// any other key as it is.
func bare(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// wanted lists the keys that known_hosts holds for the server.
func wanted(keys []xknownhosts.KnownKey) string {
	var all []string
	for _, k := range keys {
		all = append(all, fmt.Sprintf("%s %s (line %d)", k.Key.Type(), ssh.FingerprintSHA256(k.Key), k.Line))
	}
	return strings.Join(all, ", ")
}
