package inbox

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/pkg/sftp"
)

// Servers that lack a part of SFTP version 3 (draft-ietf-secsh-filexfer-02) are used as well as
// they allow. What each of them lacks is found by its answers.

const (
	typeBits = 0o170000 // of a file's permissions: what kind of file it is

	// readAhead is how much of a file is asked for at a time on a server without FSTAT, in bytes.
	readAhead = 1 << 20
)

// refusedOrUnsupported reports whether the server answered a request, but not with what was
// asked for, and gave no reason.
func refusedOrUnsupported(err error) bool { return kind(err) == ErrRefused || unsupported(err) }

// entryOf returns the entry of a path. A server may send attributes without the kind of the file.
// Then it is a directory if it can be listed, and otherwise a regular file.
func (a *Account) entryOf(name string, info fs.FileInfo) Entry {
	e := entry(info)
	stat, ok := info.Sys().(*sftp.FileStat)
	if !ok || stat.Mode&typeBits != 0 {
		return e
	}
	_, _, err := a.readDir(name, 1)
	e.Dir, e.Regular, e.Link = err == nil, err != nil, false
	return e
}

// absent reports whether a name is missing from its directory, or the directory is missing, for
// servers that answer a request for a missing file with a bare failure.
func (a *Account) absent(name string) bool {
	dir := path.Dir(name)
	if dir == name || dir == "." {
		return false
	}
	infos, cut, err := a.readDir(dir, maxEntries)
	if err != nil {
		return kind(err) == ErrNotExist || kind(err) == ErrRefused && a.absent(dir)
	}
	return cut == "" && !slices.ContainsFunc(infos, func(info fs.FileInfo) bool { return info.Name() == path.Base(name) })
}

// stat returns the entry of an open file, or on a server without FSTAT that of its name. handle
// reports which.
func (a *Account) stat(op string, f *sftp.File) (e Entry, handle bool, err error) {
	if !a.noFstat.Load() {
		info, err := f.Stat()
		if err == nil {
			return a.entryOf(f.Name(), info), true, nil
		}
		if !refusedOrUnsupported(err) {
			return Entry{}, true, a.failure(op, kind(err), err)
		}
		a.noFstat.Store(true)
	}
	e, err = a.lstat(op, f.Name())
	return e, false, err
}

// copyFrom copies an open file to w. The library's own way, which is faster, needs FSTAT.
func (a *Account) copyFrom(f *sftp.File, w io.Writer) error {
	if !a.noFstat.Load() {
		_, err := f.WriteTo(w)
		return err
	}
	_, err := io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, readAhead))
	return err
}

// create opens a new file for writing. If the server has no O_EXCL, it opens one that does not
// exist by name.
func (a *Account) create(op, name string) (*sftp.File, error) {
	f, err := a.sftp.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err == nil || !refusedOrUnsupported(err) {
		return f, err
	}
	if _, statErr := a.lstat(op, name); !errors.Is(statErr, ErrNotExist) {
		return nil, err
	}
	return a.sftp.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
}

// DefaultTemporaryName is the TemporaryName of a Config that has none.
const DefaultTemporaryName = ".{name}.part"

// CheckTemporaryName returns an error unless pattern is empty or a valid Config.TemporaryName.
func CheckTemporaryName(pattern string) error {
	if pattern == "" {
		return nil
	}
	if strings.Count(pattern, "{name}") != 1 || pattern == "{name}" || strings.ContainsFunc(pattern, func(r rune) bool { return r < ' ' || r == '/' }) {
		return errors.New("is not valid; write {name} and something before or after it, such as .{name}.part or {name}.tmp")
	}
	return nil
}

// TemporaryName returns the name under which a file of this name is written.
func (c Config) TemporaryName(name string) string {
	return strings.Replace(cmp.Or(c.Temporary, DefaultTemporaryName), "{name}", name, 1)
}
