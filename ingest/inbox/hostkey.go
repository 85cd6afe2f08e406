package inbox

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"billdrop/ingest/durable"
)

// knownHosts is a known_hosts file, read as OpenSSH reads it: names without regard to letter
// case, and lines that cannot be read passed over.
type knownHosts struct {
	file string
	db   *knownhosts.HostKeyDB
}

// readKnownHosts reads the file. Its errors wrap ErrConfig.
func readKnownHosts(op, file string) (*knownHosts, error) {
	const how = "write the server's host key into a file (ssh-keyscan prints the key; verify its fingerprint with the server's operator), and name the file in sftp.known_hosts_file"
	if file == "" {
		return nil, misconfigured(op, how, "no known_hosts file is configured")
	}
	text, _, err := durable.ReadRegular(file, maxPublicFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, misconfigured(op, how, "known_hosts file %s is missing", file)
	case err != nil:
		return nil, misconfigured(op, "name a file, and let billdrop's user read it", "read known_hosts: %w", err)
	}
	plain := PlainText(text)
	lines, kept, dropped := readableLines(plain)
	if bytes.Equal(text, plain) && bytes.Equal(bytes.TrimRight(text, "\n"), bytes.TrimRight(bytes.Join(lines, []byte("\n")), "\n")) {
		// The usual case needs no directory for temporary files, which a container may not have.
		if db, err := knownhosts.NewDB(file); err == nil {
			return &knownHosts{file: file, db: db}, nil
		}
	}
	if kept == 0 && dropped > 0 {
		return nil, misconfigured(op, "correct or replace "+file, "known_hosts file %s has no line that can be read", file)
	}
	db, err := parseKnownHosts(lines)
	if err != nil {
		return nil, misconfigured(op, "keep in it only lines that ssh can read, with names in lower case, and no byte order mark",
			"read known_hosts file %s: %w", file, err)
	}
	return &knownHosts{file: file, db: db}, nil
}

// readableLines returns the lines of a known_hosts file with names in lower case and without
// those that cannot be read, which OpenSSH passes over. Lines keep their numbers.
func readableLines(text []byte) (lines [][]byte, kept, dropped int) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			if _, _, _, _, _, err := ssh.ParseKnownHosts(line); err != nil {
				line = nil
				dropped++
			} else {
				line = lowerNames(line)
				kept++
			}
		}
		lines = append(lines, line)
	}
	return lines, kept, dropped
}

// lowerNames writes the host names of a line in lower case. A hashed name is the hash of the
// name in lower case.
func lowerNames(line []byte) []byte {
	names := 0 // where they begin
	if line[0] == '@' {
		names = bytes.IndexAny(line, " \t")
		names += len(line[names:]) - len(bytes.TrimLeft(line[names:], " \t"))
	}
	end := names + bytes.IndexAny(line[names:], " \t")
	if line[names] == '|' {
		return line
	}
	return slices.Concat(line[:names], bytes.ToLower(line[names:end]), line[end:])
}

// lineOf finds the number of the line in an error of the library, which has no type for it.
var lineOf = regexp.MustCompile(`known_hosts:([0-9]+): `)

// parseKnownHosts parses lines. The library reads files alone, so they become one for a moment.
// A line that it cannot read is dropped.
func parseKnownHosts(lines [][]byte) (*knownhosts.HostKeyDB, error) {
	dir, err := os.MkdirTemp("", "billdrop-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "known_hosts")
	for {
		if err := os.WriteFile(file, bytes.Join(lines, []byte("\n")), 0o600); err != nil {
			return nil, err
		}
		db, err := knownhosts.NewDB(file)
		if err == nil {
			return db, nil
		}
		found := lineOf.FindStringSubmatch(err.Error())
		if found == nil {
			return nil, err
		}
		n, err := strconv.Atoi(found[1])
		if err != nil || n < 1 || n > len(lines) || lines[n-1] == nil {
			return nil, fmt.Errorf("line %s cannot be read", found[1])
		}
		lines[n-1] = nil
	}
}

// of returns the keys of one server. address is host:port, as it is dialled.
func (k *knownHosts) of(address string) *hostKeys {
	return &hostKeys{knownHosts: k, address: strings.ToLower(address)}
}

// hostKeys checks a server's host key against a known_hosts file. It keeps the reason of a
// refusal.
type hostKeys struct {
	*knownHosts
	address string
	refusal *Error // set by check, on the goroutine of the handshake
	trusted bool   // a key was accepted: a later failure has another reason
}

// algorithms returns the host key algorithms to ask for: first those of the keys that
// known_hosts holds, because a server with several keys would otherwise show one that is not
// among them. The others follow, so that a server without the known ones shows what it has.
func (h *hostKeys) algorithms(legacy bool) []string {
	known := h.db.HostKeyAlgorithms(h.address)
	insecure := ssh.InsecureAlgorithms().HostKeys
	if legacy {
		return union(union(known, ssh.SupportedAlgorithms().HostKeys), insecure)
	}
	known = slices.DeleteFunc(known, func(name string) bool { return slices.Contains(insecure, name) })
	return union(known, ssh.SupportedAlgorithms().HostKeys)
}

// check is an ssh.HostKeyCallback. It runs on the goroutine of the handshake.
func (h *hostKeys) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	// The name alone counts. Behind a bastion there is no address of the server.
	err := h.db.HostKeyCallback()(h.address, &net.TCPAddr{IP: net.IPv4zero}, key)
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
