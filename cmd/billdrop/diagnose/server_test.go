package diagnose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/config"
	"billdrop/cmd/billdrop/describe"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/ledger"
	"billdrop/ingest/ledger/sqlite"
)

// site starts a sandbox for the test.
func site(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	box, err := sandbox.Open(t.Context(), sandbox.Options{
		Dir: t.TempDir(), SFTPAddr: "127.0.0.1:0", APIAddr: "127.0.0.1:0", API: emulator.Config{Seed: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	return box
}

// goodLane is a lane to an API that accepts the key.
type goodLane struct{}

func (goodLane) Scope() ledger.Scope                 { return ledger.Scope{Merchant: "acme", Mode: "test"} }
func (goodLane) Probe(context.Context, string) error { return nil }

// options check a sandbox and append to lines.
func options(box *sandbox.Sandbox, lines *[]Line) Options {
	return Options{
		Config: box.Path("config.yaml"), Env: os.LookupEnv,
		Report: func(l Line) { *lines = append(*lines, l) },
		Lane: func(*config.Config, *config.Feed) (Probe, string, error) {
			return goodLane{}, "api.key_file", nil
		},
		Dial: func(ctx context.Context, c *config.SFTP) (*inbox.Account, error) {
			return inbox.Dial(ctx, c.Account())
		},
	}
}

// TestRights: a right that billdrop lacks on the server is reported for the directory, and
// the probes are removed where that is possible.
func TestRights(t *testing.T) {
	box := site(t)
	var moves atomic.Int64
	denied := func(op sftpserver.Op, dir string) sftpserver.Hooks {
		return sftpserver.Hooks{Before: func(_ context.Context, o sftpserver.Op, path string) error {
			if o == op && strings.HasPrefix(path, dir) {
				return os.ErrPermission
			}
			return nil
		}}
	}
	for _, c := range []struct {
		name  string
		hooks sftpserver.Hooks
		fails map[string]string // check → its detail
		left  bool              // the probe cannot be removed
	}{
		{name: "all rights"},
		{name: "none to write", hooks: sftpserver.Hooks{ReadOnly: true}, fails: map[string]string{
			"inbox": "does not permit", "processing": "does not permit", "archive": "does not permit", "rejected": "does not permit", "results": "does not permit",
		}},
		{name: "none to list", hooks: denied(sftpserver.OpList, "/inbox"), fails: map[string]string{"inbox": `list "/inbox".*let user "sandbox" read and write`}},
		{name: "none to rename", hooks: denied(sftpserver.OpRename, "/archive/"), fails: map[string]string{"archive": `rename "/archive/`}},
		{name: "no room", hooks: sftpserver.Hooks{FullAfter: -1}, fails: map[string]string{
			"inbox": "make room", "processing": "make room", "archive": "make room", "rejected": "make room", "results": "make room",
		}},
		{name: "none to move away", hooks: sftpserver.Hooks{Before: func(_ context.Context, o sftpserver.Op, path string) error {
			if o == sftpserver.OpRename && strings.HasPrefix(path, "/inbox/") && moves.Add(1) > 1 { // the first is within the inbox
				return syscall.EXDEV
			}
			return nil
		}}, fails: map[string]string{"moves": `rename "/inbox/.* must be on one file system`}},
		{name: "none to remove", hooks: denied(sftpserver.OpRemove, "/results/"), fails: map[string]string{"results": `remove "/results/`}, left: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			box.SFTP.SetHooks(c.hooks)
			defer box.SFTP.SetHooks(sftpserver.Hooks{})
			var lines []Line
			result := Run(t.Context(), options(box, &lines))
			if result.Broken != len(c.fails) || result.Misconfigured != 0 || len(lines) < 12 {
				t.Errorf("%+v, want %d that failed, of %d", result, len(c.fails), len(lines))
			}
			for _, l := range lines {
				detail, fails := c.fails[strings.TrimPrefix(l.Check, "bills: ")]
				if fails != (l.Status == Failed) || fails && !regexp.MustCompile(detail).MatchString(l.Detail) {
					t.Errorf("%+v", l)
				}
			}
			for _, dir := range []string{"inbox", "processing", "archive", "rejected", "results"} {
				entries, err := os.ReadDir(box.Path(dir))
				if err != nil {
					t.Fatal(err)
				}
				if len(entries) > 0 && !c.left {
					t.Errorf("left in %s: %v", dir, entries)
				}
			}
		})
	}
}

// TestInterrupted: a check that is interrupted ends without a verdict on the rest.
func TestInterrupted(t *testing.T) {
	box := site(t)
	ctx, cancel := context.WithCancel(t.Context())
	box.SFTP.SetHooks(sftpserver.Hooks{Before: func(_ context.Context, op sftpserver.Op, path string) error {
		if op == sftpserver.OpRename && strings.HasPrefix(path, "/processing/") {
			cancel()
		}
		return nil
	}})
	var lines []Line
	if result := Run(ctx, options(box, &lines)); result.Failed() != 0 {
		t.Errorf("%+v: %+v", result, lines)
	}
	if last := lines[len(lines)-1]; last.Check != "bills: processing" {
		t.Errorf("the last line: %+v", last)
	}
	entries, err := os.ReadDir(box.Path("processing"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left in processing: %v, %v", entries, err)
	}
}

// TestText: what to do follows what is wrong, for each of several errors.
func TestText(t *testing.T) {
	one, two := describe.Advise(errors.New("one"), "do this"), errors.New("two")
	for _, c := range []struct {
		err  error
		want string
	}{
		{one, "one: do this"}, {two, "two"}, {errors.Join(one, two), "one: do this\ntwo"},
		{describe.Advise(errors.Join(two, two), "do that"), "two\ntwo: do that"},
	} {
		if got := text(c.err); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestProbesHaveTemporaryNames: on servers that refuse names which begin with a dot, the probes
// have other ones too.
func TestProbesHaveTemporaryNames(t *testing.T) {
	box := site(t)
	conf, err := os.ReadFile(box.Path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(conf), "sftp:\n", "sftp:\n  temporary_name: \"{name}.tmp\"\n", 1)
	if err := os.WriteFile(box.Path("config.yaml"), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	var probes atomic.Int64
	box.SFTP.SetHooks(sftpserver.Hooks{Before: func(_ context.Context, o sftpserver.Op, path string) error {
		name := path[strings.LastIndexByte(path, '/')+1:]
		if o == sftpserver.OpWrite {
			probes.Add(1)
		}
		if strings.HasPrefix(name, ".") {
			return os.ErrPermission
		}
		return nil
	}})
	var lines []Line
	if result := Run(t.Context(), options(box, &lines)); result.Failed() != 0 || probes.Load() == 0 {
		t.Errorf("%+v after %d probes: %+v", result, probes.Load(), lines)
	}
}

// TestOneConnectionAUser: where the login fails while a billdrop runs, that one is named: it may
// have the only connection that the server admits.
func TestOneConnectionAUser(t *testing.T) {
	box := site(t)
	conf, err := config.Load(box.Path("config.yaml"), os.LookupEnv, config.Needs{})
	if err != nil {
		t.Fatal(err)
	}
	held, err := sqlite.Open(t.Context(), conf.LedgerPlace().Path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for kind, check := range map[error]string{inbox.ErrUnreachable: "sftp server", inbox.ErrRefused: "sftp login"} {
		var lines []Line
		o := options(box, &lines)
		o.Dial = func(context.Context, *config.SFTP) (*inbox.Account, error) {
			return nil, &inbox.Error{Op: "connect", Kind: kind, Hint: "ask its operator"}
		}
		if result := Run(t.Context(), o); result.Broken != 1 {
			t.Errorf("%+v: %+v", result, lines)
		}
		want := regexp.MustCompile(fmt.Sprintf(`ask its operator; or the server admits one connection a user, and billdrop \(process %d\) has it`, os.Getpid()))
		if !slices.ContainsFunc(lines, func(l Line) bool { return l.Check == check && l.Status == Failed && want.MatchString(l.Detail) }) {
			t.Errorf("%v: %+v", kind, lines)
		}
	}
}

// TestCrowdedDirectories: an archive may hold any number of files. No check fails of it.
func TestCrowdedDirectories(t *testing.T) {
	box := site(t)
	box.SFTP.SetHooks(sftpserver.Hooks{Extra: func(i int64) (string, bool) { return fmt.Sprintf("%09d.csv", i), true }})
	var lines []Line
	if result := Run(t.Context(), options(box, &lines)); result.Failed() != 0 {
		t.Errorf("%+v: %+v", result, lines)
	}
	if n := strings.Count(fmt.Sprint(lines), "more than 100,000 entries in it"); n != 5 {
		t.Errorf("%d directories hold more than 100,000 entries, want 5: %+v", n, lines)
	}
}
