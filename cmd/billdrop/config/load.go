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
)

// maxFile bounds a configuration file: one that is larger is something else.
const maxFile = 1 << 20

// defaultPaths are where a configuration is looked for when none is named.
var defaultPaths = [...]string{"config.yaml", "/etc/billdrop/config.yaml"}

// ErrNone: no configuration was named and there is none in the usual places.
var ErrNone = errors.New("no configuration file: neither ./config.yaml nor /etc/billdrop/config.yaml is there; name one with --config FILE (config.example.yaml shows every key)")

// Problem is one thing wrong with a configuration.
type Problem struct {
	Line int
	Key  string // key path, such as feeds[0].amounts; "" for the file as a whole
	What string // what is wrong; what to write instead
}

// Errors is everything that is wrong with a configuration file, by line.
type Errors struct {
	File     string
	Problems []Problem
}

// Error tells all problems, one a line: FILE:LINE: key.path: what is wrong; what to write instead.
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

// Needs is what the command at hand cannot do without; the rest of the file is held to the rules all the same.
type Needs struct {
	Key      bool // an API key for every feed
	SFTP     bool // the sftp section
	OnFinish bool // the commands of on_finish, there to be run
}

// Find returns the path of the configuration file: the one named, else the first that is there of ./config.yaml
// and /etc/billdrop/config.yaml. ErrNone when there is none.
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

// Load reads the configuration file at path and checks all of it. env looks environment variables up, as
// os.LookupEnv does. A mistake in the file gives *Errors, with every other mistake in it.
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
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w; name another with --config FILE", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w; name another with --config FILE", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("read the configuration %s: larger than 1 MiB; name the configuration file with --config FILE", path)
	}
	return b, nil
}

// parse decodes and checks. Relative paths in the file are taken from dir, so that a worker finds the same
// ledger from whatever directory it is started.
func parse(b []byte, dir string, env func(string) (string, bool), needs Needs) (*Config, []Problem) {
	c := Default()
	d := &decoder{env: env, lines: map[string]int{"": 1}}
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
	said := d.problems
	k := &checker{decoder: d, config: &c, needs: needs, dir: dir}
	k.check()
	// A check of a value that could not be decoded would only repeat what was said about it.
	d.problems = append(said[:len(said):len(said)], slices.DeleteFunc(slices.Clone(d.problems[len(said):]), func(p Problem) bool {
		return slices.ContainsFunc(said, func(s Problem) bool { return covers(s.Key, p.Key) })
	})...)
	c.resolve(dir)
	return &c, d.problems
}

// covers reports whether key is above, or is, the key path below.
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

// syntaxProblem puts the parser's message in our form. Names of anchors are cut: they are excerpts of the file.
func syntaxProblem(err error) *Problem {
	p := &Problem{Line: 1, What: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(p.What); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.What = m[2]
	}
	if strings.Contains(p.What, "anchor") || strings.Contains(p.What, "alias") || strings.Contains(p.What, "alphabetic or numeric") {
		p.What = "a value starts with * or &, which YAML takes for a reference"
	}
	p.What = "not valid YAML: " + p.What + "; check the indentation, and put texts with special characters in quotes"
	return p
}

// resolve makes the paths of local files absolute.
func (c *Config) resolve(dir string) {
	abs := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	abs(&c.API.KeyFile)
	abs(&c.SFTP.PrivateKeyFile)
	abs(&c.SFTP.PasswordFile)
	abs(&c.SFTP.KnownHostsFile)
	abs(&c.SpoolDir)
	if path, ok := strings.CutPrefix(c.Ledger, ledgerScheme); ok {
		abs(&path)
		c.Ledger = ledgerScheme + path
	}
	c.OnFinish = resolveCommand(dir, c.OnFinish)
	for i := range c.Feeds {
		abs(&c.Feeds[i].API.KeyFile)
		c.Feeds[i].OnFinish = resolveCommand(dir, c.Feeds[i].OnFinish)
	}
}

// LedgerPath is the file of the ledger.
func (c *Config) LedgerPath() string { return strings.TrimPrefix(c.Ledger, ledgerScheme) }
