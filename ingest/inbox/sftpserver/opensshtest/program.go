//go:build unix

package opensshtest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program is another real server for tests.
type Program struct {
	Path    string                              // of its program
	Package string                              // of Debian, for the message of a missing one
	Args    func(port int) (args, env []string) // called again if the port was taken
}

// Running is a Program that runs until the test ends.
type Running struct {
	Address string // host:port

	cmd   *exec.Cmd
	ended chan struct{} // closed when it was waited for
	mu    sync.Mutex
	log   bytes.Buffer
}

// startTime bounds the time that a server may take to listen.
const startTime = 30 * time.Second

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

// StartProgram runs a server in the foreground, until the test ends, and waits until it listens.
func StartProgram(t testing.TB, p Program) *Running {
	t.Helper()
	Require(t, p.Path, p.Package)
	r := new(Running)
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.Path, r.Log())
		}
	})
	for range 5 { // another process can take a free port before the server does
		if r.start(t, p) {
			return r
		}
		r.stop()
	}
	t.Fatalf("%s does not listen; its log:\n%s", p.Path, r.Log())
	return nil
}

func (r *Running) start(t testing.TB, p Program) bool {
	port := FreePort(t)
	r.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	args, env := p.Args(port)
	r.cmd = exec.Command(p.Path, args...)
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Stdout, r.cmd.Stderr = r, r
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its sessions end with it
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.Path, err)
	}
	cmd, ended := r.cmd, make(chan struct{})
	r.ended = ended
	go func() { _ = cmd.Wait(); close(ended) }() // it ends by a signal
	for deadline := time.Now().Add(startTime); time.Now().Before(deadline); {
		conn, err := net.Dial("tcp", r.Address)
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

func (r *Running) stop() {
	if r.ended == nil {
		return
	}
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.ended
	r.ended = nil
}

// EndSessions sends SIGTERM to every connection's process.
func (r *Running) EndSessions() error {
	sessions, err := descendants(r.cmd.Process.Pid)
	if err != nil {
		return err
	}
	return send(syscall.SIGTERM, sessions)
}

// Sessions returns the number of connections to a server that has a process for each.
func (r *Running) Sessions() (int, error) {
	sessions, err := descendants(r.cmd.Process.Pid)
	return len(sessions), err
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
