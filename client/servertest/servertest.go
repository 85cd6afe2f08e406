//go:build unix

// Package servertest runs real servers for tests, in the foreground, on loopback: those that
// stand between a client and a server (nginx, Caddy, HAProxy, squid and PgBouncer), under a
// configuration in a temporary directory, and any other Program.
package servertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server stands between a client and a server.
type Server struct {
	*Running
	Dir string // of its configuration and its logs

	reload syscall.Signal
	quit   syscall.Signal
}

// NewNginx starts nginx before the API at upstream (host:port). The directives stand in its http
// block, the rules in the location that leads to the API.
func NewNginx(t testing.TB, upstream, directives, rules string) *Server {
	return start(t, "/usr/sbin/nginx", "nginx", syscall.SIGHUP, syscall.SIGQUIT, func(dir string, port int) (args, env []string) {
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
		listen 127.0.0.1:%[2]d;
		location / {
			%[5]s
			proxy_pass http://api;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`, dir, port, upstream, directives, rules)
		return []string{"-p", dir, "-c", write(t, dir, "nginx.conf", conf), "-g", "daemon off;"}, nil
	})
}

// NewCaddy starts Caddy with the directives of a site, without TLS.
func NewCaddy(t testing.TB, directives string) *Server {
	return start(t, "/usr/bin/caddy", "caddy", syscall.SIGUSR1, syscall.SIGTERM, func(dir string, port int) (args, env []string) {
		conf := fmt.Sprintf(`{
	admin off
	storage file_system %[1]s
}
http://127.0.0.1:%[2]d {
%[3]s
}
`, dir, port, directives)
		return []string{"run", "--adapter", "caddyfile", "--config", write(t, dir, "Caddyfile", conf)},
			[]string{"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir}
	})
}

// NewHAProxy starts HAProxy before the API at upstream (host:port).
func NewHAProxy(t testing.TB, upstream string) *Server {
	return start(t, "/usr/sbin/haproxy", "haproxy", syscall.SIGUSR2, syscall.SIGUSR1, func(dir string, port int) (args, env []string) {
		conf := fmt.Sprintf(`global
	maxconn 1000
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend front
	bind 127.0.0.1:%d
	default_backend api
backend api
	server api %s
`, port, upstream)
		return []string{"-W", "-db", "-f", write(t, dir, "haproxy.cfg", conf)}, nil
	})
}

// NewSquid starts squid, a forward proxy. The rules are its http_access lines, and what they need.
// Its log is access.log in Dir.
func NewSquid(t testing.TB, rules string) *Server {
	return start(t, "/usr/sbin/squid", "squid", syscall.SIGHUP, syscall.SIGTERM, func(dir string, port int) (args, env []string) {
		conf := fmt.Sprintf(`http_port 127.0.0.1:%[2]d
pid_filename none
access_log stdio:%[1]s/access.log
cache_log %[1]s/cache.log
cache deny all
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
%[3]s
`, dir, port, rules)
		return []string{"-N", "-f", write(t, dir, "squid.conf", conf)}, nil
	})
}

// NewPgBouncer starts PgBouncer before the PostgreSQL at upstream (host:port), as which user
// and with which password it logs in for all of its clients. The mode is its pool_mode.
func NewPgBouncer(t testing.TB, upstream, user, password, mode string) *Server {
	return start(t, "/usr/sbin/pgbouncer", "pgbouncer", syscall.SIGHUP, syscall.SIGINT, func(dir string, port int) (args, env []string) {
		host, behind, _ := strings.Cut(upstream, ":")
		conf := fmt.Sprintf(`[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
`, host, behind, user, password, port, mode)
		if args = []string{write(t, dir, "pgbouncer.ini", conf)}; os.Geteuid() == 0 { // as which it refuses to run
			args = append([]string{"-u", "nobody"}, args...)
		}
		return args, nil
	})
}

// start starts a server whose arguments name a configuration in dir.
func start(t testing.TB, path, debian string, reload, quit syscall.Signal, args func(dir string, port int) (args, env []string)) *Server {
	t.Helper()
	// The directory of t.TempDir is in one for its owner alone, and a server that root starts gives
	// its rights up.
	dir, err := os.MkdirTemp("", "billdrop-"+debian+"-")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	running := Start(t, Program{Path: path, Package: debian, Args: func(port int) ([]string, []string) { return args(dir, port) }})
	return &Server{Running: running, Dir: dir, reload: reload, quit: quit}
}

// write writes a file into dir and returns its path.
func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
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
		s.t.Errorf("%s does not end", s.Path)
	}
	s.Kill() // what is left of it
	s.Start()
}

// Start starts the server anew, after Kill.
func (s *Server) Start() {
	s.t.Helper()
	if !s.run() {
		s.t.Fatalf("%s does not listen again; its log:\n%s", s.Path, s.Log())
	}
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
