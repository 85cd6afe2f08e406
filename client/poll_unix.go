//go:build unix

package client

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// poller reads what the system holds for a connection, without waiting and whatever deadline is set.
type poller struct {
	raw  syscall.RawConn
	into []byte
	n    int
	err  error
	read func(uintptr) // made once: a closure a poll would be an allocation a request
}

func (p *poller) watch(c net.Conn) (err error) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return errors.New("connection is no socket")
	}
	p.read = func(fd uintptr) {
		for {
			// Sockets of package net do not block.
			if p.n, p.err = syscall.Read(int(fd), p.into); p.err != syscall.EINTR {
				return
			}
		}
	}
	p.raw, err = socket.SyscallConn()
	return err
}

// poll is one read: errNothingYet when there is nothing, io.EOF at the end.
func (p *poller) poll(into []byte) (int, error) {
	p.into = into
	err := p.raw.Control(p.read)
	p.into = nil
	switch {
	case err != nil:
		return 0, err
	case p.err == syscall.EAGAIN:
		return 0, errNothingYet
	case p.err != nil:
		return 0, p.err
	case p.n == 0:
		return 0, io.EOF
	}
	return p.n, nil
}
