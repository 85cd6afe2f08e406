//go:build !windows

package durable

import "syscall"

// nonBlocking keeps an open of a named pipe from waiting for its other end.
const nonBlocking = syscall.O_NONBLOCK
