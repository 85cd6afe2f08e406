//go:build !unix

package client

import (
	"errors"
	"net"
	"os"
	"time"
)

// pollWait is how long a poll waits: a read whose deadline has passed does not look at the socket at all.
const pollWait = time.Millisecond

// poller reads what arrives within pollWait. It leaves a read deadline behind.
type poller struct{ conn net.Conn }

func (p *poller) watch(c net.Conn) error {
	p.conn = c
	return nil
}

// poll is one read: errNothingYet when there is nothing, io.EOF at the end.
func (p *poller) poll(into []byte) (int, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(pollWait)); err != nil {
		return 0, err
	}
	n, err := p.conn.Read(into)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errNothingYet
	}
	return n, err
}
