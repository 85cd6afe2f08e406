package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// said is the exit code of the real program, and what it printed.
type said struct {
	code           int
	stdout, stderr []byte
}

// outside runs the real program and checks all that it prints. A line of standard error
// is a log line or a message. A message of failure says what to do. With --output json,
// standard output is one document of the form in docs/schema, or nothing.
type outside struct {
	t       *testing.T
	env     []string // on top of a clean environment
	schemas *jsonschema.Compiler
	heard   bytes.Buffer // all that was ever printed
}

func newOutside(t *testing.T) *outside {
	return &outside{t: t, schemas: schemas(t)}
}

// formOf is the schema of what a command prints with --output json; "" = it has no such
// form.
var formOf = map[string]string{
	"run": "files", "import": "files", "retry": "files", "reject": "files", "validate": "validate", "plan": "plan", "status": "status", "why": "why", "verify": "verify", "payments": "payments", "receive": "",
	"check": "check", "approve": "approve", "backup": "backup", "prune": "prune", "forget": "forget", "ledger": "ledger", "version": "version", "sandbox": "sandbox", "demo": "", "completion": "",
}

// say runs the program, which must exit with code.
func (o *outside) say(code int, args ...string) said {
	o.t.Helper()
	cmd := billdrop(o.t, args...)
	cmd.Env = append(cmd.Env, o.env...)
	var stderr, stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		o.t.Fatal(err)
	}
	s := said{cmd.ProcessState.ExitCode(), stdout.Bytes(), stderr.Bytes()}
	o.heard.Write(s.stdout)
	o.heard.Write(s.stderr)
	if s.code != code {
		o.t.Errorf("%q exited with %d, want %d\n%s", args, s.code, code, s.stderr)
	}
	o.lines(args, s)
	if i := slices.Index(args, "--output"); i >= 0 && args[i+1] == "json" {
		o.document(args, s)
	}
	return s
}

var (
	prefixed = regexp.MustCompile(`^(error|warning|hint): \S`)
	logText  = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=`)
	// advice is a clause that says what to do. It begins after a comma, semicolon or
	// colon, and with a verb.
	advice = regexp.MustCompile(`[,;:(] (or |and |then )?(did you mean|so name|ask|check|choose|close|copy|correct|create|drop|free|give|have|import|leave|let|look|make|name|point|put|read|remove|run|say|set|start|take|unset|use|wait|write|billdrop|the next run|--)\b`)
)

// lines checks standard error.
func (o *outside) lines(args []string, s said) {
	o.t.Helper()
	var errs []string
	hint, asJSON := false, false
	if i := slices.Index(args, "--log-format"); i >= 0 {
		asJSON = args[i+1] == "json"
	}
	for line := range strings.Lines(string(s.stderr)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case asJSON && !json.Valid([]byte(line)):
			o.t.Errorf("%q: a line of standard error that is not JSON: %q", args, line)
		case prefixed.MatchString(line):
			hint = hint || strings.HasPrefix(line, "hint: ")
			if strings.HasPrefix(line, "error: ") {
				errs = append(errs, line)
			}
		case logText.MatchString(line):
		default:
			var log map[string]any
			_ = json.Unmarshal([]byte(line), &log)
			if log["time"] == nil || log["level"] == nil || log["msg"] == nil {
				o.t.Errorf("%q: neither a message nor a log line on standard error: %q", args, line)
			}
			_, advised := log["hint"]
			if message := advised || len(log) == 3; message && log["level"] == "ERROR" {
				hint = hint || advised
				errs = append(errs, fmt.Sprint(log["msg"]))
			}
		}
	}
	if failed := s.code == exitUsage || s.code == exitStopped || s.code == exitLocked; failed != (len(errs) > 0) {
		o.t.Errorf("%q exited with %d and said %q", args, s.code, errs)
	}
	for _, line := range errs {
		if !hint && !advice.MatchString(line) {
			o.t.Errorf("%q: an error that does not say what to do: %s", args, line)
		}
	}
}

// document checks standard output with --output json. If nothing was changed (exit codes
// 2 and 4) there is no document, except that of check.
func (o *outside) document(args []string, s said) {
	o.t.Helper()
	command := ""
	for _, a := range args {
		if _, known := formOf[a]; known {
			command = a
			break
		}
	}
	if len(s.stdout) == 0 {
		if (s.code == exitDone || s.code == exitAttention || command == "check") && command != "" {
			o.t.Errorf("%q exited with %d and printed no document", args, s.code)
		}
		return
	}
	o.valid(command, formOf[command], s.stdout)
}

// valid checks that text is one JSON document that agrees with a schema.
func (o *outside) valid(what, schema string, text []byte) {
	o.t.Helper()
	if schema == "" {
		o.t.Errorf("%s has no JSON form, and printed %s", what, text)
		return
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		o.t.Errorf("%s: no JSON document: %v\n%s", what, err, text)
		return
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		o.t.Errorf("%s: more than one document:\n%s", what, text)
	}
	compiled, err := o.schemas.Compile(schemaURL(schema))
	if err != nil {
		o.t.Fatal(err)
	}
	if err := compiled.Validate(doc); err != nil {
		o.t.Errorf("%s does not keep to docs/schema/%s.json: %v\n%s", what, schema, err, text)
	}
}

func schemaURL(name string) string { return "https://billdrop.invalid/schema/" + name + ".json" }

// schemas are those of docs/schema, made stricter: a key that a schema does not name is
// an error. Users must accept new keys, but here every key has to be documented.
func schemas(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	paths, err := filepath.Glob("../../docs/schema/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no schemas: %v", err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if id := doc.(map[string]any)["$id"]; id != name+".json" {
			t.Errorf("%s calls itself %v", path, id)
		}
		closed(doc)
		if err := c.AddResource(schemaURL(name), doc); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func closed(node any) {
	switch n := node.(type) {
	case map[string]any:
		if _, ok := n["properties"].(map[string]any); ok && n["additionalProperties"] == nil {
			n["additionalProperties"] = false
		}
		for _, v := range n {
			closed(v)
		}
	case []any:
		for _, v := range n {
			closed(v)
		}
	}
}
