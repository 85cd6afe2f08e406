package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.+)$`)
	typed    = regexp.MustCompile(`(?m)(?:^ *[$#] |_DIRECTORY=\S+ |/usr/local/bin/)billdrop ([a-z][^#|<\n]*)`)
	sessions = regexp.MustCompile("(?s)```console\n.*?```")
)

// documents are the pages for readers.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("documents: %v, %v", pages, err)
	}
	return append(pages, "../../README.md", "../../ARCHITECTURE.md", "../../CONTRIBUTING.md")
}

// TestLinks: the targets of all links in the documents exist, headings included.
func TestLinks(t *testing.T) {
	for _, page := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(string(readAll(t, page)), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !anchors(string(readAll(t, path)))[anchor] {
				t.Errorf("%s links to %s, and there is no such heading", page, m[1])
			}
		}
	}
}

// anchors are the link targets of a page's headings.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names[strings.ReplaceAll(strings.TrimSpace(name), " ", "-")] = true
	}
	return names
}

// TestTypedCommands: billdrop accepts every command line in the documents.
func TestTypedCommands(t *testing.T) {
	n := 0
	for _, page := range documents(t) {
		for _, block := range sessions.FindAllString(string(readAll(t, page)), -1) {
			block = strings.ReplaceAll(block, "\\\n", " ")
			for _, m := range typed.FindAllStringSubmatch(block, -1) {
				n++
				parser, err := newParser(&cli{}, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parser.Parse(strings.Fields(m[1])); err != nil {
					t.Errorf("%s: billdrop %s: %v", page, m[1], err)
				}
			}
		}
	}
	if n < 12 {
		t.Errorf("only %d commands were found", n)
	}
}

// TestSecurityNamesTests: every test that docs/security.md names exists, and every line of its
// threat model names one.
func TestSecurityNamesTests(t *testing.T) {
	tests := make(map[string]bool)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(readAll(t, path)), -1) {
			tests[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	testName := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*(?:/[a-z_]+)?`)
	page := string(readAll(t, "../../docs/security.md"))
	named := testName.FindAllString(page, -1)
	if len(named) < 30 {
		t.Errorf("only %d tests are named", len(named))
	}
	_, model, _ := strings.Cut(page, "\n## Threat model\n")
	model, _, _ = strings.Cut(model, "\n## ")
	lines := 0
	for line := range strings.Lines(model) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.TrimSpace(cells[len(cells)-1]) == "test" {
			continue
		}
		if lines++; len(cells) != 3 || !testName.MatchString(cells[2]) {
			t.Errorf("no test in the line %s", line)
		}
	}
	if lines < 35 {
		t.Errorf("only %d lines are in the threat model", lines)
	}
	for _, name := range named {
		name, script, _ := strings.Cut(name, "/")
		if !tests[name] {
			t.Errorf("there is no test %s", name)
		}
		if script != "" {
			if _, err := os.Stat(filepath.Join("testdata", "script", script+".txtar")); err != nil {
				t.Error(err)
			}
		}
	}
}
