package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"billdrop/ingest/durable"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// defaultPaths are where to look for a configuration that is not named.
var defaultPaths = [...]string{"config.yaml", "/etc/billdrop/config.yaml"}

// ErrNone is the error of Find if no configuration was named and there is none in the usual
// places.
var ErrNone error = &Error{
	What: "no configuration file: there is neither ./config.yaml nor /etc/billdrop/config.yaml",
	Hint: "name one with --config FILE; config.example.yaml shows every key",
}

// Problem is one thing wrong with a configuration.
type Problem struct {
	Line int
	Key  string // key path, such as feeds[0].amounts; "" for the file as a whole
	What string // what is wrong; what to write instead
}

// Errors are all mistakes in a configuration file, by line.
type Errors struct {
	File     string
	Problems []Problem
}

// Error is a line for each problem: FILE:LINE: key.path: what is wrong; what to write
// instead.
func (e *Errors) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines are the problems, one each.
func (e *Errors) Lines() []string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%s:%d: ", e.File, p.Line)
		if p.Key != "" {
			lines[i] += p.Key + ": "
		}
		lines[i] += p.What
	}
	return lines
}

// Needs is what a command cannot do without. The rest of the file is checked as well.
type Needs struct {
	Key      bool // an API key for every feed
	SFTP     bool // the sftp section
	Webhooks bool // an address at which events are received
	OnFinish bool // the commands of on_finish, which must be executable
}

// Find returns the path of the configuration file: the one named, else ./config.yaml, else
// /etc/billdrop/config.yaml. It fails with ErrNone if there is none.
func Find(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	for _, path := range defaultPaths {
		if _, err := os.Lstat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
			return path, nil
		}
	}
	return "", ErrNone
}

// Load reads and checks the configuration file at path. env looks up environment variables,
// as os.LookupEnv does. If the file has mistakes, the error is an *Errors with all of them.
func Load(path string, env func(string) (string, bool), needs Needs) (*Config, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the directory of the configuration %s: %w", path, err)
	}
	c, problems := parse(b, filepath.Dir(absolute), env, needs)
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Key, b.Key))
		})
		return nil, &Errors{File: path, Problems: problems}
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	const hint = "name another with --config FILE"
	b, _, err := durable.ReadRegular(path, maxFile)
	if err != nil {
		return nil, &Error{What: "read the configuration: " + err.Error(), Hint: hint, kind: err}
	}
	return b, nil
}

// parse decodes and checks. Relative paths in the file are taken from dir, so a worker finds
// the same ledger whatever its working directory.
func parse(b []byte, dir string, env func(string) (string, bool), needs Needs) (*Config, []Problem) {
	c := Default()
	d := &decoder{env: env, lines: map[string]int{"": 1}, dir: dir}
	d.newFeed = func() Feed {
		f := DefaultFeed()
		f.Merchant, f.API, f.OnFinish = c.Merchant, c.API, c.OnFinish
		return f
	}
	root, problem := document(b)
	if problem != nil {
		return nil, []Problem{*problem}
	}
	d.decode(root, reflect.ValueOf(&c).Elem(), "")
	decoding := d.problems
	c.resolve(dir)
	k := &checker{decoder: d, config: &c, needs: needs}
	k.check()
	// The check of a value that could not be decoded would only repeat the problem.
	checking := slices.DeleteFunc(slices.Clone(d.problems[len(decoding):]), func(p Problem) bool {
		return slices.ContainsFunc(decoding, func(s Problem) bool { return covers(s.Key, p.Key) })
	})
	return &c, slices.Concat(decoding, checking)
}

// covers reports whether key is below, or the path of a section around it.
func covers(key, below string) bool {
	rest, found := strings.CutPrefix(below, key)
	return found && (key == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// document parses exactly one YAML document.
func document(b []byte) (*yaml.Node, *Problem) {
	if !bytes.ContainsFunc(b, func(r rune) bool { return r > ' ' }) {
		return nil, &Problem{Line: 1, What: "the file is empty; start from config.example.yaml"}
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var first, second yaml.Node
	if err := dec.Decode(&first); errors.Is(err, io.EOF) || err == nil && isNull(first.Content[0]) {
		return nil, &Problem{Line: 1, What: "the file has comments only; start from config.example.yaml"}
	} else if err != nil {
		return nil, syntaxProblem(err)
	}
	if err := dec.Decode(&second); err == nil {
		return nil, &Problem{Line: second.Line, What: "a second YAML document starts here (after `---`); keep one document in the file"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(err)
	}
	return first.Content[0], nil
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// syntaxProblem puts the parser's message in our form. It cuts the names of anchors, which
// are excerpts of the file.
func syntaxProblem(err error) *Problem {
	p := &Problem{Line: 1, What: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(p.What); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.What = m[2]
	}
	if strings.Contains(p.What, "anchor") || strings.Contains(p.What, "alias") || strings.Contains(p.What, "alphabetic or numeric") {
		p.What = "a value starts with * or &, which mark a reference in YAML"
	}
	p.What = "not valid YAML: " + p.What + "; check the indentation, and put texts with special characters in quotes"
	return p
}

// absolute returns the path of a local file, which may be relative to dir; "" stays.
func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// resolve makes the paths absolute that are part of a value.
func (c *Config) resolve(dir string) {
	if path, ok := strings.CutPrefix(c.Ledger, ledgerScheme); ok {
		c.Ledger = ledgerScheme + absolute(dir, path)
	}
	c.OnFinish = resolveCommand(dir, c.OnFinish)
	for i := range c.Feeds {
		c.Feeds[i].OnFinish = resolveCommand(dir, c.Feeds[i].OnFinish)
	}
}
