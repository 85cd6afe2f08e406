//go:build !linux

package postgres

import "syscall"

// control does nothing: this system has no such option.
func control(_, _ string, _ syscall.RawConn) error { return nil }
