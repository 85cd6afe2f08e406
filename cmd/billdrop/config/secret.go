package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"billdrop/ingest/inbox"
)

// maxSecret bounds a key or password file, in bytes.
const maxSecret = 64 << 10

// ErrSecret wraps every reason for which a key or password file is not used: it is missing, empty, no file, or
// others may read it. Its messages never quote what the file holds.
var ErrSecret = errors.New("secret file refused")

// secretError is told as the message alone: the sentinel is for errors.Is.
type secretError struct{ what string }

func (e *secretError) Error() string        { return e.what }
func (e *secretError) Is(target error) bool { return target == ErrSecret }

func refuse(format string, args ...any) error {
	return &secretError{fmt.Sprintf(format, args...)}
}

// CheckSecret reports whether the file that key names is there, readable, and closed to everybody else, by the rule
// of inbox.Exposed.
func CheckSecret(key, path string) error {
	f, err := openSecret(key, path)
	if err != nil {
		return err
	}
	return f.Close()
}

// ReadSecret returns what stands in the file that key names, without the white space around it.
func ReadSecret(key, path string) (string, error) {
	f, err := openSecret(key, path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", refuse("%s: cannot read %s: %v", key, path, reason(err))
	}
	text := strings.TrimSpace(string(b))
	if text == "" || len(b) > maxSecret {
		return "", refuse("%s: %s is empty, or far too long; write the secret into it, and nothing else", key, path)
	}
	return text, nil
}

// looksLikeKey is what a file's name looks like when it is the secret that should be in the file.
var looksLikeKey = regexp.MustCompile(`^[sp]k_`)

// openSecret looks at the rights of the file that it has opened, not of whatever has the name a moment later.
func openSecret(key, path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && looksLikeKey.MatchString(filepath.Base(path)) {
		return nil, refuse("%s: there is no such file, and what stands there looks like a key itself; write it into a file (mode 0600) and name that file", key)
	}
	if err != nil {
		return nil, refuse("%s: cannot read %s: %v; create the file (mode 0600, owned by the user that billdrop runs as), or name another", key, path, reason(err))
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = refuse("%s: cannot look at %s: %v", key, path, reason(err))
	case !info.Mode().IsRegular():
		err = refuse("%s: %s is not a file; name the file that holds the secret", key, path)
	case inbox.Exposed(info):
		err = refuse("%s: others may read %s (mode %04o); close it: chmod 600 %s", key, path, info.Mode().Perm(), quote(path))
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

// reason is the error without the operation and path that the message has already.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// quote makes a path safe to copy into a shell.
func quote(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+@%:,=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// short writes a duration without the zero units that time.Duration adds: 1m, not 1m0s.
func short(d time.Duration) string {
	s := d.String()
	if s == "0s" {
		return s
	}
	for _, zero := range [...]string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

func feedPath(i int) string { return indexed("feeds", i) }

func indexed(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
