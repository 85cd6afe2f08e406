package inbox

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stallTicks is how many ticks a timeout has: a stalled call is given up at most one tick late.
	stallTicks = 8
	// rawProgress is how many bytes on the wire count as progress though no SFTP data came out of them yet, as on
	// a very slow line where one packet takes longer than the timeout. Keepalives of one timeout stay well below.
	rawProgress = 16 << 10
)

// stall notices that a peer no longer gets on with what it was asked. What counts as getting on is SFTP data in either
// direction, not life signs of the connection: a server may answer keepalives while its disk hangs.
//
// It counts ticks rather than read a clock, so a machine that was asleep does not take its own absence for the peer's.
type stall struct {
	data atomic.Int64 // bytes that passed through the SFTP channel
	raw  atomic.Int64 // bytes that passed through the connection
	busy atomic.Int64 // callers' writers at work: their time is not the peer's

	mu       sync.Mutex
	tick     int64 // ticks so far
	moved    int64 // tick of the last progress
	lastData int64 // data, then
	lastRaw  int64 // raw, then
	calls    map[*waiting]struct{}
}

// waiting is one call that waits for the peer.
type waiting struct{ since int64 } // tick of its start

// begin starts to watch over a call; the function returned ends it.
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

// beat is one tick, of which a timeout has stallTicks; it reports whether some call has waited a timeout for nothing.
func (s *stall) beat() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	data, raw := s.data.Load(), s.raw.Load()
	if data != s.lastData || raw-s.lastRaw >= rawProgress || s.busy.Load() > 0 {
		s.moved, s.lastData, s.lastRaw = s.tick, data, raw
	}
	for w := range s.calls {
		// A call begins, and data moves, somewhere within a tick: one more makes it a whole timeout.
		if s.tick-max(w.since, s.moved) > stallTicks {
			return true
		}
	}
	return false
}

// run beats until done is closed, and calls late once when a call is stalled.
func (s *stall) run(timeout time.Duration, done <-chan struct{}, late func()) {
	ticker := time.NewTicker(max(timeout/stallTicks, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			if s.beat() {
				late()
				return
			}
		}
	}
}

// wire counts the bytes of a connection.
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

// pipe is the SFTP channel, counted.
type pipe struct {
	in    io.WriteCloser
	out   io.Reader
	stall *stall
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	p.stall.data.Add(int64(n))
	return n, err
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.in.Write(b)
	p.stall.data.Add(int64(n))
	return n, err
}

func (p *pipe) Close() error { return p.in.Close() }
