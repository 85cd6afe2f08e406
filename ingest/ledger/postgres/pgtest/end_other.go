//go:build unix && !linux

package pgtest

import "syscall"

// endWithParent does nothing: this system cannot.
func endWithParent(*syscall.SysProcAttr) {}
