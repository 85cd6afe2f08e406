//go:build unix

package inbox

import (
	"io/fs"
	"os"
	"syscall"
)

// Exposed reports whether people may read a secret that it is not meant for. As with OpenSSH, a file of our own is for us alone;
// one that somebody else set up for us (systemd's credentials, root:billdrop 0640) may be for our group, but not for all.
func Exposed(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Geteuid() {
		return info.Mode().Perm()&0o007 != 0
	}
	return info.Mode().Perm()&0o077 != 0
}
