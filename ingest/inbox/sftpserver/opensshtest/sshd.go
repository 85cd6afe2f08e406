//go:build unix

// Package opensshtest runs a real OpenSSH server for tests: on loopback, with its own keys, for
// SFTP alone.
package opensshtest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"

	"billdrop/client/servertest"
)

// sshd is the server's path on Debian and most other systems. sshd must be started by its full
// path.
const sshd = "/usr/sbin/sshd"

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
	*servertest.Running
	User           string // the user who runs the test
	PrivateKeyFile string
	KnownHostsFile string
	Root           string // absolute; remote paths begin with it
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
	servertest.Require(t, sshd, "openssh-server")
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
	script := `exec "$0" "$@"`
	if cfg.FileLimit > 0 {
		// sshd inherits the limit, and that its signal is ignored: a write beyond it fails, as on a
		// full disk.
		script = fmt.Sprintf(`trap '' XFSZ; ulimit -f %d; %s`, (cfg.FileLimit+511)/512, script)
	}
	s.Running = servertest.Start(t, servertest.Program{
		Path: "/bin/sh", Package: "openssh-server", Listening: "Server listening on",
		Args: func(port int) (args, env []string) {
			conf := filepath.Join(keys, "sshd_config")
			write(t, conf, []byte(cfg.text(keys, port)))
			return []string{"-c", script, sshd, "-D", "-e", "-f", conf}, nil
		},
	})
	t.Cleanup(func() {
		// All are stopped first, so that none starts while they are listed.
		_ = s.Signal(syscall.SIGSTOP)
		_ = s.Signal(syscall.SIGKILL)
	})
	var known strings.Builder
	for _, key := range hostKeys {
		fmt.Fprintln(&known, knownhosts.Line([]string{s.Address}, key))
	}
	write(t, s.KnownHostsFile, []byte(known.String()))
	return s
}

// text is the configuration of a server that has its keys in a directory.
func (cfg *Config) text(keys string, port int) string {
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
		"Port "+strconv.Itoa(port),
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

// Logins returns how many logins sshd has accepted.
func (s *Server) Logins() int { return strings.Count(s.Log(), "Accepted ") }

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
