package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/config"
	"billdrop/ingest/inbox/sftpserver"
)

// TestCheckRights: what billdrop may not do on the server is told for the directory in which it may not, and what
// was written to find out is gone again where that is possible.
func TestCheckRights(t *testing.T) {
	box := startSite(t, emulator.Config{Seed: 1})
	conf, err := config.Load(box.path("config.yaml"), os.LookupEnv, config.Needs{})
	if err != nil {
		t.Fatal(err)
	}
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
		fails map[string]string // check → what it says
		left  bool              // the probe cannot be cleared away
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
		}}, fails: map[string]string{"moves": `rename "/inbox/.* have to be on one file system`}},
		{name: "none to remove", hooks: denied(sftpserver.OpRemove, "/results/"), fails: map[string]string{"results": `remove "/results/`}, left: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			box.sftp.SetHooks(c.hooks)
			defer box.sftp.SetHooks(sftpserver.Hooks{})
			var out bytes.Buffer
			e := &examiner{session: &session{stdout: &out}}
			e.server(t.Context(), conf)
			if e.broken != len(c.fails) || e.misconfigured != 0 {
				t.Errorf("%d checks failed, want %d", e.broken, len(c.fails))
			}
			for _, l := range e.lines {
				name := strings.TrimPrefix(l.Check, "bills: ")
				says, fails := c.fails[name]
				if fails != (l.Status == checkFailed) || (fails && !regexp.MustCompile(says).MatchString(l.Detail)) {
					t.Errorf("%s: %s: %s", l.Check, l.Status, l.Detail)
				}
			}
			if n := bytes.Count(out.Bytes(), []byte("\n")); n != len(e.lines) {
				t.Errorf("%d lines for %d checks:\n%s", n, len(e.lines), &out)
			}
			for _, dir := range []string{"inbox", "processing", "archive", "rejected", "results"} {
				entries, err := os.ReadDir(box.path(dir))
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

// TestCheckInterrupted: a check that somebody has had enough of ends, without a verdict on what it did not look at.
func TestCheckInterrupted(t *testing.T) {
	box := startSite(t, emulator.Config{Seed: 1})
	ctx, cancel := context.WithCancel(t.Context())
	box.sftp.SetHooks(sftpserver.Hooks{Before: func(_ context.Context, op sftpserver.Op, path string) error {
		if op == sftpserver.OpRename && strings.HasPrefix(path, "/processing/") {
			cancel()
		}
		return nil
	}})
	var out bytes.Buffer
	s := &session{Globals: Globals{Config: box.path("config.yaml")}, stdout: &out, env: os.LookupEnv}
	if err := (&checkCmd{}).Run(ctx, s); err == nil || exitCode(ctx, err) == exitDone {
		t.Errorf("error %v", err)
	}
	if strings.Contains(out.String(), "archive") || !strings.Contains(out.String(), "bills: processing") || strings.Contains(out.String(), checkFailed) {
		t.Errorf("it said:\n%s", &out)
	}
	entries, err := os.ReadDir(box.path("processing"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left in processing: %v, %v", entries, err)
	}
}
