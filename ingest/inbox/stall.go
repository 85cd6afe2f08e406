package inbox

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stallTicks is the number of ticks in a timeout. A stalled call fails at most one tick late.
	stallTicks = 8
	// rawProgress is how many bytes on the wire count as progress without SFTP data. On a very
	// slow line one packet can take longer than the timeout. The keepalives of one timeout are
	// far fewer bytes.
	rawProgress = 16 << 10
)

// stall detects calls that the peer no longer serves. Progress is SFTP data in either
// direction. A sign of life is not: a server may answer keepalives while its disk hangs.
//
// It counts ticks and reads no clock, so a machine that slept does not blame the peer for the
// time that it was asleep.
type stall struct {
	data atomic.Int64 // bytes through the SFTP channel
	raw  atomic.Int64 // bytes through the connection
	busy atomic.Int64 // callers' writers at work; their time does not count against the peer

	mu       sync.Mutex
	tick     int64 // ticks so far
	moved    int64 // tick of the last progress
	lastData int64 // data at that tick
	lastRaw  int64 // raw at that tick
	calls    map[*waiting]struct{}
}

// waiting is one call that waits for the peer.
type waiting struct{ since int64 } // tick of its start

// begin starts to watch a call. The returned function ends that.
func (s *stall) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &waiting{since: s.tick}
	if s.calls == nil {
		s.calls = make(map[*waiting]struct{})
	}
	s.calls[w] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.calls, w)
	}
}

// beat counts one tick and reports whether some call has waited a whole timeout without
// progress.
func (s *stall) beat() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	data, raw := s.data.Load(), s.raw.Load()
	if data != s.lastData || raw-s.lastRaw >= rawProgress || s.busy.Load() > 0 {
		s.moved, s.lastData, s.lastRaw = s.tick, data, raw
	}
	for w := range s.calls {
		// A call begins, and data moves, within a tick. One tick more makes it a whole timeout.
		if s.tick-max(w.since, s.moved) > stallTicks {
			return true
		}
	}
	return false
}

// run beats until done is closed. When a call is stalled, it calls stalled and returns.
func (s *stall) run(timeout time.Duration, done <-chan struct{}, stalled func()) {
	ticker := time.NewTicker(max(timeout/stallTicks, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			if s.beat() {
				stalled()
				return
			}
		}
	}
}

// wire is a connection whose bytes are counted.
type wire struct {
	net.Conn
	stall *stall
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.stall.raw.Add(int64(n))
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.stall.raw.Add(int64(n))
	return n, err
}

// pipe is the SFTP channel, its bytes and the entries of its listings counted.
type pipe struct {
	in    io.WriteCloser
	out   io.Reader
	stall *stall
	list  *listing
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	p.list.received(b[:n])
	p.stall.data.Add(int64(n))
	return n, err
}

func (p *pipe) Write(b []byte) (int, error) {
	p.list.sending(b)
	n, err := p.in.Write(b)
	p.stall.data.Add(int64(n))
	return n, err
}

func (p *pipe) Close() error { return p.in.Close() }
