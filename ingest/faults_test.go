package ingest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
	"billdrop/ingest/transfer"
)

// Whatever the SFTP server does, the run ends in time with an error about it, and the next
// run finishes the file.
func TestSFTPFaults(t *testing.T) {
	const rows = 40
	refuse := func(op sftpserver.Op, dir string, err error) sftpserver.Hooks {
		return sftpserver.Hooks{Before: func(_ context.Context, o sftpserver.Op, p string) error {
			if o == op && strings.HasPrefix(p, dir) {
				return err
			}
			return nil
		}}
	}
	stall := func(op sftpserver.Op, dir string) sftpserver.Hooks {
		return sftpserver.Hooks{Before: func(ctx context.Context, o sftpserver.Op, p string) error {
			if o == op && strings.HasPrefix(p, dir) {
				<-ctx.Done()
			}
			return nil
		}}
	}
	for name, hooks := range map[string]sftpserver.Hooks{
		"read-only":                   {ReadOnly: true},
		"full":                        {FullAfter: -1},
		"full in the middle":          {FullAfter: 900},
		"list hangs":                  stall(sftpserver.OpList, "/inbox"),
		"claim hangs":                 stall(sftpserver.OpRename, "/inbox"),
		"fetch hangs":                 stall(sftpserver.OpReadAt, "/processing"),
		"report hangs":                stall(sftpserver.OpWriteAt, "/results"),
		"report's rename hangs":       stall(sftpserver.OpPosixRename, "/results"),
		"read back hangs":             stall(sftpserver.OpReadAt, "/results"),
		"archiving hangs":             stall(sftpserver.OpRename, "/processing"),
		"claim refused":               refuse(sftpserver.OpRename, "/inbox", os.ErrPermission),
		"claim fails":                 refuse(sftpserver.OpRename, "/inbox", syscall.EIO),
		"fetch refused":               refuse(sftpserver.OpRead, "/processing", os.ErrPermission),
		"report refused":              refuse(sftpserver.OpWrite, "/results", os.ErrPermission),
		"report's rename refused":     refuse(sftpserver.OpPosixRename, "/results", syscall.EIO),
		"archiving refused":           refuse(sftpserver.OpRename, "/processing", os.ErrPermission),
		"archiving, no space":         refuse(sftpserver.OpRename, "/processing", syscall.ENOSPC),
		"look at the claimed refused": refuse(sftpserver.OpLstat, "/processing/", os.ErrPermission),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, home := t.TempDir(), t.TempDir()
			s, err := sftpserver.Start(t.Context(), sftpserver.Config{Dir: root, User: "acme", Password: "secret"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			write(t, filepath.Join(home, "password"), "secret")
			write(t, filepath.Join(home, "known_hosts"), s.KnownHostsLine())
			r := newRig(t, root, "", inbox.Config{
				Address: s.Addr(), User: "acme", PasswordFile: filepath.Join(home, "password"),
				KnownHostsFile: filepath.Join(home, "known_hosts"), Timeout: 400 * time.Millisecond,
			})
			r.drop(t, "a.csv", manyBills(0, rows, 10))
			s.SetHooks(hooks)
			begun := time.Now()
			summaries, err := r.try(t)
			if err == nil {
				t.Fatalf("the run with a fault ended well: %+v", summaries)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("the run took %v to end", took)
			}
			t.Logf("error: %v", err)
			s.SetHooks(sftpserver.Hooks{})
			r.finished(t, rows)
		})
	}
}

// A server without posix-rename works as well.
func TestWithoutPosixRename(t *testing.T) {
	root := t.TempDir()
	s := opensshtest.StartConfig(t, root, opensshtest.Config{Deny: []string{"posix-rename", "fsync"}})
	r := newRig(t, s.Root, s.Root, inbox.Config{
		Address: s.Address, User: s.User, PrivateKeyFile: s.PrivateKeyFile, KnownHostsFile: s.KnownHostsFile, Timeout: 5 * time.Second,
	})
	r.drop(t, "a.csv", manyBills(0, 20, 5))
	r.finished(t, 20)
}

// OpenSSH that is stopped in the middle, and continued for the next run.
func TestOpenSSHHangs(t *testing.T) {
	root := t.TempDir()
	s := opensshtest.Start(t, root)
	r := newRig(t, s.Root, s.Root, inbox.Config{
		Address: s.Address, User: s.User, PrivateKeyFile: s.PrivateKeyFile, KnownHostsFile: s.KnownHostsFile, Timeout: time.Second,
	})
	r.drop(t, "a.csv", manyBills(0, 20, 5))
	connect := r.feed.Connect
	r.feed.Connect = func(ctx context.Context) (transfer.Remote, error) {
		remote, err := connect(ctx)
		if err == nil {
			err = s.Signal(syscall.SIGSTOP)
		}
		return remote, err
	}
	if _, err := r.try(t); !errors.Is(err, inbox.ErrUnreachable) {
		t.Errorf("err = %v", err)
	}
	if err := s.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.feed.Connect = connect
	r.finished(t, 20)
}

// TestForeign404: a gateway that has lost its route answers 404 to look-ups, which proves
// nothing. The bills that sends made whose answers were lost are found once the route is back,
// and none is raised twice by an API that would permit it.
func TestForeign404(t *testing.T) {
	for _, body := range []string{"404 page not found", `{"message":"no Route matched with those values"}`} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, simConfig{Seed: 1, Weak: true})
			w.files.remove("/inbox/b.csv")
			begun, gets := time.Now(), 0
			w.script = func(c emulator.Call) emulator.Fault {
				switch {
				case c.Method == "POST" && c.NthRef == 1:
					return emulator.Fault{Apply: true, Status: 500, Store: true}
				case c.Method == "GET" && time.Since(begun) < 10*time.Minute:
					gets++
					return emulator.Fault{Status: 404, Body: body, ContentType: "text/plain"}
				}
				return emulator.Fault{}
			}
			if err := w.run(t); err != nil {
				t.Fatal(err)
			}
			bills := make(map[string]int)
			for _, b := range w.api.State().Bills {
				if bills[b.ExternalReference]++; bills[b.ExternalReference] > 1 {
					t.Errorf("%s: raised twice", b.ExternalReference)
				}
			}
			for ref, status := range statusOf(t, w, "a.csv", simBills) {
				if want := "created"; ref != "INV-7" && (status != want || bills[ref] != 1) {
					t.Errorf("%s: reported %s, the API holds %d", ref, status, bills[ref])
				}
			}
			if gets == 0 {
				t.Error("nothing was looked up")
			}
		})
	}
}
