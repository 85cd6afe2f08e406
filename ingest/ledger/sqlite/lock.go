package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"billdrop/ingest/ledger"
)

// lock keeps a ledger for one Ledger of one process. It has two parts, because each covers
// what the other cannot. NAME.lock beside the file covers a file that is exchanged for
// another one of that name, such as a restored backup. The lock of the file itself covers
// a file that gets a second name (a hard link) while it is in use. One that has several is
// refused; see checkLinks.
type lock struct {
	name *flock.Flock
	file *os.File // nil before it is taken, and where the system has no such lock
}

// realPath returns the path of the file that path leads to, without symbolic links, so
// that everything beside the ledger is always in one place. The file may be missing.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	found, err := filepath.EvalSymlinks(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", advised("restore that file, or remove the link", "it is a symbolic link to a file that does not exist")
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// takeName takes NAME.lock. It comes before everything else, because what follows may
// change the file.
func takeName(path string) (*lock, error) {
	k := &lock{name: flock.New(path+".lock", flock.SetPermissions(0o600))}
	locked, err := k.name.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("take its lock: %w", err)
	case !locked:
		return nil, errors.Join(ledger.ErrLocked, k.name.Close())
	}
	return k, nil
}

// release frees both locks. It comes after the connections are closed: closing any
// descriptor of the file drops the locks that SQLite holds on it in this process (see
// "How To Corrupt An SQLite Database File", section 2.2).
func (k *lock) release() error {
	var errs []error
	if k.file != nil {
		errs = append(errs, dropFile(k.file))
	}
	return errors.Join(append(errs, k.name.Close())...)
}
