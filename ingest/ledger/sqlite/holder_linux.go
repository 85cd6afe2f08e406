package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Holder returns the id of the process that holds the ledger at path, 0 when this process
// can see none: one in another container is hidden. It reads the kernel's table of locks
// and takes no lock itself, because that could keep a worker from starting. seen is false
// where the table cannot be read.
func Holder(path string) (pid int, seen bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, true, nil // there is none
	}
	if err != nil {
		return 0, false, fmt.Errorf("look at ledger %q: %w", path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false, nil
	}
	table, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, false, nil // a sandbox without /proc, or one that hides it
	}
	return holderIn(string(table), stat.Ino), true, nil
}

// holderIn finds who holds an flock on the inode, in lines such as
//
//	3: FLOCK  ADVISORY  WRITE 20088 fe:00:9988642 0 EOF
//
// The device is not compared, because some file systems show another one here than in
// stat.
func holderIn(table string, inode uint64) int {
	end := ":" + strconv.FormatUint(inode, 10)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[3] != "WRITE" || !strings.HasSuffix(fields[5], end) {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}
