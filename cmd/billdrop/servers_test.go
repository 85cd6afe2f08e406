//go:build servers && unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// TestServersIdleWhileRowsAreSent: sshd ends sessions that are idle for two seconds, and sending
// the rows takes longer. The run is a success.
func TestServersIdleWhileRowsAreSent(t *testing.T) {
	t.Parallel()
	box := startSite(t, emulator.Config{Seed: 1, Latency: 200 * time.Millisecond})
	root := t.TempDir()
	sshd := opensshtest.StartConfig(t, root, opensshtest.Config{Lines: []string{"ChannelTimeout session:*=2s"}})
	dirs := ""
	for _, name := range []string{"inbox", "processing", "archive", "rejected", "results"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
		dirs += fmt.Sprintf("    %s: %s\n", name, filepath.Join(root, name))
	}
	conf := dropped(t, box.Path("openssh.yaml"), fmt.Sprintf(`merchant: acme
api: {base_url: "%s", key_file: api.key, concurrency: 1}
sftp: {address: "%s", user: %s, private_key_file: %s, known_hosts_file: %s}
ledger: sqlite:openssh.db
spool_dir: openssh.spool
feeds:
  - name: bills
    amounts: minor
    settle: 0s
%s`, box.APIURL, sshd.Address, sshd.User, sshd.PrivateKeyFile, sshd.KnownHostsFile, dirs))
	dropped(t, filepath.Join(root, "inbox/november.csv"), string(numberedBills(30)))
	if out, err := billdrop(t, "run", "--once", "--config", conf).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if found, err := filepath.Glob(filepath.Join(root, "results/*.results.csv")); err != nil || len(found) != 1 {
		t.Errorf("results: %q, %v", found, err)
	}
	if n := sshd.Logins(); n < 2 {
		t.Errorf("%d logins: sshd did not end the session, so this proves nothing", n)
	}
}
