package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Entry is one name in a remote directory, by lstat: a symbolic link is not followed.
type Entry struct {
	Name    string // base name
	Size    int64  // bytes
	ModTime time.Time
	Regular bool // a regular file; all three are false for a device, a socket or a pipe
	Dir     bool
	Link    bool
}

func entry(info fs.FileInfo) Entry {
	return Entry{
		Name:    info.Name(),
		Size:    info.Size(),
		ModTime: info.ModTime(),
		Regular: info.Mode().IsRegular(),
		Dir:     info.IsDir(),
		Link:    info.Mode()&fs.ModeSymlink != 0,
	}
}

// oldestFirst is the order of listings: by time, then by name.
func oldestFirst(a, b Entry) int {
	return cmp.Or(a.ModTime.Compare(b.ModTime), strings.Compare(a.Name, b.Name))
}

// List returns the entries of a directory, oldest first, then by name. Errors wrap
// ErrNoDirectory and ErrPermission among others. Of a directory that lists more than 100,000
// entries, it returns those that it read, and an error that wraps ErrListingCut.
func (a *Account) List(ctx context.Context, dir string) ([]Entry, error) {
	var entries []Entry
	err := a.call(ctx, func(op string) error {
		infos, cut, err := a.readDir(dir, maxEntries)
		if err != nil {
			return a.failure(op, missingDir(kind(err)), err)
		}
		entries = make([]Entry, len(infos))
		for i, info := range infos {
			entries[i] = a.entryOf(path.Join(dir, info.Name()), info)
		}
		slices.SortFunc(entries, oldestFirst)
		if cut != "" {
			return a.failure(op, ErrListingCut, errors.New(cut))
		}
		return nil
	}, "list %q", dir)
	if err != nil && !errors.Is(err, ErrListingCut) {
		return nil, err
	}
	return entries, err
}

// Lstat returns one entry. Errors wrap ErrNotExist if the name does not exist.
func (a *Account) Lstat(ctx context.Context, name string) (Entry, error) {
	var e Entry
	err := a.call(ctx, func(op string) (err error) {
		e, err = a.lstat(op, name)
		return err
	}, "stat %q", name)
	return e, err
}

// lstat is Lstat within a call.
func (a *Account) lstat(op, name string) (Entry, error) {
	info, err := a.sftp.Lstat(name)
	if err != nil {
		k := kind(err)
		if k == ErrRefused && a.absent(name) {
			k = ErrNotExist
		}
		return Entry{}, a.failure(op, k, err)
	}
	e := a.entryOf(name, info)
	e.Name = path.Base(name)
	return e, nil
}

// Rename moves a file, and never over another one. Errors wrap ErrNotExist if from is gone
// (another account may have moved it first), ErrExists if to is taken, and ErrNoDirectory if
// the directory of to does not exist. Of several accounts that rename the same file at once,
// exactly one returns nil.
//
// On a server whose own rename overwrites (OpenSSH's does not), a file that appears at to
// between the check and the rename is lost.
func (a *Account) Rename(ctx context.Context, from, to string) error {
	_, err := a.rename(ctx, from, to)
	return err
}

// rename is Rename. requested reports whether the server was asked to rename the file, so that
// it may have done so whatever the error is.
func (a *Account) rename(ctx context.Context, from, to string) (requested bool, err error) {
	err = a.call(ctx, func(op string) error {
		if _, err := a.lstat(op, to); !errors.Is(err, ErrNotExist) {
			return a.taken(op, from, err)
		}
		requested = true
		err := a.sftp.Rename(from, to)
		if err == nil {
			return nil
		}
		return a.whyNot(op, from, to, err)
	}, "rename %q to %q", from, to)
	return requested, err
}

// taken returns the error of a rename whose target exists (err is nil) or could not be checked.
func (a *Account) taken(op, from string, err error) error {
	if err != nil {
		return err
	}
	if _, err := a.lstat(op, from); err != nil {
		return err // gone: most likely another account moved this file there
	}
	return a.failure(op, ErrExists, nil)
}

// whyNot returns why a rename failed. Servers report a taken target as a bare failure, and a
// missing target directory as a missing file.
func (a *Account) whyNot(op, from, to string, cause error) error {
	k := kind(cause)
	if k == ErrUnreachable {
		return a.failure(op, k, cause)
	}
	if _, err := a.lstat(op, from); err != nil {
		return err
	}
	switch _, err := a.lstat(op, to); {
	case err == nil:
		return a.failure(op, ErrExists, cause)
	case !errors.Is(err, ErrNotExist):
		return err
	case k == ErrNotExist:
		return a.failure(op, ErrNoDirectory, fmt.Errorf("%q", path.Dir(to)))
	default:
		return a.failure(op, k, cause)
	}
}

// Remove removes a file or a link. A name that does not exist is not an error; a directory is
// ErrNotRegular.
func (a *Account) Remove(ctx context.Context, name string) error {
	return a.call(ctx, func(op string) error { return a.remove(op, name) }, "remove %q", name)
}

// remove is Remove within a call.
func (a *Account) remove(op, name string) error {
	// The library's Remove removes empty directories too, so the kind is checked first.
	e, err := a.lstat(op, name)
	switch {
	case errors.Is(err, ErrNotExist):
		return nil
	case err != nil:
		return err
	case e.Dir:
		return a.failure(op, ErrNotRegular, errors.New("it is a directory"))
	}
	if err := a.sftp.Remove(name); err != nil && kind(err) != ErrNotExist {
		return a.failure(op, kind(err), err)
	}
	return nil
}

// Mkdir creates a directory and its parents. An existing directory is not an error; another
// thing of that name is ErrExists.
func (a *Account) Mkdir(ctx context.Context, dir string) error {
	return a.call(ctx, func(op string) error { return a.mkdir(op, path.Clean(dir)) }, "create directory %q", dir)
}

// mkdir is Mkdir within a call.
func (a *Account) mkdir(op, dir string) error {
	e, err := a.lstat(op, dir)
	switch {
	case err == nil && (e.Dir || e.Link):
		return nil
	case err == nil:
		return a.failure(op, ErrExists, fmt.Errorf("%q is not a directory", dir))
	case !errors.Is(err, ErrNotExist):
		return err
	}
	if parent := path.Dir(dir); parent != dir {
		if err := a.mkdir(op, parent); err != nil {
			return err
		}
	}
	if err := a.sftp.Mkdir(dir); err != nil {
		if e, statErr := a.lstat(op, dir); statErr == nil && e.Dir {
			return nil // another program was faster
		}
		return a.failure(op, kind(err), err)
	}
	return nil
}

// missingDir turns ErrNotExist of a call on a directory into ErrNoDirectory.
func missingDir(kind error) error {
	if kind == ErrNotExist {
		return ErrNoDirectory
	}
	return kind
}
