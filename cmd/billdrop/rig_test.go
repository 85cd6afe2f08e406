package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/client/servertest"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/report"
)

// startSite starts a sandbox that ends with the test.
func startSite(t *testing.T, api emulator.Config) *sandbox.Sandbox {
	t.Helper()
	box, err := sandbox.Open(t.Context(), sandbox.Options{Dir: t.TempDir(), SFTPAddr: "127.0.0.1:0", APIAddr: "127.0.0.1:0", API: api})
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

// billdrop is the real program with these arguments.
func billdrop(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "billdrop", args...)
	cmd.Env = cleanEnv()
	return cmd
}

// shell is a command line as a user types it.
func shell(t *testing.T, line string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = cleanEnv()
	return cmd
}

// cleanEnv is the environment without an API key.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BILLDROP_API_KEY=") })
}

// await returns when holds does. Another process makes it hold.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	awaitFor(t, 2*time.Minute, holds)
}

// awaitFor is await with another patience.
func awaitFor(t *testing.T, patience time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("waited %v in vain", patience)
		}
	}
}

// needs finds a program for a test. If it is missing, the test is skipped, or fails where
// real programs are required.
func needs(t testing.TB, tool string) (path string) {
	t.Helper()
	path, err := exec.LookPath(tool)
	switch {
	case err == nil:
	case os.Getenv(servertest.RequireEnv) != "":
		t.Fatalf("%s is needed, and required: install it (%v)", tool, err)
	default:
		t.Skipf("there is no %s here", tool)
	}
	return path
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

// apiState is what the API of a sandbox holds.
func apiState(url string) (state emulator.State, err error) {
	answer, err := http.Get(url + "/_sandbox/state")
	if err != nil {
		return state, err
	}
	defer answer.Body.Close()
	return state, json.NewDecoder(answer.Body).Decode(&state)
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dropped writes a file in the site or beside it.
func dropped(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// reworded writes a configuration beside box's own, with texts replaced: old, new, old,
// new.
func reworded(t *testing.T, box *sandbox.Sandbox, name string, oldNew ...string) string {
	t.Helper()
	b, err := os.ReadFile(box.Path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(oldNew...).Replace(string(b))
	if text == string(b) {
		t.Fatalf("%s is the same as before", name)
	}
	if err := os.WriteFile(box.Path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return box.Path(name)
}

// fileIDs are the ids of the files in the ledger by name, the newest of each name.
func fileIDs(t *testing.T, o *outside, conf string) map[string]string {
	t.Helper()
	var list struct {
		Files []struct {
			File string
			ID   string `json:"file_id"`
		}
	}
	if err := json.Unmarshal(o.say(0, "status", "--limit", "0", "--output", "json", "--config", conf).stdout, &list); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, f := range slices.Backward(list.Files) {
		ids[f.File] = f.ID
	}
	return ids
}

// drop puts a whole file into the inbox at once.
func drop(t *testing.T, box *sandbox.Sandbox, name, content string) {
	t.Helper()
	if err := os.WriteFile(box.Path("inbox/"+name+".part"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(box.Path("inbox/"+name+".part"), box.Path("inbox/"+name)); err != nil {
		t.Fatal(err)
	}
}

// summaries are those that a site has published for a file so far.
func summaries(t *testing.T, box *sandbox.Sandbox, name string) []report.Summary {
	t.Helper()
	var found []report.Summary
	paths, err := filepath.Glob(box.Path("results/" + name + "-*.summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := report.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, s)
	}
	return found
}

// readJSON runs the real program with --output json and decodes the one document that it
// prints.
func readJSON(t *testing.T, code int, doc any, args ...string) {
	t.Helper()
	cmd := billdrop(t, append(args, "--output", "json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("%v exited with %d, want %d: %s", args, got, code, &stderr)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	if err := d.Decode(doc); err != nil {
		t.Fatalf("%v printed what is no JSON document: %v\n%s", args, err, out)
	}
	if d.More() {
		t.Errorf("%v printed more than one document:\n%s", args, out)
	}
}

// freePort is a port of loopback on which nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(servertest.FreePort(t))
}
