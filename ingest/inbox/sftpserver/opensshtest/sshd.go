//go:build unix

// Package opensshtest runs a real OpenSSH server for tests: on loopback, with its own keys, for
// SFTP alone.
package opensshtest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// sshd is the server's path on Debian and most other systems. sshd must be started by its full
// path.
const sshd = "/usr/sbin/sshd"

// RequireEnv, set to 1, makes a missing OpenSSH server fail a test instead of skipping it. So
// does CI, set to anything.
const RequireEnv = "BILLDROP_REQUIRE_REAL"

// Config is the setup of a server. The zero value is a usual one.
type Config struct {
	ReadOnly  bool     // internal-sftp -R
	Deny      []string // requests that are refused, by their names in sftp-server(8), e.g. posix-rename
	FileLimit int      // bytes, rounded up to 512; no file can grow beyond it, as on a full disk; 0 = none
	Lines     []string // of sshd_config(5); they override the usual ones

	AuthorizedKeys []ssh.PublicKey // beside the server's own key
}

// Server is a running sshd. The account sees the whole file system; tests use Root alone.
type Server struct {
	Address        string // host:port
	User           string // the user who runs the test
	PrivateKeyFile string
	KnownHostsFile string
	Root           string // absolute; remote paths begin with it
	Pid            int    // of the listener

	port int
	cmd  *exec.Cmd
	log  lines
}

// Start runs a server with the zero Config until the test ends. dir is its Root.
func Start(t testing.TB, dir string) *Server {
	t.Helper()
	return StartConfig(t, dir, Config{})
}

// StartConfig runs a server until the test ends. If the machine has no OpenSSH server, the test
// is skipped, or fails if one is required.
func StartConfig(t testing.TB, dir string, cfg Config) *Server {
	t.Helper()
	if _, err := os.Stat(sshd); err != nil {
		if os.Getenv("CI") != "" || os.Getenv(RequireEnv) == "1" {
			t.Fatalf("a real OpenSSH server is required here: %v (Debian: apt-get install openssh-server)", err)
		}
		t.Skipf("no OpenSSH server on this machine: %v (%s=1 makes this a failure)", err, RequireEnv)
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatalf("create the empty directory that sshd needs: %v", err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatalf("who runs this test: %v", err)
	}
	keys := t.TempDir() // not in Root, so that tests can list Root
	s := &Server{
		User:           me.Username,
		Root:           dir,
		PrivateKeyFile: filepath.Join(keys, "id_ed25519"),
		KnownHostsFile: filepath.Join(keys, "known_hosts"),
	}
	public := writeKey(t, s.PrivateKeyFile, edKey)
	var authorized []byte
	for _, key := range append([]ssh.PublicKey{public}, cfg.AuthorizedKeys...) {
		authorized = append(authorized, ssh.MarshalAuthorizedKey(key)...)
	}
	write(t, filepath.Join(keys, "authorized_keys"), authorized)
	hostKeys := []ssh.PublicKey{
		writeKey(t, filepath.Join(keys, "host_ed25519"), edKey),
		writeKey(t, filepath.Join(keys, "host_ecdsa"), ecKey),
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("log of sshd:\n%s", s.log.String())
		}
	})
	// Another process can take a free port before sshd does: try again.
	for attempt := 1; ; attempt++ {
		err := s.start(t, keys, cfg)
		if err == nil {
			break
		}
		if attempt == 5 {
			t.Fatalf("start sshd: %v; its log:\n%s", err, s.log.String())
		}
	}
	var known bytes.Buffer
	for _, key := range hostKeys {
		fmt.Fprintln(&known, knownhosts.Line([]string{s.Address}, key))
	}
	write(t, s.KnownHostsFile, known.Bytes())
	return s
}

// start runs sshd and waits until it listens.
func (s *Server) start(t testing.TB, keys string, cfg Config) error {
	s.port = FreePort(t)
	s.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	conf := filepath.Join(keys, "sshd_config")
	write(t, conf, []byte(s.config(keys, cfg)))

	script := `exec "$0" "$@"`
	if cfg.FileLimit > 0 {
		// sshd inherits the limit, and that its signal is ignored: a write beyond it fails, as on a
		// full disk.
		script = fmt.Sprintf(`trap '' XFSZ; ulimit -f %d; %s`, (cfg.FileLimit+511)/512, script)
	}
	s.cmd = exec.Command("/bin/sh", "-c", script, sshd, "-D", "-e", "-f", conf)
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.Pid = s.cmd.Process.Pid
	listening := make(chan bool, 1)
	s.log.wg.Go(func() { s.log.read(stderr, listening) })
	if <-listening {
		return nil
	}
	return errors.Join(errors.New("it ended before it listened"), s.cmd.Wait())
}

func (s *Server) config(keys string, cfg Config) string {
	command := "internal-sftp"
	if cfg.ReadOnly {
		command += " -R"
	}
	if len(cfg.Deny) > 0 {
		command += " -P " + strings.Join(cfg.Deny, ",")
	}
	// Of several values of a keyword, sshd takes the first.
	return strings.Join(append(slices.Clone(cfg.Lines),
		"ListenAddress 127.0.0.1",
		"Port "+strconv.Itoa(s.port),
		"HostKey "+filepath.Join(keys, "host_ed25519"),
		"HostKey "+filepath.Join(keys, "host_ecdsa"),
		"AuthorizedKeysFile "+filepath.Join(keys, "authorized_keys"),
		"PidFile none",
		"StrictModes no",
		"UsePAM no",
		"PermitRootLogin yes",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"MaxStartups 100",
		"MaxSessions 100",
		"Subsystem sftp "+command,
		"ForceCommand "+command,
		"",
	), "\n")
}

// Log returns what sshd has logged so far.
func (s *Server) Log() string { return s.log.String() }

// Logins returns how many logins sshd has accepted.
func (s *Server) Logins() int { return strings.Count(s.Log(), "Accepted ") }

// Signal sends a signal to the listener and to every process that serves a connection. After
// SIGSTOP all of them hang, until SIGCONT.
func (s *Server) Signal(signal syscall.Signal) error {
	sessions, err := descendants(s.Pid)
	return errors.Join(err, send(signal, append([]int{s.Pid}, sessions...)))
}

// KillSessions breaks every connection and leaves the listener alone.
func (s *Server) KillSessions() error {
	sessions, err := descendants(s.Pid)
	return errors.Join(err, send(syscall.SIGKILL, sessions))
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

// stop kills the server and its sessions, and joins the goroutine that reads their log.
func (s *Server) stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	// They are stopped first, so that none starts while they are listed.
	_ = s.Signal(syscall.SIGSTOP)
	_ = s.Signal(syscall.SIGKILL)
	s.log.wg.Wait()
	_ = s.cmd.Wait() // it was killed
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

// lines is the log of sshd.
type lines struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) read(r io.Reader, listening chan<- bool) {
	found := false
	for scanner := bufio.NewScanner(r); scanner.Scan(); {
		l.mu.Lock()
		fmt.Fprintln(&l.text, scanner.Text())
		l.mu.Unlock()
		if !found && strings.Contains(scanner.Text(), "Server listening on") {
			found = true
			listening <- true
		}
	}
	if !found {
		listening <- false
	}
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// FreePort returns a port of loopback on which nothing listens. It is below those that systems give
// away by themselves, so no other test gets it before its server listens, or while that is down.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + mathrand.IntN(20_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port was found")
	return 0
}

func edKey() (any, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func ecKey() (any, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// writeKey creates a key pair, writes the private half to a file, and returns the public half.
func writeKey(t testing.TB, file string, generate func() (any, error)) ssh.PublicKey {
	t.Helper()
	key, err := generate()
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "billdrop test")
	if err != nil {
		t.Fatalf("encode a key: %v", err)
	}
	write(t, file, pem.EncodeToMemory(block))
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatalf("use a key: %v", err)
	}
	return signer.PublicKey()
}

func write(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
