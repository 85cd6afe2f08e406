//go:build !linux && !darwin

package diagnose

// freeSpace is unknown on this system.
func freeSpace(string) (free uint64, known bool) { return 0, false }
