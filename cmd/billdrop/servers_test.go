//go:build servers && unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
)

// overOpenSSH writes a configuration with the API of box, and with feeds on an OpenSSH server of
// its own.
func overOpenSSH(t *testing.T, box *sandbox.Sandbox, feeds int, api string, server ...string) (conf, root string, sshd *opensshtest.Server) {
	t.Helper()
	root = t.TempDir()
	sshd = opensshtest.StartConfig(t, root, opensshtest.Config{Lines: server})
	var b strings.Builder
	fmt.Fprintf(&b, `merchant: acme
api: {base_url: "%s", key_file: api.key, %s}
sftp: {address: "%s", user: %s, private_key_file: %s, known_hosts_file: %s}
ledger: sqlite:openssh.db
spool_dir: openssh.spool
poll_interval: 200ms
feeds:
`, box.APIURL, api, sshd.Address, sshd.User, sshd.PrivateKeyFile, sshd.KnownHostsFile)
	for i := range feeds {
		fmt.Fprintf(&b, "  - name: feed%d\n    amounts: minor\n    settle: 0s\n", i)
		for _, name := range []string{"inbox", "processing", "archive", "rejected", "results"} {
			dir := filepath.Join(root, fmt.Sprint(i), name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "    %s: %s\n", name, dir)
		}
	}
	return dropped(t, box.Path("openssh.yaml"), b.String()), root, sshd
}

// TestServersIdleWhileRowsAreSent: sshd ends sessions that are idle for two seconds, and sending
// the rows takes longer. The run is a success.
func TestServersIdleWhileRowsAreSent(t *testing.T) {
	t.Parallel()
	box := startSite(t, emulator.Config{Seed: 1, Latency: 200 * time.Millisecond})
	conf, root, sshd := overOpenSSH(t, box, 1, "concurrency: 1", "ChannelTimeout session:*=2s")
	dropped(t, filepath.Join(root, "0/inbox/november.csv"), string(numberedBills(30)))
	if out, err := billdrop(t, "run", "--once", "--config", conf).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if found, err := filepath.Glob(filepath.Join(root, "0/results/*.results.csv")); err != nil || len(found) != 1 {
		t.Errorf("results: %q, %v", found, err)
	}
	if n := sshd.Logins(); n < 2 {
		t.Errorf("%d logins: sshd did not end the session, so this proves nothing", n)
	}
}

// TestServersFiftyFeeds: a worker polls 50 feeds for files that come in waves, on an sshd that
// drops some of ten logins at once. It logs in once and nothing fails.
func TestServersFiftyFeeds(t *testing.T) {
	t.Parallel()
	const feeds, waves = 50, 3
	box := startSite(t, emulator.Config{Seed: 1})
	conf, root, sshd := overOpenSSH(t, box, feeds, "concurrency: 8", "MaxStartups 10:30:100")
	worker := billdrop(t, "run", "--config", conf)
	var stderr bytes.Buffer
	worker.Stderr = &stderr
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	for wave := range waves {
		for i := range feeds {
			bills := strings.ReplaceAll(string(numberedBills(2)), "INV-", fmt.Sprintf("W%d-F%d-", wave, i))
			path := filepath.Join(root, fmt.Sprint(i), "inbox", fmt.Sprintf("w%d.csv", wave))
			dropped(t, path+".part", bills)
			if err := os.Rename(path+".part", path); err != nil {
				t.Fatal(err)
			}
		}
		await(t, func() bool {
			found, err := filepath.Glob(filepath.Join(root, "*/archive", fmt.Sprintf("w%d*.csv", wave)))
			return err == nil && len(found) == feeds
		})
	}
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait() // ended by the signal
	if code := worker.ProcessState.ExitCode(); code != exitSignal+int(syscall.SIGTERM) {
		t.Errorf("exit code %d\n%s", code, &stderr)
	}
	if log := stderr.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("it complains:\n%s", log)
	}
	if n := sshd.Logins(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}
