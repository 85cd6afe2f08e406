//go:build linux || darwin

package main

import "syscall"

// freeSpace is how many bytes this user may still write to the disk that a directory is on. known is false where
// that cannot be told.
func freeSpace(dir string) (free uint64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
