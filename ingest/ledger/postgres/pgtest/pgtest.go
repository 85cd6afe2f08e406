//go:build unix

// Package pgtest runs a real PostgreSQL server for tests and demonstrations: on loopback, in a
// temporary directory, with its own superuser and password. It can be stopped, killed, frozen
// and started again.
package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// RequireEnv, set to 1, makes a missing PostgreSQL fail a test rather than skip it; so does
// CI, set to anything.
const RequireEnv = "BILLDROP_REQUIRE_REAL"

// patience is how long the server may take to start or to stop.
const patience = 60 * time.Second

// ErrMissing: there is no PostgreSQL on this machine.
var ErrMissing = errors.New("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")

// Config is the setup of a server. The zero value is the fastest one.
type Config struct {
	// Durable has the server sync its commits to the disk. Without, they survive a kill of
	// the server, not of the machine.
	Durable  bool
	Settings []string // of postgresql.conf: "work_mem = '8MB'"
}

// Server is a PostgreSQL server. Its methods are called from one goroutine at a time; Database
// may be called concurrently.
type Server struct {
	Address  string // host:port
	User     string // superuser
	Password string

	dir   string
	bin   string
	cred  *syscall.Credential // of the server's processes; nil = ours
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended

	databases atomic.Int64
}

// Start runs a server with the zero Config until the test ends. Without PostgreSQL the test is
// skipped, or fails where it is required.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartConfig(t, Config{})
}

// StartConfig is Start with a Config.
func StartConfig(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Run(cfg)
	switch {
	case errors.Is(err, ErrMissing) && os.Getenv("CI") == "" && os.Getenv(RequireEnv) != "1":
		t.Skipf("%v (%s=1 makes this a failure)", err, RequireEnv)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PostgreSQL said:\n%s", s.Log())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Run makes a server and starts it. The caller closes it. It ends with this process, too.
func Run(cfg Config) (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	// The directory of t.TempDir is in one for its owner alone, and the server may be another user.
	dir, err := os.MkdirTemp("", "billdrop-pg-")
	if err != nil {
		return nil, err
	}
	s := &Server{User: "billdrop", Password: "pw-" + rand.Text(), dir: dir, bin: bin}
	err = s.create(cfg)
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// find returns the directory of the newest PostgreSQL's programs, or the one that
// BILLDROP_POSTGRES_BIN names: tests of another version.
func find() (string, error) {
	if dir := os.Getenv("BILLDROP_POSTGRES_BIN"); dir != "" {
		return dir, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(path string) int {
			n, _ := strconv.Atoi(strings.Split(path, "/")[4])
			return n
		}
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", ErrMissing
	}
	return filepath.Dir(path), nil
}

func (s *Server) create(cfg Config) error {
	if err := s.giveUpRoot(); err != nil {
		return err
	}
	var err error
	if s.Address, err = freeAddress(); err != nil {
		return err
	}
	password := filepath.Join(s.dir, "password")
	if err := s.write(password, s.Password+"\n"); err != nil {
		return err
	}
	initdb := s.command("initdb", "--pgdata", s.data(), "--username", s.User, "--pwfile", password, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	_, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	settings := append([]string{
		"listen_addresses = '127.0.0.1'", "port = " + port, "unix_socket_directories = ''", "max_connections = 200",
		"log_min_messages = warning", "log_destination = stderr", "logging_collector = off",
		"dynamic_shared_memory_type = mmap", // a server that is killed leaves nothing outside its directory
	}, cfg.Settings...)
	if !cfg.Durable {
		settings = append(settings, "fsync = off", "full_page_writes = off")
	}
	return s.write(filepath.Join(s.data(), "postgresql.auto.conf"), strings.Join(settings, "\n")+"\n")
}

// freeAddress returns a loopback address on which nothing listens. Its port is below those
// that systems give away by themselves, so nothing else gets it while the server is down.
func freeAddress() (string, error) {
	for tries := 0; ; tries++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+mathrand.IntN(20_000)))
		l, err := net.Listen("tcp", address)
		if err == nil {
			return address, l.Close()
		}
		if tries == 100 {
			return "", err
		}
	}
}

// giveUpRoot makes the server's processes run as another user when this one is root, because
// PostgreSQL refuses to be root.
func (s *Server) giveUpRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("a user for PostgreSQL, which does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// write writes a file that the server's user owns.
func (s *Server) write(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	if s.cred == nil {
		return nil
	}
	return os.Chown(path, int(s.cred.Uid), int(s.cred.Gid))
}

// command is one of PostgreSQL's programs, as the server's user.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "PGPASSWORD="+s.Password, "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return cmd
}

// Start starts the server again after Stop or Kill, and waits until it answers.
func (s *Server) Start() error {
	log, err := os.OpenFile(s.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = s.command("postgres", "-D", s.data())
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr.Setpgid = true // a ^C is for the test, which then ends the server
	endWithParent(s.cmd.SysProcAttr)
	s.ended = make(chan struct{})
	started := make(chan error)
	go func(cmd *exec.Cmd, ended chan struct{}) {
		// The system takes the end of the thread that started a process for the end of the
		// parent, so that thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}(s.cmd, s.ended)
	if err := <-started; err != nil {
		s.cmd = nil
		return err
	}
	return s.await()
}

// await returns once the server accepts connections.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.command("pg_isready", "-q", "-h", host, "-p", port, "-U", s.User, "-d", "postgres").Run() == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.ended:
			s.cmd = nil
			return fmt.Errorf("PostgreSQL ended; it said:\n%s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer; it said:\n%s", s.Log())
		}
	}
}

// Stop ends the server in its orderly way, breaking connections off. A server that is not
// running stays so.
func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	s.Thaw()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		s.cmd = nil
		return nil
	case <-time.After(patience):
		return errors.Join(errors.New("PostgreSQL does not stop"), s.Kill())
	}
}

// Kill ends all processes of the server by SIGKILL.
func (s *Server) Kill() error {
	if s.cmd == nil {
		return nil
	}
	// Stopped first, the postmaster starts no others meanwhile.
	err := s.signal(syscall.SIGSTOP)
	children := s.children()
	err = errors.Join(err, s.signal(syscall.SIGKILL), signalAll(children, syscall.SIGKILL))
	<-s.ended
	s.cmd = nil
	for deadline := time.Now().Add(patience); slices.ContainsFunc(children, alive); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.Join(err, errors.New("a process of PostgreSQL does not end"))
		}
	}
	return err
}

// alive reports whether there is a process that has not ended. One that has ended but was not
// waited for (nobody is left to do that in a container) counts as ended.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	state := strings.TrimSpace(string(out))
	return err == nil && state != "" && state[0] != 'Z'
}

// Restart is Stop and Start.
func (s *Server) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start()
}

// Freeze stops all processes of the server where they are: connections stay, and nothing
// answers.
func (s *Server) Freeze() error {
	err := s.signal(syscall.SIGSTOP) // stopped first, as in Kill
	return errors.Join(err, signalAll(s.children(), syscall.SIGSTOP))
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() {
	_ = signalAll(s.children(), syscall.SIGCONT)
	_ = s.signal(syscall.SIGCONT)
}

func (s *Server) signal(sig syscall.Signal) error {
	err := s.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// signalAll signals processes. That one has ended is not an error.
func signalAll(pids []int, sig syscall.Signal) (err error) {
	for _, pid := range pids {
		if e := syscall.Kill(pid, sig); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// children are the processes that the postmaster has started.
func (s *Server) children() []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		var pid, parent int
		if _, err := fmt.Sscan(line, &pid, &parent); err == nil && parent == s.cmd.Process.Pid {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Close kills the server and removes its directory.
func (s *Server) Close() error {
	return errors.Join(s.Kill(), os.RemoveAll(s.dir))
}

// URL is the address of a database, with the superuser's name and password.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(s.User, s.Password), Host: s.Address, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Database makes a new, empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("ledger_%d", s.databases.Add(1))
	s.Query(t, "postgres", "CREATE DATABASE "+name)
	return s.URL(name)
}

// Query runs SQL in a database by psql and returns what it prints: a row a line, columns
// separated by "|".
func (s *Server) Query(t testing.TB, database, sql string) string {
	t.Helper()
	return s.run(t, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", s.URL(database), "-c", sql)
}

// Dump returns what pg_dump writes of the database with this URL.
func (s *Server) Dump(t testing.TB, url string) string {
	t.Helper()
	return s.run(t, "pg_dump", "--dbname", url)
}

func (s *Server) run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := s.command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.String())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// Log is what the server has written so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}
