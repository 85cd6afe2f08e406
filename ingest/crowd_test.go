package ingest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver"
	"billdrop/ingest/watch"
)

// TestEndlessInbox: a server that lists without end neither stops a poll nor hides the files that
// it lists first, and the operator learns of it.
func TestEndlessInbox(t *testing.T) {
	root, home := t.TempDir(), t.TempDir()
	s, err := sftpserver.Start(t.Context(), sftpserver.Config{Dir: root, User: "acme", Password: "secret",
		Hooks: sftpserver.Hooks{Extra: func(i int64) (string, bool) { return fmt.Sprintf("%09d.tmp", i), true }}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	write(t, filepath.Join(home, "password"), "secret")
	write(t, filepath.Join(home, "known_hosts"), s.KnownHostsLine())
	r := newRig(t, root, "", inbox.Config{
		Address: s.Addr(), User: "acme", PasswordFile: filepath.Join(home, "password"), KnownHostsFile: filepath.Join(home, "known_hosts"),
	})
	r.feed.Watch.Ignore = []string{"*.tmp"}
	r.drop(t, "a.csv", manyBills(1, 3, 1))
	var log bytes.Buffer
	w := r.worker(t, &log, r.feed)
	done, err := w.Poll(t.Context())
	if err != nil || len(done) != 1 || len(r.api.State().Bills) != 3 {
		t.Fatalf("summaries %+v, error %v, %d bills", done, err, len(r.api.State().Bills))
	}
	crowded := make(map[string]string)
	for _, state := range w.Inboxes() {
		for _, remark := range state.Remarks {
			if remark.Kind == watch.Crowded {
				crowded[remark.Name] = remark.Text
			}
		}
	}
	for _, dir := range []string{r.feed.Dirs.Inbox, r.feed.Dirs.Processing} {
		if !strings.HasPrefix(crowded[dir], "it has more than 100000 entries, ") {
			t.Errorf("%s: remark %q", dir, crowded[dir])
		}
		if line := `msg="the directory is read in part" feed=bills file=` + dir; strings.Count(log.String(), line) != 1 {
			t.Errorf("the log has %d times %q", strings.Count(log.String(), line), line)
		}
	}
	s.SetHooks(sftpserver.Hooks{})
	for _, left := range []string{"inbox", "processing"} {
		if names, err := os.ReadDir(filepath.Join(root, left)); err != nil || len(names) > 0 {
			t.Errorf("%s: %v, %v", left, names, err)
		}
	}
	if _, err := w.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, state := range w.Inboxes() {
		if len(state.Remarks) > 0 {
			t.Errorf("it is over: %+v", state.Remarks)
		}
	}
}
