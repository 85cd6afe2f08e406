package sftpserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"billdrop/ingest/inbox/sftpserver"

	"github.com/pkg/sftp"
	"github.com/skeema/knownhosts"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user     = "acme"
	password = "secret"
)

// start serves a directory with inbox/a.csv and results in it.
func start(t *testing.T, hooks sftpserver.Hooks) (*sftpserver.Server, string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"inbox", "results"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "inbox/a.csv"), "content")
	s, err := sftpserver.Start(context.Background(), sftpserver.Config{Dir: dir, User: user, Password: password, Hooks: hooks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, dir
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// connect logs in with the known_hosts lines of the server.
func connect(t *testing.T, s *sftpserver.Server) *ssh.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	write(t, file, s.KnownHostsLine())
	known, err := knownhosts.NewDB(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", s.Addr(), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: known.HostKeyCallback(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func open(t *testing.T, s *sftpserver.Server) *sftp.Client {
	t.Helper()
	c, err := sftp.NewClient(connect(t, s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestNothingOutsideIsReached(t *testing.T) {
	t.Parallel()
	s, dir := start(t, sftpserver.Hooks{})
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "secret")
	relative, err := filepath.Rel(filepath.Join(dir, "inbox"), outside)
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"absolute": outside, "relative": relative, "file": filepath.Join(outside, "secret"), "fresh": filepath.Join(outside, "fresh"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, "inbox", name)); err != nil {
			t.Fatal(err)
		}
	}
	c := open(t, s)
	for _, name := range []string{
		"/inbox/absolute/secret", "/inbox/relative/secret", "/inbox/file", "/inbox/fresh",
		"/../" + filepath.Base(outside) + "/secret", "../../../../../../../../" + outside + "/secret", outside + "/secret",
	} {
		if _, err := c.Open(name); err == nil {
			t.Errorf("read %s", name)
		}
		if _, err := c.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC); err == nil {
			t.Errorf("wrote %s", name)
		}
		if _, err := c.Stat(name); err == nil {
			t.Errorf("saw %s", name)
		}
	}
	for _, name := range []string{"/inbox/absolute/new", "/inbox/relative/new", "/inbox/file/new", outside + "/new"} {
		if err := c.Rename("/inbox/a.csv", name); err == nil {
			t.Errorf("moved to %s", name)
		}
		if err := c.PosixRename("/inbox/a.csv", name); err == nil {
			t.Errorf("moved over %s", name)
		}
		if err := c.Mkdir(name); err == nil {
			t.Errorf("made %s", name)
		}
	}
	if _, err := c.ReadDir("/inbox/absolute"); err == nil {
		t.Error("listed a directory outside")
	}
	if err := c.Symlink(outside, "/inbox/new"); err == nil {
		t.Error("made a link")
	}
	if err := c.Link("/inbox/a.csv", "/inbox/new"); err == nil {
		t.Error("made a hard link")
	}
	if _, err := c.ReadLink("/inbox/absolute"); err == nil {
		t.Error("returned the target of a link")
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	if b, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(b) != "secret" {
		t.Errorf("outside: %q, %v", b, err)
	}
}

func TestRenames(t *testing.T) {
	t.Parallel()
	s, dir := start(t, sftpserver.Hooks{})
	c := open(t, s)
	write(t, filepath.Join(dir, "results/a.csv"), "old")
	if err := c.Rename("/inbox/a.csv", "/results/a.csv"); err == nil {
		t.Error("a plain rename overwrote")
	}
	if err := c.Rename("/inbox", "/results"); err == nil {
		t.Error("a plain rename overwrote a directory")
	}
	if err := c.Rename("/inbox/none", "/results/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("rename of nothing: %v", err)
	}
	if err := c.PosixRename("/inbox/a.csv", "/results/a.csv"); err != nil {
		t.Errorf("posix-rename: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "results/a.csv")); err != nil || string(b) != "content" {
		t.Errorf("after posix-rename: %q, %v", b, err)
	}
	if err := c.Rename("/results", "/moved"); err != nil {
		t.Errorf("rename of a directory: %v", err)
	}
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		hooks         sftpserver.Hooks
		rename, fsync bool
	}{
		{sftpserver.Hooks{}, true, true},
		{sftpserver.Hooks{NoPosixRename: true}, false, true},
		{sftpserver.Hooks{NoFsync: true}, true, false},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synced := 0
			c.hooks.Before = func(_ context.Context, op sftpserver.Op, path string) error {
				if op == sftpserver.OpFsync && path == "/inbox/a.csv" {
					synced++
				}
				return nil
			}
			s, _ := start(t, c.hooks)
			client := open(t, s)
			if _, ok := client.HasExtension("posix-rename@openssh.com"); ok != c.rename {
				t.Errorf("posix-rename is announced: %t", ok)
			}
			if err := client.PosixRename("/inbox/a.csv", "/inbox/a.csv"); (err == nil) != c.rename {
				t.Errorf("posix-rename: %v", err)
			}
			f, err := client.OpenFile("/inbox/a.csv", os.O_WRONLY)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Sync(); (err == nil) != c.fsync {
				t.Errorf("sync: %v", err)
			}
			if want := map[bool]int{true: 1}[c.fsync]; synced != want {
				t.Errorf("synced %d times, want %d", synced, want)
			}
		})
	}
}

func TestOnlySFTPIsServed(t *testing.T) {
	t.Parallel()
	s, _ := start(t, sftpserver.Hooks{})
	c := connect(t, s)
	for name, try := range map[string]func(*ssh.Session) error{
		"exec":      func(s *ssh.Session) error { return s.Start("id") },
		"shell":     func(s *ssh.Session) error { return s.Shell() },
		"terminal":  func(s *ssh.Session) error { return s.RequestPty("xterm", 24, 80, nil) },
		"variable":  func(s *ssh.Session) error { return s.Setenv("LD_PRELOAD", "x") },
		"subsystem": func(s *ssh.Session) error { return s.RequestSubsystem("netconf") },
	} {
		session, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if try(session) == nil {
			t.Errorf("%s is served", name)
		}
		session.Close()
	}
	if conn, err := c.Dial("tcp", s.Addr()); err == nil {
		conn.Close()
		t.Error("forwards connections")
	}
	if l, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		t.Error("forwards listeners")
	}
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("keepalive: %v", err)
	}
	if _, err := sftp.NewClient(c); err != nil {
		t.Errorf("sftp, after all that: %v", err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s, _ := start(t, sftpserver.Hooks{})
	c := open(t, s)
	put := func(content string) error {
		f, err := c.OpenFile("/inbox/b.csv", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, content)
		return errors.Join(err, f.Close())
	}
	var status *sftp.StatusError
	for _, f := range []struct {
		name  string
		hooks sftpserver.Hooks
		good  func(error) bool
	}{
		{"none", sftpserver.Hooks{}, func(err error) bool { return err == nil }},
		{"read-only", sftpserver.Hooks{ReadOnly: true}, func(err error) bool { return errors.Is(err, os.ErrPermission) }},
		{"full", sftpserver.Hooks{FullAfter: -1}, func(err error) bool { return errors.As(err, &status) }},
		{"nearly full", sftpserver.Hooks{FullAfter: 3}, func(err error) bool { return errors.As(err, &status) }},
		{"room enough", sftpserver.Hooks{FullAfter: 4}, func(err error) bool { return err == nil }},
		{"own", sftpserver.Hooks{Before: func(_ context.Context, op sftpserver.Op, _ string) error {
			if op == sftpserver.OpWrite {
				return os.ErrNotExist
			}
			return nil
		}}, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		{"healed", sftpserver.Hooks{}, func(err error) bool { return err == nil }},
	} {
		s.SetHooks(f.hooks)
		if err := put("1234"); !f.good(err) {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	s.Drop()
	if err := put("1234"); err == nil {
		t.Error("the connection survived its drop")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]sftpserver.Config{
		"no user":      {Dir: t.TempDir(), Password: password},
		"no login":     {Dir: t.TempDir(), User: user},
		"no directory": {Dir: filepath.Join(t.TempDir(), "none"), User: user, Password: password},
		"bad address":  {Dir: t.TempDir(), User: user, Password: password, Addr: "127.0.0.1:x"},
	} {
		if s, err := sftpserver.Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: started at %s", name, s.Addr())
			s.Close()
		}
	}
}

// TestContext: a server ends with its context, in the middle of a stalled request.
func TestContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stalled := make(chan struct{})
	s, err := sftpserver.Start(ctx, sftpserver.Config{
		Dir: t.TempDir(), User: user, Password: password,
		Hooks: sftpserver.Hooks{Before: func(ctx context.Context, _ sftpserver.Op, _ string) error {
			close(stalled)
			<-ctx.Done()
			return ctx.Err()
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, s)
	got := make(chan error)
	go func() {
		_, err := c.Lstat("/")
		got <- err
	}()
	<-stalled
	cancel()
	if err := <-got; err == nil {
		t.Error("answered by a server that is gone")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
