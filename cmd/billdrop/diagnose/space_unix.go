//go:build linux || darwin

package diagnose

import "syscall"

// freeSpace is how many bytes this user may still write to the disk of a directory. known
// is false if the system does not say.
func freeSpace(dir string) (free uint64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
