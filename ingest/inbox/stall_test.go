package inbox_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// within runs a call that must end with want, not before the timeout and not much later.
func within(t *testing.T, earliest time.Duration, want error, call func() error) {
	t.Helper()
	start := time.Now()
	err := call()
	took := time.Since(start)
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	// The upper bound is generous, for busy machines: what matters is that the call ends.
	if took < earliest || took > earliest+busy {
		t.Errorf("it took %v, want %v and a little", took, earliest)
	}
}

// everyCall is one call of each kind, for servers that serve none of them.
func everyCall(t *testing.T, r *remote) map[string]func(*inbox.Account) error {
	return map[string]func(*inbox.Account) error{
		"list":   func(a *inbox.Account) error { _, err := a.List(t.Context(), r.path("inbox")); return err },
		"lstat":  func(a *inbox.Account) error { _, err := a.Lstat(t.Context(), r.path("inbox/a.csv")); return err },
		"rename": func(a *inbox.Account) error { return a.Rename(t.Context(), r.path("inbox/a.csv"), r.path("b.csv")) },
		"fetch": func(a *inbox.Account) error {
			_, err := a.Fetch(t.Context(), r.path("inbox/a.csv"), io.Discard)
			return err
		},
		"publish": func(a *inbox.Account) error {
			return a.Publish(t.Context(), r.path("inbox"), "r.csv", &zeros{size: 8 << 20})
		},
		"remove": func(a *inbox.Account) error { return a.Remove(t.Context(), r.path("inbox/a.csv")) },
		"mkdir":  func(a *inbox.Account) error { return a.Mkdir(t.Context(), r.path("new")) },
	}
}

func TestFrozenOpenSSH(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{})
	r.cfg.Timeout = patience
	r.put(t, "inbox/a.csv", "a")
	calls := everyCall(t, r)
	accounts := make(map[string]*inbox.Account)
	for name := range calls {
		accounts[name] = r.dial(t)
	}
	if err := r.sshd.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			start := time.Now()
			err := call(accounts[name])
			if took := time.Since(start); !errors.Is(err, inbox.ErrUnreachable) || took > patience+busy {
				t.Errorf("%s: %v after %v", name, err, took)
			}
			if err := call(accounts[name]); !errors.Is(err, inbox.ErrUnreachable) {
				t.Errorf("%s, again: %v", name, err)
			}
		})
	}
	wg.Wait()
	within(t, patience, inbox.ErrUnreachable, func() error { return dialOnce(t, r.cfg) })
	if err := r.sshd.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := dialOnce(t, r.cfg); err != nil {
		t.Errorf("after it went on: %v", err)
	}
}

func TestKilledSession(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{})
	r.put(t, "inbox/a.csv", string(noise(4<<20)))
	a := r.dial(t)
	var once sync.Once
	within(t, 0, inbox.ErrUnreachable, func() error {
		_, err := a.Fetch(t.Context(), r.path("inbox/a.csv"), writerFunc(func(p []byte) (n int, err error) {
			once.Do(func() { err = r.sshd.SignalSessions(syscall.SIGKILL) })
			return len(p), err
		}))
		return err
	})
}

// TestHungDisk: a server answers keepalives, but no request.
func TestHungDisk(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	r.cfg.Timeout = patience
	r.put(t, "inbox/a.csv", "a")
	calls := everyCall(t, r)
	accounts := make(map[string]*inbox.Account)
	for name := range calls {
		accounts[name] = r.dial(t)
	}
	r.inProcess.SetHooks(sftpserver.Hooks{Before: func(ctx context.Context, _ sftpserver.Op, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			within(t, patience, inbox.ErrUnreachable, func() error { return call(accounts[name]) })
		})
	}
	wg.Wait()
}

func TestDeadLine(t *testing.T) {
	t.Parallel()
	for _, upload := range []bool{false, true} {
		t.Run(map[bool]string{false: "fetch", true: "publish"}[upload], func(t *testing.T) {
			t.Parallel()
			r := startInProcess(t, sftpserver.Hooks{})
			r.put(t, "inbox/a.csv", string(noise(8<<20)))
			r.mkdir(t, "results")
			line := newLine(t, r)
			r.cfg.Timeout = patience
			a := r.dial(t)
			line.dieAfter(1 << 20)
			within(t, patience, inbox.ErrUnreachable, func() error {
				if upload {
					return a.Publish(t.Context(), "/results", "r.csv", &zeros{size: 8 << 20})
				}
				_, err := a.Fetch(t.Context(), "/inbox/a.csv", io.Discard)
				return err
			})
		})
	}
}

// TestIdleDeath: the line dies between two calls, and the second one fails without a wait.
func TestIdleDeath(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	line := newLine(t, r)
	r.cfg.Timeout = patience
	a := r.dial(t)
	line.dieAfter(0)
	<-line.dropped // by the account: the line itself stays silent
	within(t, 0, inbox.ErrUnreachable, func() error { _, err := a.List(t.Context(), "/"); return err })
}

// TestSlowLine: transfers that take far longer than the timeout succeed, even if a single packet
// takes longer than the timeout.
func TestSlowLine(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	content := string(noise(96 << 10))
	r.put(t, "inbox/a.csv", content)
	r.mkdir(t, "results")
	line := newLine(t, r)
	r.cfg.Timeout = 1500 * time.Millisecond
	a := r.dial(t)

	line.rate.Store(20 << 10) // a packet of 32 KiB in 1.6 s
	start := time.Now()
	if got := fetch(t, a, "/inbox/a.csv"); string(got) != content {
		t.Errorf("%d bytes came", len(got))
	}
	if took := time.Since(start); took < 2*r.cfg.Timeout {
		t.Errorf("fetched in %v: the line is not slow", took)
	}

	line.rate.Store(48 << 10)
	start = time.Now()
	publish(t, a, "/results", "r.csv", content)
	if took := time.Since(start); took < 2*r.cfg.Timeout {
		t.Errorf("published in %v: the line is not slow", took)
	}
}

func TestInterruptedCall(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	r.put(t, "inbox/a.csv", "a")
	a := r.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.inProcess.SetHooks(sftpserver.Hooks{Before: func(ctx context.Context, _ sftpserver.Op, _ string) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}})
	within(t, 0, context.Canceled, func() error { _, err := a.Fetch(ctx, "/inbox/a.csv", io.Discard); return err })
	within(t, 0, inbox.ErrUnreachable, func() error { _, err := a.List(t.Context(), "/"); return err })
	within(t, 0, context.Canceled, func() error { _, err := a.List(ctx, "/"); return err })
}

func TestClosedAccount(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, r *remote) {
		r.put(t, "inbox/a.csv", "a")
		a := r.dial(t)
		for range 2 {
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for name, call := range everyCall(t, r) {
			if err := call(a); !errors.Is(err, inbox.ErrUnreachable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// zeros is content of this many bytes.
type zeros struct{ size, at int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.at == z.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.size-z.at))
	clear(p[:n])
	z.at += int64(n)
	return n, nil
}

func (z *zeros) Seek(offset int64, _ int) (int64, error) {
	z.at = offset
	return offset, nil
}

// line is a network between an account and its server. It can be slow, or drop everything silently.
type line struct {
	rate    atomic.Int64  // bytes a second, each way; 0 = no limit
	left    atomic.Int64  // bytes until it is dead, of both ways
	dropped chan struct{} // closed when the account hangs up on a dead line
	once    sync.Once
	over    context.Context // done with the test
}

// newLine puts a line before the server: it replaces r's address. It carries one connection at
// a time.
func newLine(t *testing.T, r *remote) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := r.cfg.Address
	r.cfg.Address = listener.Addr().String()
	known := r.inProcess.KnownHostsLine()
	_, targetPort, _ := net.SplitHostPort(target)
	_, port, _ := net.SplitHostPort(r.cfg.Address)
	r.cfg.KnownHostsFile = writeFile(t, t.TempDir()+"/known_hosts", strings.ReplaceAll(known, ":"+targetPort+" ", ":"+port+" "))

	over, end := context.WithCancel(context.Background())
	l := &line{dropped: make(chan struct{}), over: over}
	l.left.Store(1 << 60)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				t.Error(err)
				near.Close()
				return
			}
			wg.Go(func() { l.join(near, far) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		end()
		wg.Wait()
	})
	return l
}

// dieAfter passes n more bytes, then none.
func (l *line) dieAfter(n int64) { l.left.Store(n) }

// join carries one connection both ways.
func (l *line) join(near, far net.Conn) {
	var both sync.WaitGroup
	both.Go(func() {
		l.carry(far, near)
		if l.left.Load() <= 0 {
			l.once.Do(func() { close(l.dropped) })
		}
		far.Close()
	})
	both.Go(func() {
		l.carry(near, far)
		near.Close()
	})
	defer context.AfterFunc(l.over, func() {
		near.Close()
		far.Close()
	})()
	both.Wait()
}

// carry copies until its source ends. When the line is dead it still reads, but drops the bytes.
func (l *line) carry(to, from net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if rate := l.rate.Load(); rate > 0 {
			select {
			case <-time.After(time.Duration(n) * time.Second / time.Duration(rate)):
			case <-l.over.Done():
				return
			}
		}
		if l.left.Add(-int64(n)) < 0 { // dropped
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
