package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/describe"
)

func TestMain(m *testing.M) {
	commands := map[string]func(){"billdrop": main}
	maps.Copy(commands, benchCommands())
	testscript.Main(m, commands)
}

// TestSignals stops a run in the middle, with SIGTERM, SIGINT and SIGKILL. The next run
// finishes the file, with one bill a row.
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
			if err := os.WriteFile(box.Path("inbox/bills.csv"), numberedBills(rows), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := billdrop(t, "run", "--once", "--config", box.Path("config.yaml"))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return box.Requests() >= 100 })
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
			if box.Requests() >= rows {
				t.Fatal("the run was over before the signal came: nothing was tested")
			}
			out, err := billdrop(t, "run", "--once", "--output", "json", "--config", box.Path("config.yaml")).Output()
			if err != nil {
				t.Fatalf("the second run: %v", err)
			}
			var doc describe.FilesDocument
			if err := json.Unmarshal(out, &doc); err != nil || len(doc.Files) != 1 {
				t.Fatalf("the second run printed %s (%v)", out, err)
			}
			if by := doc.Files[0].Rows.By; by["created"] != rows {
				t.Errorf("rows by status: %v, want %d created", by, rows)
			}
			state, err := apiState(box.APIURL)
			if err != nil {
				t.Fatal(err)
			}
			if len(state.Bills) != rows {
				t.Errorf("the API holds %d bills, want %d", len(state.Bills), rows)
			}
		})
	}
}
