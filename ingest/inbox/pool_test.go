package inbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// pool returns a pool that is closed when the test ends.
func (r *remote) pool(t *testing.T) *inbox.Pool {
	t.Helper()
	p := inbox.NewPool(r.cfg)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestPoolOfManyFeeds: 50 feeds poll 20 times over one connection. Dials of their own, all at
// once, would be dropped by sshd's usual limit.
func TestPoolOfManyFeeds(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{Lines: []string{"MaxStartups 10:30:100"}})
	p := r.pool(t)
	const feeds = 50
	for i := range feeds {
		r.mkdir(t, fmt.Sprintf("feed%d/inbox", i))
	}
	for range 20 {
		var wg sync.WaitGroup
		for i := range feeds {
			wg.Go(func() {
				remote, err := p.Open(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				dir := r.path(fmt.Sprintf("feed%d/inbox", i))
				_, statErr := remote.Lstat(t.Context(), dir)
				_, listErr := remote.List(t.Context(), dir)
				if err := errors.Join(statErr, listErr, remote.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if n := r.sshd.Logins(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

// everyPoolCall is one call of each kind, each of which succeeds once.
func everyPoolCall(t *testing.T, r *remote, p *inbox.Pool) map[string]func() error {
	r.put(t, "inbox/a.csv", "a")
	r.put(t, "inbox/b.csv", "b")
	r.put(t, "inbox/c.csv", "c")
	return map[string]func() error{
		"connect": func() error { return p.Connect(t.Context()) },
		"list":    func() error { _, err := p.List(t.Context(), r.path("inbox")); return err },
		"lstat":   func() error { _, err := p.Lstat(t.Context(), r.path("inbox/a.csv")); return err },
		"rename":  func() error { return p.Rename(t.Context(), r.path("inbox/b.csv"), r.path("b.csv")) },
		"fetch":   func() error { _, err := p.Fetch(t.Context(), r.path("inbox/a.csv"), io.Discard); return err },
		"publish": func() error {
			return p.Publish(t.Context(), r.path("inbox"), "r.csv", strings.NewReader("r"))
		},
		"remove": func() error { return p.Remove(t.Context(), r.path("inbox/c.csv")) },
		"mkdir":  func() error { return p.Mkdir(t.Context(), r.path("new")) },
	}
}

// TestPoolAfterALostConnection: the connection is lost before each call, and the call succeeds
// on a new one.
func TestPoolAfterALostConnection(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		p := r.pool(t)
		for name, call := range everyPoolCall(t, r, p) {
			if err := p.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r.sshd != nil {
				if err := r.sshd.SignalSessions(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			} else {
				r.inProcess.Drop()
			}
			if err := call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := r.get(t, "b.csv"); got != "b" {
			t.Errorf("renamed: %q", got)
		}
	})
}

// TestPoolBreaksInACall: the connection is lost as the server gets the request that matters. The
// server serves it, but the answer is lost. All calls are made again, except a rename.
func TestPoolBreaksInACall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at   sftpserver.Op
		want error
	}{
		"list": {sftpserver.OpList, nil}, "lstat": {sftpserver.OpLstat, nil}, "fetch": {sftpserver.OpRead, nil},
		"publish": {sftpserver.OpPosixRename, nil}, "remove": {sftpserver.OpRemove, nil},
		"rename": {sftpserver.OpRename, inbox.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			r := startInProcess(t, sftpserver.Hooks{})
			p := r.pool(t)
			call := everyPoolCall(t, r, p)[name]
			if err := p.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			var count atomic.Int64
			r.inProcess.SetHooks(sftpserver.Hooks{Before: before(func(op sftpserver.Op, _ string) error {
				if op == c.at && count.Add(1) == 1 {
					r.inProcess.Drop()
				}
				return nil
			})})
			if err := call(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if n := count.Load(); n == 0 || c.want != nil && n > 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestPoolFetchIsNotAppended: a fetch that breaks in the middle is not made again into the same
// writer.
func TestPoolFetchIsNotAppended(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	content := noise(1 << 20)
	r.put(t, "inbox/a.csv", string(content))
	p := r.pool(t)
	var got bytes.Buffer
	var once sync.Once
	n, err := p.Fetch(t.Context(), "/inbox/a.csv", writerFunc(func(b []byte) (int, error) {
		once.Do(r.inProcess.Drop)
		return got.Write(b)
	}))
	if err == nil && !bytes.Equal(got.Bytes(), content) || n != int64(got.Len()) {
		t.Errorf("%d bytes, %v; %d were written", n, err, got.Len())
	}
	if err != nil && !bytes.HasPrefix(content, got.Bytes()) {
		t.Error("other bytes were written")
	}
}

// TestPoolConnections: a second connection is made only if it may be, and only while the first
// is busy.
func TestPoolConnections(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2} {
		r := startOpenSSH(t, opensshtest.Config{})
		r.cfg.Connections = most
		r.put(t, "inbox/a.csv", string(noise(1<<20)))
		p := r.pool(t)
		for range 2 {
			_, err := p.Fetch(t.Context(), r.path("inbox/a.csv"), &onFirst{f: func() error { return p.Connect(t.Context()) }})
			if err != nil {
				t.Error(err)
			}
		}
		if n := r.sshd.Logins(); n != most {
			t.Errorf("%d logins, want %d", n, most)
		}
	}
}

// onFirst is a writer that calls f at its first write.
type onFirst struct {
	once sync.Once
	f    func() error
}

func (w *onFirst) Write(p []byte) (n int, err error) {
	w.once.Do(func() { err = w.f() })
	return len(p), err
}

// TestPoolDialsAgain: a server that breaks off the first connection is dialled once more, and one
// that breaks off every connection no more than that.
func TestPoolDialsAgain(t *testing.T) {
	t.Parallel()
	for _, broken := range []int64{1, 2} {
		r := startInProcess(t, sftpserver.Hooks{})
		front, dials := breakOff(t, r.cfg.Address, broken)
		_, port, _ := net.SplitHostPort(front)
		known := strings.ReplaceAll(r.inProcess.KnownHostsLine(), r.cfg.Address[strings.LastIndex(r.cfg.Address, ":")+1:], port)
		r.cfg.Address, r.cfg.KnownHostsFile = front, writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), known)
		err := r.pool(t).Connect(t.Context())
		if (broken == 1) != (err == nil) || err != nil && !errors.Is(err, inbox.ErrUnreachable) {
			t.Errorf("%d broken off: %v", broken, err)
		}
		if dials.Load() != 2 {
			t.Errorf("%d broken off: %d dials, want 2", broken, dials.Load())
		}
	}
}

// breakOff listens, ends the first connections, and passes the later ones on.
func breakOff(t *testing.T, to string, first int64) (address string, dials *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dials = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			if dials.Add(1) <= first {
				in.Close()
				continue
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(in, out); in.Close() })
			wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), dials
}
