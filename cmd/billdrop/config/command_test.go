package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A command is one for all feeds, unless a feed has its own, or none.
func TestOnFinish(t *testing.T) {
	dir := t.TempDir()
	tell := filepath.Join(dir, "tell")
	if err := os.WriteFile(tell, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(base, "feeds:", "on_finish: ["+tell+", \"--to\", \"a b\"]\nfeeds:", 1) +
		"  - {name: more, inbox: /more, amounts: minor, on_finish: [./own]}\n  - {name: none, inbox: /none, amounts: minor, on_finish: []}\n"
	c, err := load(t, text, nil, all)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Feeds[0].OnFinish; !slices.Equal(got, []string{tell, "--to", "a b"}) {
		t.Errorf("inherited: %q", got)
	}
	if got := c.Feeds[1].OnFinish; len(got) != 1 || !filepath.IsAbs(got[0]) || filepath.Base(got[0]) != "own" {
		t.Errorf("own: %q", got)
	}
	if got := c.Feeds[2].OnFinish; len(got) != 0 {
		t.Errorf("none: %q", got)
	}

	// Only commands that run it check that it exists.
	_, err = load(t, text, nil, Needs{OnFinish: true})
	var problems *Errors
	if !errors.As(err, &problems) || len(problems.Problems) != 1 || !strings.Contains(err.Error(), "feeds[1].on_finish[0]: is not a command that can be run here") {
		t.Errorf("a command that does not exist: %v", err)
	}
}

func TestOnFinishProblems(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		"[]":                       "on_finish: names no command",
		`["", x]`:                  "on_finish: names no command",
		"/bin/sh":                  "on_finish: must be a list",
		"[" + plain + "]":          "on_finish[0]: is not a command that can be run here",
		"[no-such-program-at-all]": "on_finish[0]: is not a command that can be run here",
	} {
		_, err := load(t, base+"on_finish: "+command+"\n", nil, Needs{OnFinish: true})
		var problems *Errors
		if !errors.As(err, &problems) || len(problems.Problems) != 1 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", command, err, want)
		}
	}
}
