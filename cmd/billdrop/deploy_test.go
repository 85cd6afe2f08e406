package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unitPath is where the units expect the program.
const unitPath = "/usr/local/bin/billdrop"

// TestUnits: systemd finds nothing wrong with the units, and rates their exposure at 1.5
// of 10 points at most.
func TestUnits(t *testing.T) {
	needs(t, "systemd-analyze")
	dir := t.TempDir()
	paths, err := filepath.Glob("../../docs/deploy/billdrop*.[st]*")
	if err != nil || len(paths) < 3 {
		t.Fatalf("units: %v, %v", paths, err)
	}
	program, err := exec.LookPath("billdrop")
	if err != nil {
		t.Fatal(err)
	}
	var units []string
	for _, path := range paths {
		if strings.HasSuffix(path, ".sysusers") {
			continue
		}
		// It need not be installed here.
		text := strings.ReplaceAll(string(readAll(t, path)), unitPath+" ", program+" ")
		units = append(units, dropped(t, filepath.Join(dir, filepath.Base(path)), text))
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, unit := range units {
		if filepath.Ext(unit) != ".service" {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=15", unit).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", filepath.Base(unit), err, out)
		}
	}
}

// TestDeployedCommands: billdrop accepts the command lines of the units, the crontab and
// the image.
func TestDeployedCommands(t *testing.T) {
	for name, command := range map[string]*regexp.Regexp{
		"billdrop.service":        regexp.MustCompile(`(?m)^ExecStart=` + unitPath + ` (.*)$`),
		"billdrop-worker.service": regexp.MustCompile(`(?m)^ExecStart=` + unitPath + ` (.*)$`),
		"crontab":                 regexp.MustCompile(`(?m)^\*/5 \* \* \* \* ` + unitPath + ` (.*)$`),
		"Dockerfile":              regexp.MustCompile(`(?m)^CMD \["(.*)"\]$`),
	} {
		found := command.FindSubmatch(readAll(t, "../../docs/deploy/"+name))
		if found == nil {
			t.Errorf("%s runs no billdrop", name)
			continue
		}
		parser, err := newParser(&cli{}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(strings.Fields(string(found[1]))); err != nil {
			t.Errorf("%s runs billdrop %s: %v", name, found[1], err)
		}
	}
}
