package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"billdrop/ingest/durable"
	"billdrop/ingest/inbox"
)

// maxSecret bounds a key or password file, in bytes.
const maxSecret = 64 << 10

// ErrSecret is in every error about a key or password file that is not used: it is
// missing, empty, not a file, or others may read it. No message quotes the content.
var ErrSecret = errors.New("secret file refused")

// Error is a file that cannot be used.
type Error struct {
	What string // what is wrong, and where
	Hint string // what to do about it
	kind error
}

func (e *Error) Error() string  { return e.What }
func (e *Error) Advice() string { return e.Hint }
func (e *Error) Unwrap() error  { return e.kind }

func refuse(hint, format string, args ...any) error {
	return &Error{What: fmt.Sprintf(format, args...), Hint: hint, kind: ErrSecret}
}

// CheckSecret reports whether the file that key names, if it names one, exists, can be read,
// and is closed to others by the rule of inbox.Exposed.
func CheckSecret(key, path string) error {
	if path == "" {
		return nil
	}
	f, err := openSecret(key, path)
	if err != nil {
		return err
	}
	return f.Close()
}

// CheckFiles checks the files that the SFTP login needs: first all of them for what others may
// do with them, then what is in them.
func (s *SFTP) CheckFiles() error {
	wrong := []error{
		CheckSecret("sftp.private_key_file", s.PrivateKeyFile), CheckSecret("sftp.private_key_passphrase_file", s.PassphraseFile),
		CheckSecret("sftp.password_file", s.PasswordFile),
	}
	f, err := durable.OpenRegular(s.KnownHostsFile)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		wrong = append(wrong, &Error{What: "sftp.known_hosts_file: " + err.Error(), Hint: hostKeyHint, kind: err})
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	return s.Account().CheckFiles()
}

// Account is where the SFTP account is and how to log in.
func (s *SFTP) Account() inbox.Config {
	return inbox.Config{
		Address: s.Address, User: s.User, PrivateKeyFile: s.PrivateKeyFile, PassphraseFile: s.PassphraseFile,
		CertificateFile: s.CertificateFile, PasswordFile: s.PasswordFile, KnownHostsFile: s.KnownHostsFile,
		ProxyJump: s.ProxyJump, Connections: s.Connections, Temporary: s.TemporaryName,
		LegacyAlgorithms: s.LegacyAlgorithms, Timeout: s.Timeout,
	}
}

// hostKeyHint says where the line for known_hosts comes from.
const hostKeyHint = "write the server's host key into it (ssh-keyscan -p PORT HOST prints it; compare the fingerprint with what the server's operator says)"

// ReadSecret returns the content of the file that key names, without the white space
// around it and without a byte order mark.
func ReadSecret(key, path string) (string, error) {
	f, err := openSecret(key, path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", refuse("let the user that billdrop runs as read it", "%s: cannot read %s: %v", key, path, reason(err))
	}
	text := strings.TrimSpace(string(inbox.PlainText(b)))
	if text == "" || len(b) > maxSecret {
		return "", refuse("write the secret into it, and nothing else", "%s: %s is empty, or far too long", key, path)
	}
	return text, nil
}

// looksLikeKey matches the name of a file that is the secret itself, written in the place
// of the name.
var looksLikeKey = regexp.MustCompile(`^([sp]k_|whsec_)`)

// openSecret opens the file and checks the rights of what it has opened.
func openSecret(key, path string) (*os.File, error) {
	f, err := durable.OpenRegular(path)
	if errors.Is(err, durable.ErrNotRegular) {
		return nil, refuse("name the file that holds the secret", "%s: %s is not a file", key, path)
	}
	if errors.Is(err, os.ErrNotExist) && looksLikeKey.MatchString(filepath.Base(path)) {
		return nil, refuse("write the key into a file (mode 0600) and name that file",
			"%s: there is no such file, and its name looks like a key", key)
	}
	if err != nil {
		return nil, refuse("create the file (mode 0600, owned by the user that billdrop runs as), or name another",
			"%s: cannot read %s: %v", key, path, reason(err))
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = refuse("let the user that billdrop runs as read it", "%s: cannot read %s: %v", key, path, reason(err))
	case inbox.Exposed(info):
		err = refuse("close it: chmod 600 "+ShellWord(path), "%s: others may read %s (mode %04o)", key, path, info.Mode().Perm())
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

// reason is the error without the operation and path, which the message has already.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
