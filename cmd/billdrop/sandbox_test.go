package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"billdrop/client/servertest"
)

// TestSandboxProcess serves the same directory twice. Each time, the commands of the
// introduction work.
func TestSandboxProcess(t *testing.T) {
	dir := t.TempDir()
	for start := range 2 {
		cmd := billdrop(t, "sandbox", "--dir", dir, "--sftp-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := introduced(t, stdout)
		dropSample(t, dir, said["sftp"])
		out, err := shell(t, said["billdrop"]).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("sample.csv: completed")) || !bytes.Contains(out, []byte("created")) {
			t.Errorf("start %d: the run ended with %v:\n%s", start, err, out)
		}
		// A file that was being worked on when all ended.
		if err := os.WriteFile(filepath.Join(dir, "processing", "left.csv"), numberedBills(2), 0o600); err != nil {
			t.Fatal(err)
		}
		if start > 0 && !bytes.Contains(out, []byte("left.csv: completed")) {
			t.Errorf("the file that was left behind was not done:\n%s", out)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
			t.Errorf("start %d: the sandbox ended with %v, want exit code 130", start, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("merchant: mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := billdrop(t, "sandbox", "--dir", dir, "--sftp-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(out, []byte("left alone")) {
		t.Errorf("a configuration of somebody's own: %v\n%s", err, out)
	}
}

// introduced returns the commands of the introduction, by program.
func introduced(t *testing.T, stdout io.Reader) map[string]string {
	t.Helper()
	commands := map[string]string{}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "echo 'put "):
			commands["sftp"] = line
		case strings.HasPrefix(line, "billdrop "):
			commands["billdrop"] = line
		case strings.HasPrefix(line, "Ctrl-C"):
			return commands
		}
	}
	t.Fatal("the sandbox ended before it was up")
	return nil
}

// dropSample drops the sample file with OpenSSH's client, or by hand if there is no
// client and none is required.
func dropSample(t *testing.T, dir, command string) {
	t.Helper()
	if _, err := exec.LookPath("sftp"); err != nil && os.Getenv(servertest.RequireEnv) == "" {
		t.Log("there is no OpenSSH client here: the file is put into the inbox by hand")
		sample, err := os.ReadFile(filepath.Join(dir, "sample.csv"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "inbox", "sample.csv"), sample, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if out, err := shell(t, command).CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v: %s", command, err, out)
	}
}
