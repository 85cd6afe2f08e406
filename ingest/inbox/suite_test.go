package inbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"

	"go.uber.org/goleak"
)

const (
	testUser     = "acme"
	testPassword = "correct horse battery staple"

	// patience is the timeout of accounts whose server is made to hang.
	patience = time.Second

	// busy is how much longer than its timeout a call may take on a busy machine. It is less
	// than the usual timeout: a call that ends by that one took too long.
	busy = 20 * time.Second

	// nobody is an address on which nothing listens, nor ever does: its port is a reserved one.
	nobody = "127.0.0.1:1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// remote is a server of a test: its login, and its directory on this machine.
type remote struct {
	cfg   inbox.Config
	root  string // the remote path of local
	local string
	// one of these is nil
	inProcess *sftpserver.Server
	sshd      *opensshtest.Server
}

// onBoth runs a test against the server in this process and against a real OpenSSH server.
func onBoth(t *testing.T, test func(t *testing.T, r *remote)) {
	t.Helper()
	t.Run("in process", func(t *testing.T) { test(t, startInProcess(t, sftpserver.Hooks{})) })
	t.Run("openssh", func(t *testing.T) { test(t, startOpenSSH(t, opensshtest.Config{})) })
}

func startInProcess(t *testing.T, hooks sftpserver.Hooks) *remote {
	t.Helper()
	dir := t.TempDir()
	server, err := sftpserver.Start(context.Background(), sftpserver.Config{
		Dir: dir, User: testUser, Password: testPassword, Hooks: hooks,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	secrets := t.TempDir()
	return &remote{
		root: "/", local: dir, inProcess: server,
		cfg: inbox.Config{
			Address:        server.Addr(),
			User:           testUser,
			PasswordFile:   writeFile(t, filepath.Join(secrets, "password"), testPassword+"\n"),
			KnownHostsFile: writeFile(t, filepath.Join(secrets, "known_hosts"), server.KnownHostsLine()),
			Timeout:        30 * time.Second,
		},
	}
}

func startOpenSSH(t *testing.T, cfg opensshtest.Config) *remote {
	t.Helper()
	dir := t.TempDir()
	server := opensshtest.StartConfig(t, dir, cfg)
	return &remote{
		root: dir, local: dir, sshd: server,
		cfg: inbox.Config{
			Address:        server.Address,
			User:           server.User,
			PrivateKeyFile: server.PrivateKeyFile,
			KnownHostsFile: server.KnownHostsFile,
			Timeout:        30 * time.Second,
		},
	}
}

// dial logs in. The account is closed when the test ends.
func (r *remote) dial(t *testing.T) *inbox.Account {
	t.Helper()
	a, err := inbox.Dial(t.Context(), r.cfg)
	// On a busy machine a handshake can take longer than patience, which is meant for later calls.
	for range 10 {
		if r.cfg.Timeout > patience || !errors.Is(err, inbox.ErrUnreachable) {
			break
		}
		a, err = inbox.Dial(t.Context(), r.cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (r *remote) path(name string) string { return path.Join(r.root, name) }

// put creates a file on the server without SFTP.
func (r *remote) put(t *testing.T, name, content string) {
	t.Helper()
	full := filepath.Join(r.local, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, full, content)
}

func (r *remote) mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(r.local, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// get reads a file of the server without SFTP.
func (r *remote) get(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.local, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// names lists a directory of the server without SFTP.
func (r *remote) names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.local, dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// noise returns n bytes that do not repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("noise"))).Read(b) // cannot fail
	return b
}

func fetch(t *testing.T, a *inbox.Account, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := a.Fetch(t.Context(), name, &b)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) {
		t.Errorf("Fetch says %d bytes and wrote %d", n, b.Len())
	}
	return b.Bytes()
}

func publish(t *testing.T, a *inbox.Account, dir, name, content string) {
	t.Helper()
	if err := a.Publish(t.Context(), dir, name, bytes.NewReader([]byte(content))); err != nil {
		t.Fatal(err)
	}
}

// writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
