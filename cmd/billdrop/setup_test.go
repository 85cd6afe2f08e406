package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// step is a block of commands in a document, and what the document says about it.
type step struct {
	line     int // of the document, where the block begins
	commands string
	code     int    // with which the last command exits
	apart    bool   // in a terminal of its own, until the end
	shows    string // the block of output that follows, if one does
}

// TestSetupDocument does what docs/setup.md says, block by block, and compares the output
// with the document. Only the two ports differ, because those of the document may be
// taken.
func TestSetupDocument(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "sftp", "ssh-keyscan", "ssh-keygen"} {
		needs(t, tool)
	}
	document := string(readAll(t, "../../docs/setup.md"))
	document, _, _ = strings.Cut(document, "\n## Your server")
	document = strings.NewReplacer("2222", freePort(t), "8022", freePort(t)).Replace(document)
	dir := t.TempDir()
	ran := 0
	for _, s := range steps(t, document) {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", s.commands)
		cmd.Dir, cmd.Env = dir, append(cleanEnv(), "HOME="+dir)
		ran++
		if s.apart {
			apart(t, cmd)
			continue
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != s.code {
			t.Fatalf("setup.md, line %d: exited with %d, want %d:\n%s\n%s", s.line, code, s.code, s.commands, out)
		}
		for shown := range strings.Lines(s.shows) {
			shown = strings.TrimRight(shown, "\n")
			pattern := strings.ReplaceAll(regexp.QuoteMeta(shown), "…", ".*")
			if !regexp.MustCompile(`(?m)^` + pattern + `$`).Match(out) {
				t.Errorf("setup.md, line %d: the document shows a line that did not come:\n%s\nThis did:\n%s", s.line, shown, out)
			}
		}
	}
	if ran < 12 {
		t.Errorf("only %d blocks of commands were found in setup.md", ran)
	}
}

var exits = regexp.MustCompile(`^<!-- exits with (\d+) -->$`)

// steps are the blocks of commands (```sh) of a document, each with the remark above it
// and the output (```text) below it.
func steps(t *testing.T, document string) []step {
	t.Helper()
	var found []step
	var s step
	var block *strings.Builder
	kind := ""
	n := 0
	for line := range strings.Lines(document) {
		n++
		text := strings.TrimRight(line, "\n")
		switch m := exits.FindStringSubmatch(text); {
		case kind != "" && text == "```":
			switch {
			case kind == "sh":
				s.commands = block.String()
				found = append(found, s)
				s = step{}
			case kind == "text" && len(found) > 0:
				found[len(found)-1].shows = block.String()
			default:
				t.Fatalf("setup.md, line %d: a block of %q here is not understood", n, kind)
			}
			kind = ""
		case kind != "":
			block.WriteString(line)
		case strings.HasPrefix(text, "```"):
			kind, block = strings.TrimPrefix(text, "```"), new(strings.Builder)
			s.line = n
		case m != nil:
			s.code, _ = strconv.Atoi(m[1])
		case text == "<!-- in a terminal of its own -->":
			s.apart = true
		}
	}
	return found
}

// apart starts a command in the background and returns when it is up. It ends with the
// test.
func apart(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Args[len(cmd.Args)-1] = "exec " + cmd.Args[len(cmd.Args)-1] // so that the signal reaches it, not the shell
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was interrupted
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			return
		}
	}
	t.Fatalf("%s ended before it was up: %s", cmd, &stderr)
}
