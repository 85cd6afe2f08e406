package inbox_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"

	"golang.org/x/crypto/ssh"
)

// behind returns a target that is reached through a bastion with the bastion's key.
func behind(t *testing.T, bastion opensshtest.Config) (target, via *remote) {
	t.Helper()
	via = startOpenSSH(t, bastion)
	key, err := os.ReadFile(via.cfg.PrivateKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	target = startOpenSSH(t, opensshtest.Config{AuthorizedKeys: []ssh.PublicKey{signer.PublicKey()}})
	target.cfg.PrivateKeyFile = via.cfg.PrivateKeyFile
	target.cfg.KnownHostsFile = bothFiles(t, target.cfg.KnownHostsFile, via.cfg.KnownHostsFile)
	target.cfg.ProxyJump = via.cfg.User + "@" + via.cfg.Address
	return target, via
}

func bothFiles(t *testing.T, files ...string) string {
	t.Helper()
	var all []byte
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "both"), string(all))
}

// TestBastion: all calls work through a bastion, which sees one login.
func TestBastion(t *testing.T) {
	t.Parallel()
	r, via := behind(t, opensshtest.Config{})
	p := r.pool(t)
	for name, call := range everyPoolCall(t, r, p) {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := via.sshd.Logins(); n != 1 {
		t.Errorf("%d logins on the bastion, want 1", n)
	}
	// The bastion breaks: so does the connection, and it is made again.
	if err := via.sshd.SignalSessions(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.List(t.Context(), r.path("inbox")); err != nil {
		t.Errorf("after the bastion broke: %v", err)
	}
}

func TestBastionRefuses(t *testing.T) {
	t.Parallel()
	t.Run("forwarding", func(t *testing.T) {
		r, _ := behind(t, opensshtest.Config{Lines: []string{"AllowTcpForwarding no"}})
		check(t, dialOnce(t, r.cfg), inbox.ErrUnreachable, "through bastion", "permit user", r.cfg.Address)
	})
	t.Run("target is down", func(t *testing.T) {
		r, _ := behind(t, opensshtest.Config{})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.cfg.Address = l.Addr().String()
		l.Close()
		check(t, dialOnce(t, r.cfg), inbox.ErrUnreachable, "through bastion", "as the bastion sees it")
	})
	t.Run("host key", func(t *testing.T) {
		r, via := behind(t, opensshtest.Config{})
		known := r.cfg.KnownHostsFile
		text, err := os.ReadFile(known)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(text), "\n")
		r.cfg.KnownHostsFile = writeFile(t, known+"1", strings.Join(lines[:2], "")) // of the target alone
		check(t, dialOnce(t, r.cfg), inbox.ErrHostKey, "connect to bastion "+via.cfg.Address)
		r.cfg.KnownHostsFile = writeFile(t, known+"2", strings.Join(lines[2:], "")) // of the bastion alone
		check(t, dialOnce(t, r.cfg), inbox.ErrHostKey, "connect to sftp server "+r.cfg.Address+" through bastion")
	})
	t.Run("key", func(t *testing.T) {
		r, via := behind(t, opensshtest.Config{})
		other, _ := newKey(t, "ed25519")
		r.cfg.PrivateKeyFile = keyFile(t, other)
		check(t, dialOnce(t, r.cfg), inbox.ErrLogin, "connect to bastion "+via.cfg.Address)
	})
	t.Run("malformed", func(t *testing.T) {
		r := startInProcess(t, sftpserver.Hooks{})
		for _, jump := range []string{"bastion", "@bastion", "a@", "a@b,c@d", "http://proxy:3128", "socks5://proxy", "socks5://u:p@proxy:1080", "socks5://p:1/x"} {
			r.cfg.ProxyJump = jump
			check(t, dialOnce(t, r.cfg), inbox.ErrConfig, "sftp.proxy_jump")
		}
	})
}

// TestBastionNeverGetsThePassword: it asks for one, and the account has one.
func TestBastionNeverGetsThePassword(t *testing.T) {
	t.Parallel()
	bastion := startDemanding(t, func(d *demanding, c *ssh.ServerConfig) {
		c.PasswordCallback, c.KeyboardInteractiveCallback = d.password, d.keyboard
	})
	r := startInProcess(t, sftpserver.Hooks{})
	r.cfg.ProxyJump = "jump@" + bastion.cfg.Address
	r.cfg.KnownHostsFile = bothFiles(t, r.cfg.KnownHostsFile, bastion.cfg.KnownHostsFile)
	check(t, dialOnce(t, r.cfg), inbox.ErrLogin, `"jump"`, "never gets the password", "sftp.private_key_file")
	private, _ := newKey(t, "ed25519")
	r.cfg.PrivateKeyFile = keyFile(t, private)
	check(t, dialOnce(t, r.cfg), inbox.ErrLogin, "bastion", "never gets the password")
	if bastion.passwords != 0 {
		t.Errorf("the bastion got the password %d times", bastion.passwords)
	}
}

// TestSilentRoute: a bastion or a proxy that never answers ends the dial in time.
func TestSilentRoute(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := startInProcess(t, sftpserver.Hooks{})
	private, _ := newKey(t, "ed25519")
	r.cfg.PrivateKeyFile, r.cfg.Timeout = keyFile(t, private), time.Second
	for _, jump := range []string{"jump@" + silent.Addr().String(), "socks5://" + silent.Addr().String()} {
		r.cfg.ProxyJump = jump
		within(t, time.Second, inbox.ErrUnreachable, func() error { return dialOnce(t, r.cfg) })
	}
}

// TestSOCKS: the proxy gets the server's name, and resolves it.
func TestSOCKS(t *testing.T) {
	t.Parallel()
	r := startInProcess(t, sftpserver.Hooks{})
	_, port, _ := net.SplitHostPort(r.cfg.Address)
	s := startSOCKS(t, map[string]string{"sftp.internal:" + port: r.cfg.Address})
	known := strings.ReplaceAll(r.inProcess.KnownHostsLine(), "127.0.0.1", "sftp.internal")
	r.cfg.KnownHostsFile = writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), known)
	r.cfg.Address, r.cfg.ProxyJump = "sftp.internal:"+port, "socks5://"+s.address
	p := r.pool(t)
	for name, call := range everyPoolCall(t, r, p) {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked := s.names(); !slices.Equal(asked, []string{"sftp.internal:" + port}) {
		t.Errorf("asked for %q", asked)
	}
	r.cfg.Address = "other.internal:22"
	check(t, dialOnce(t, r.cfg), inbox.ErrUnreachable, "SOCKS proxy "+s.address, "proxy's operator")
	r.cfg.ProxyJump = "socks5://" + nobody
	check(t, dialOnce(t, r.cfg), inbox.ErrUnreachable, "sftp.proxy_jump", nobody)
}

// socks is a SOCKS5 proxy (RFC 1928) that knows some names.
type socks struct {
	address string
	known   map[string]string

	mu    sync.Mutex
	asked []string
}

func (s *socks) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func startSOCKS(t *testing.T, known map[string]string) *socks {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &socks{address: l.Addr().String(), known: known}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if err := s.serve(conn); err != nil {
					t.Logf("socks: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return s
}

func (s *socks) serve(conn net.Conn) error {
	in := bufio.NewReader(conn)
	greeting := make([]byte, 2)
	if _, err := io.ReadFull(in, greeting); err != nil {
		return err
	}
	if _, err := in.Discard(int(greeting[1])); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{5, 0}); err != nil {
		return err
	}
	request := make([]byte, 5)
	if _, err := io.ReadFull(in, request); err != nil {
		return err
	}
	if request[3] != 3 {
		return errors.New("asked for an address, not for a name")
	}
	rest := make([]byte, int(request[4])+2)
	if _, err := io.ReadFull(in, rest); err != nil {
		return err
	}
	name := net.JoinHostPort(string(rest[:len(rest)-2]), strconv.Itoa(int(binary.BigEndian.Uint16(rest[len(rest)-2:]))))
	s.mu.Lock()
	s.asked = append(s.asked, name)
	s.mu.Unlock()
	out, err := net.Dial("tcp", s.known[name])
	if err != nil {
		_, err = conn.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0}) // host unreachable
		return err
	}
	defer out.Close()
	if _, err := conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { _, _ = io.Copy(out, in); out.Close(); close(done) }()
	_, _ = io.Copy(conn, out)
	conn.Close()
	<-done
	return nil
}
