//go:build unix

package inbox

import (
	"io/fs"
	"os"
	"syscall"
)

// Exposed reports whether a secret file is readable by others. By OpenSSH's rule, a file that
// this user owns must be readable by its owner alone. A file of another owner (systemd's
// credentials, root:billdrop 0640) may be readable by the group, but not by all.
func Exposed(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Geteuid() {
		return info.Mode().Perm()&0o007 != 0
	}
	return info.Mode().Perm()&0o077 != 0
}
