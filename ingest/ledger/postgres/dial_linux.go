package postgres

import "syscall"

// tcpUserTimeout is TCP_USER_TIMEOUT of <linux/tcp.h>: how long sent data may stay
// unacknowledged, in milliseconds. Without it a connection that was cut is noticed after a
// quarter of an hour.
const tcpUserTimeout = 18

func control(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	return c.Control(func(fd uintptr) {
		// A kernel that cannot is no reason not to connect.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, 10_000)
	})
}
