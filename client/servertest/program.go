//go:build unix

package servertest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// RequireEnv, set to 1, makes a missing server fail a test rather than skip it; so does CI, set to
// anything.
const RequireEnv = "BILLDROP_REQUIRE_REAL"

// startTimeout is how long a server may take until it listens.
const startTimeout = 30 * time.Second

// Program is a real server, as a machine has it installed.
type Program struct {
	Path      string                              // of its program
	Package   string                              // of Debian, for messages
	Args      func(port int) (args, env []string) // called again if the port was taken; env is beside this process's own
	Listening string                              // what its log says once it listens; "" = it accepts a connection
}

// Running is a Program that runs until the test ends. Its methods are called from one goroutine,
// except for Write and Log.
type Running struct {
	Address string // host:port on which it listens

	Program
	t         testing.TB
	args, env []string
	cmd       *exec.Cmd
	ended     chan struct{} // closed when cmd has ended
	mu        sync.Mutex
	log       bytes.Buffer
}

// Require skips the test if the machine has no such file, or fails it if real servers are required.
func Require(t testing.TB, path, debian string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	} else if os.Getenv("CI") != "" || os.Getenv(RequireEnv) == "1" {
		t.Fatalf("a real server is required here: %v (Debian: apt-get install %s)", err, debian)
	} else {
		t.Skipf("not on this machine: %v (%s=1 makes this a failure)", err, RequireEnv)
	}
}

// Start runs a server in the foreground, until the test ends, and waits until it listens.
func Start(t testing.TB, p Program) *Running {
	t.Helper()
	Require(t, p.Path, p.Package)
	r := &Running{Program: p, t: t}
	t.Cleanup(func() {
		r.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.Package, r.Log())
		}
	})
	for range 5 { // another process can take a free port before the server does
		port := FreePort(t)
		r.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if r.args, r.env = p.Args(port); r.run() {
			return r
		}
		r.Kill()
	}
	t.Fatalf("%s does not listen; its log:\n%s", p.Package, r.Log())
	return nil
}

// FreePort returns a port of loopback on which nothing listens. It is below those that systems give
// away by themselves, so no other test gets it before its server listens, or while that is down.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port was found")
	return 0
}

// run starts the server at its address. It reports whether it listens there.
func (r *Running) run() bool {
	cmd, ended := exec.Command(r.Path, r.args...), make(chan struct{})
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Stdout, cmd.Stderr = r, r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its processes end with it
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("start %s: %v", r.Path, err)
	}
	r.cmd, r.ended = cmd, ended
	go func() { _ = cmd.Wait(); close(ended) }() // it ends by a signal
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if r.listens() {
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false
}

func (r *Running) listens() bool {
	if r.Listening != "" {
		return strings.Contains(r.Log(), r.Listening)
	}
	conn, err := net.Dial("tcp", r.Address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// Kill ends the server and all processes of its group at once, whatever they are at.
func (r *Running) Kill() {
	if r.cmd == nil {
		return
	}
	if err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		r.t.Error(err)
	}
	<-r.ended
	r.cmd = nil
}

// Signal sends a signal to the listener and to every process that serves a connection. After
// SIGSTOP all of them hang, until SIGCONT.
func (r *Running) Signal(signal syscall.Signal) error {
	sessions, err := descendants(r.cmd.Process.Pid)
	return errors.Join(err, send(signal, append([]int{r.cmd.Process.Pid}, sessions...)))
}

// SignalSessions sends a signal to every process that serves a connection, and leaves the listener
// alone.
func (r *Running) SignalSessions(signal syscall.Signal) error {
	sessions, err := descendants(r.cmd.Process.Pid)
	return errors.Join(err, send(signal, sessions))
}

// Sessions returns the number of connections to a server that has a process for each.
func (r *Running) Sessions() (int, error) {
	sessions, err := descendants(r.cmd.Process.Pid)
	return len(sessions), err
}

func send(signal syscall.Signal, pids []int) error {
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("send %v to process %d: %w", signal, pid, err))
		}
	}
	return errors.Join(errs...)
}

// descendants returns the children of a process and their descendants. The sessions of sshd are
// in process groups of their own, so the process table has to be read.
func descendants(pid int) ([]int, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := make(map[int][]int)
	for line := range strings.Lines(string(out)) {
		var child, parent int
		if _, err := fmt.Sscan(line, &child, &parent); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	var all []int
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all, nil
}

// Write adds to the log.
func (r *Running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// Log returns what the server has printed so far.
func (r *Running) Log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}
