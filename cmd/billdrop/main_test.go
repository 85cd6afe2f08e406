package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"billdrop/client/emulator"
	"billdrop/ingest/inbox/sftpserver/opensshtest"
	"billdrop/ingest/ledger/sqlite"
)

func TestMain(m *testing.M) {
	commands := map[string]func(){"billdrop": main}
	maps.Copy(commands, benchCommands())
	testscript.Main(m, commands)
}

// TestScripts runs the real binary from the outside. The commands that the scripts have over testscript's own:
//
//	code N PROGRAM ARG…   runs a program, which must exit with N
//	site DIR [LATENCY]    starts an SFTP server and a Billing API in this process, with all that is needed to use them in
//	                      DIR (see `billdrop sandbox`); $API is the API's address
//	requests N            the API has answered N requests so far
//	bills N               the API holds N bills
//	lock FILE             holds a ledger, as another billdrop would
//	unlock                lets go of it
//	awaitfile FILE TEXT   waits until a file has a line that matches
//	numbers N FILE        writes a bill file of N rows with a party each
//	listening LOG         waits until a run's log names its status page; $PAGE is the page's address, $PORT its port
//	get STATUS URL        asks for a page, which must answer so; its body becomes the standard output
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[siteKey] = new(*sandbox)
			env.Values[lockKey] = new(*sqlite.Ledger)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "site": scriptSite, "requests": scriptRequests, "bills": scriptBills, "lock": scriptLock, "unlock": scriptUnlock, "numbers": scriptNumbers,
			"listening": scriptListening, "get": scriptGet, "awaitfile": scriptAwaitFile,
		},
	})
}

const (
	siteKey = "site"
	lockKey = "lock"
)

func scriptSiteOf(ts *testscript.TestScript) *sandbox {
	box := *ts.Value(siteKey).(**sandbox)
	if box == nil {
		ts.Fatalf("no site was started")
	}
	return box
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s exited with %d, want %s", args[1], got, args[0])
	}
}

func scriptSite(ts *testscript.TestScript, neg bool, args []string) {
	var latency time.Duration
	if len(args) == 2 {
		var err error
		latency, err = time.ParseDuration(args[1])
		ts.Check(err)
	}
	box, err := openSandbox(context.Background(), sandboxOptions{
		dir: ts.MkAbs(args[0]), sftpAddr: "127.0.0.1:0", apiAddr: "127.0.0.1:0", api: emulator.Config{Latency: latency, Seed: 1},
	})
	ts.Check(err)
	ts.Defer(func() { ts.Check(box.close()) })
	ts.Setenv("API", box.apiURL)
	*ts.Value(siteKey).(**sandbox) = box
}

func scriptRequests(ts *testscript.TestScript, neg bool, args []string) {
	if got := strconv.FormatInt(scriptSiteOf(ts).requests.Load(), 10); (got == args[0]) == neg {
		ts.Fatalf("the API has answered %s requests, want %s", got, args[0])
	}
}

func scriptBills(ts *testscript.TestScript, neg bool, args []string) {
	state, err := apiState(scriptSiteOf(ts).apiURL)
	ts.Check(err)
	if got := strconv.Itoa(len(state.Bills)); (got == args[0]) == neg {
		ts.Fatalf("the API holds %s bills, want %s", got, args[0])
	}
}

func scriptLock(ts *testscript.TestScript, neg bool, args []string) {
	l, err := sqlite.Open(context.Background(), ts.MkAbs(args[0]))
	ts.Check(err)
	*ts.Value(lockKey).(**sqlite.Ledger) = l
	ts.Defer(func() { ts.Check(l.Close()) }) // closing twice is fine
}

func scriptUnlock(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check((*ts.Value(lockKey).(**sqlite.Ledger)).Close())
}

func scriptAwaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaitfile FILE TEXT")
	}
	text := regexp.MustCompile(args[1])
	for deadline := time.Now().Add(time.Minute); ; {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && text.Match(b) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s has no line %s: %v\n%s", args[0], text, err, b)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func scriptNumbers(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), numberedBills(n), 0o600))
}

// numberedBills is a bill file of n rows, each with a new account and customer.
func numberedBills(n int) []byte {
	var b bytes.Buffer
	b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name\n")
	for i := range n {
		fmt.Fprintf(&b, "INV-%05d,%d,ACC-%05d,CUS-%05d,Naledi Dube\n", i, 1000+i, i, i)
	}
	return b.Bytes()
}

func apiState(url string) (state emulator.State, err error) {
	answer, err := http.Get(url + "/_sandbox/state")
	if err != nil {
		return state, err
	}
	defer answer.Body.Close()
	return state, json.NewDecoder(answer.Body).Decode(&state)
}

// TestSignals stops a run in the middle: what SIGTERM and SIGINT drain and SIGKILL cuts off, the next run finishes,
// with one bill a row.
func TestSignals(t *testing.T) {
	const rows = 600
	for _, c := range []struct {
		signal os.Signal
		code   int
		says   string
	}{
		{os.Interrupt, 130, `(?m)^warning: interrupted by SIGINT`},
		{syscall.SIGTERM, 143, `(?m)^warning: interrupted by SIGTERM`},
		{os.Kill, -1, `^`},
	} {
		t.Run(c.signal.String(), func(t *testing.T) {
			t.Parallel()
			box := startSite(t, emulator.Config{Latency: 20 * time.Millisecond, Seed: 1})
			if err := os.WriteFile(box.path("inbox/bills.csv"), numberedBills(rows), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := billdrop(t, "run", "--once", "--config", box.path("config.yaml"))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return box.requests.Load() >= 100 })
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Fatalf("the run ended with %v, want exit code %d; it said:\n%s", err, c.code, &stderr)
			}
			if !regexp.MustCompile(c.says).Match(stderr.Bytes()) {
				t.Errorf("the run said:\n%s", &stderr)
			}
			if box.requests.Load() >= rows {
				t.Fatal("the run was over before the signal came: nothing was tested")
			}
			out, err := billdrop(t, "run", "--once", "--output", "json", "--config", box.path("config.yaml")).Output()
			if err != nil {
				t.Fatalf("the second run: %v", err)
			}
			var doc filesDocument
			if err := json.Unmarshal(out, &doc); err != nil || len(doc.Files) != 1 {
				t.Fatalf("the second run printed %s (%v)", out, err)
			}
			if by := doc.Files[0].Rows.By; by["created"] != rows {
				t.Errorf("rows by status: %v, want %d created", by, rows)
			}
			state, err := apiState(box.apiURL)
			if err != nil {
				t.Fatal(err)
			}
			if len(state.Bills) != rows {
				t.Errorf("the API holds %d bills, want %d", len(state.Bills), rows)
			}
		})
	}
}

// TestSandboxProcess serves the same directory twice; each time, the commands that the sandbox says to try do what it
// says.
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

// introduced reads what a sandbox says when it is up, and returns the commands to try, by program.
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

// dropSample drops the sample file with OpenSSH's client, where there is one. Where real servers are required, so is it.
func dropSample(t *testing.T, dir, command string) {
	t.Helper()
	if _, err := exec.LookPath("sftp"); err != nil && os.Getenv(opensshtest.RequireEnv) == "" {
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

// shell is a command line as a person types it.
func shell(t *testing.T, line string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = cleanEnv()
	return cmd
}

func startSite(t *testing.T, api emulator.Config) *sandbox {
	t.Helper()
	box, err := openSandbox(t.Context(), sandboxOptions{dir: t.TempDir(), sftpAddr: "127.0.0.1:0", apiAddr: "127.0.0.1:0", api: api})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.close(); err != nil {
			t.Error(err)
		}
	})
	return box
}

// billdrop is the real program with those arguments.
func billdrop(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "billdrop", args...)
	cmd.Env = cleanEnv()
	return cmd
}

// cleanEnv is the environment without an API key that may be in it.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BILLDROP_API_KEY=") })
}

// await returns once holds does, which another process is to bring about.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatal("waited 2 minutes in vain")
		}
	}
}

// needs finds a program that a test runs for real. Where there is none the test is skipped, and fails where real parts are required.
func needs(t testing.TB, tool string) (path string) {
	t.Helper()
	path, err := exec.LookPath(tool)
	switch {
	case err == nil:
	case os.Getenv(opensshtest.RequireEnv) != "":
		t.Fatalf("%s is needed, and required: install it (%v)", tool, err)
	default:
		t.Skipf("there is no %s here", tool)
	}
	return path
}
