package sqlite

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"billdrop/ingest/ledger"
)

// held are the files that this process has locked. Whether one is among them is looked up
// before it is opened, because a refused attempt would have to close its descriptor, and
// that drops SQLite's locks. It belongs to the process, as those locks do.
var held = struct {
	sync.Mutex
	files map[[2]uint64]bool // device and inode
}{files: make(map[[2]uint64]bool)}

// takeFile locks the file itself with flock(2), which on Linux does not meet the fcntl(2)
// locks of SQLite.
func (k *lock) takeFile(path string) error {
	held.Lock()
	defer held.Unlock()
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !before.Mode().IsRegular() {
		return advised("name a file", "it is not a file") // opening a FIFO would wait
	}
	if held.files[identity(before)] {
		return ledger.ErrLocked
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ledger.ErrLocked
	}
	if err == nil {
		var now os.FileInfo
		if now, err = f.Stat(); err == nil && !os.SameFile(before, now) {
			err = ledger.ErrLocked // exchanged just now, so it is in use
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	held.files[identity(before)] = true
	k.file = f
	return nil
}

// dropFile ends what takeFile began.
func dropFile(f *os.File) error {
	held.Lock()
	defer held.Unlock()
	info, err := f.Stat()
	if err == nil {
		delete(held.files, identity(info))
	}
	return errors.Join(err, f.Close())
}

func identity(info os.FileInfo) [2]uint64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return [2]uint64{}
	}
	return [2]uint64{uint64(stat.Dev), stat.Ino}
}
