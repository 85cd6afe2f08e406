//go:build unix

// Package servertest runs real servers that stand between a client and a server, for tests: nginx,
// Caddy, HAProxy and squid, in the foreground, on loopback, under a configuration in a temporary
// directory.
package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// RequireEnv, set to 1, makes a missing server fail a test rather than skip it; so does CI, set to
// anything.
const RequireEnv = "BILLDROP_REQUIRE_REAL"

// startTimeout is how long a server may take until it accepts connections.
const startTimeout = 30 * time.Second

// Server is a server that was started. Its methods are called from one goroutine.
type Server struct {
	Address string // host:port on which it listens
	Dir     string // of its configuration and its logs

	t      testing.TB
	path   string
	args   []string
	env    []string // beside this process's own
	reload syscall.Signal
	quit   syscall.Signal
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has ended
	out    output
}

// NewNginx starts nginx before the API at upstream (host:port). The directives stand in its http
// block, the rules in the location that leads to the API.
func NewNginx(t testing.TB, upstream, directives, rules string) *Server {
	s := newServer(t, "/usr/sbin/nginx", "nginx", syscall.SIGHUP, syscall.SIGQUIT)
	conf := fmt.Sprintf(`worker_processes 2;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	%[4]s
	upstream api { server %[3]s; keepalive 64; }
	server {
		listen %[2]s;
		location / {
			%[5]s
			proxy_pass http://api;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`, s.Dir, s.Address, upstream, directives, rules)
	s.args = []string{"-p", s.Dir, "-c", s.write("nginx.conf", conf), "-g", "daemon off;"}
	s.Start()
	return s
}

// NewCaddy starts Caddy with the directives of a site, without TLS.
func NewCaddy(t testing.TB, directives string) *Server {
	s := newServer(t, "/usr/bin/caddy", "caddy", syscall.SIGUSR1, syscall.SIGTERM)
	conf := fmt.Sprintf(`{
	admin off
	storage file_system %[1]s
}
http://%[2]s {
%[3]s
}
`, s.Dir, s.Address, directives)
	s.args = []string{"run", "--adapter", "caddyfile", "--config", s.write("Caddyfile", conf)}
	s.env = []string{"HOME=" + s.Dir, "XDG_CONFIG_HOME=" + s.Dir, "XDG_DATA_HOME=" + s.Dir}
	s.Start()
	return s
}

// NewHAProxy starts HAProxy before the API at upstream (host:port).
func NewHAProxy(t testing.TB, upstream string) *Server {
	s := newServer(t, "/usr/sbin/haproxy", "haproxy", syscall.SIGUSR2, syscall.SIGUSR1)
	conf := fmt.Sprintf(`global
	maxconn 1000
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend front
	bind %s
	default_backend api
backend api
	server api %s
`, s.Address, upstream)
	s.args = []string{"-W", "-db", "-f", s.write("haproxy.cfg", conf)}
	s.Start()
	return s
}

// NewSquid starts squid, a forward proxy. The rules are its http_access lines, and what they need.
// Its log is access.log in Dir.
func NewSquid(t testing.TB, rules string) *Server {
	s := newServer(t, "/usr/sbin/squid", "squid", syscall.SIGHUP, syscall.SIGTERM)
	conf := fmt.Sprintf(`http_port %[2]s
pid_filename none
access_log stdio:%[1]s/access.log
cache_log %[1]s/cache.log
cache deny all
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
%[3]s
`, s.Dir, s.Address, rules)
	s.args = []string{"-N", "-f", s.write("squid.conf", conf)}
	s.Start()
	return s
}

// newServer finds the program, and a port for it. Without the program the test is skipped, or fails
// where it is required.
func newServer(t testing.TB, path, debian string, reload, quit syscall.Signal) *Server {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" || os.Getenv(RequireEnv) == "1" {
			t.Fatalf("a real server is required here: %v (Debian: apt-get install %s)", err, debian)
		}
		t.Skipf("no such server on this machine: %v (%s=1 makes this a failure)", err, RequireEnv)
	}
	// The directory of t.TempDir is in one for its owner alone, and a server that root starts gives
	// its rights up.
	dir, err := os.MkdirTemp("", "billdrop-"+debian+"-")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: freeAddress(t), Dir: dir, t: t, path: path, reload: reload, quit: quit}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", debian, s.out.String())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// freeAddress returns a loopback address on which nothing listens. Its port is below those that systems
// give away by themselves, so nothing else gets it before the server listens, or while that is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000)))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no free address was found")
	return ""
}

// write writes a file into Dir and returns its path.
func (s *Server) write(name, content string) string {
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// Start starts the server and waits until it accepts connections.
func (s *Server) Start() {
	s.t.Helper()
	s.cmd = exec.Command(s.path, s.args...)
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
		if err == nil {
			_ = c.Close()
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-s.ended:
			s.t.Fatalf("%s ended; it said:\n%s", s.path, s.out.String())
		case <-ctx.Done():
			s.t.Fatalf("%s does not listen: %v; it said:\n%s", s.path, err, s.out.String())
		}
	}
}

// Reload has the server read its configuration again, without a pause.
func (s *Server) Reload() {
	if err := s.cmd.Process.Signal(s.reload); err != nil {
		s.t.Error(err)
	}
}

// Restart ends the server in its orderly way, which lets requests in flight end, and starts it
// anew.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(s.quit); err != nil {
		s.t.Error(err)
	}
	select {
	case <-s.ended:
	case <-time.After(startTimeout):
		s.t.Errorf("%s does not end", s.path)
	}
	s.Kill() // what is left of it
	s.Start()
}

// Kill ends the server and all of its processes at once, whatever they are at.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.t.Error(err)
	}
	<-s.ended
	s.cmd = nil
}

// AwaitLog returns a file of Dir once the text stands in it.
func (s *Server) AwaitLog(name, text string) string {
	s.t.Helper()
	for deadline := time.Now().Add(startTimeout); ; <-time.After(10 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err == nil && bytes.Contains(b, []byte(text)) {
			return string(b)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s has no %q: %v\n%s", name, text, err, b)
		}
	}
}

// output is what a server has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
