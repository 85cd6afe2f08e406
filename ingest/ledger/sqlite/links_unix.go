//go:build unix

package sqlite

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"billdrop/ingest/ledger"
)

// checkLinks returns an error if the ledger file has other names (hard links). SQLite finds the
// WAL by the name of the file: under another name, the commits that a crash left in it are
// missing, and bills that were sent look as if they were not.
func checkLinks(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Nlink <= 1 {
		return nil
	}
	hint := fmt.Sprintf("remove the others (find / -xdev -samefile '%s' lists all), and keep this one only if it is the name that billdrop used last", path)
	if _, err := os.Stat(path + "-wal"); err == nil {
		hint = fmt.Sprintf("keep this one, because the latest commits are in %s-wal beside it, and remove the others (find / -xdev -samefile '%s' lists all)", path, path)
	}
	return &ledger.Error{Err: fmt.Errorf("%w: it has %d names", ledger.ErrLinked, stat.Nlink), Hint: hint}
}
