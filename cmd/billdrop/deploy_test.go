package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
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

// TestCompose: the services of the compose file share no spool, wait for the database, and run a
// command line that billdrop accepts.
func TestCompose(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Image     string         `yaml:"image"`
			Command   []string       `yaml:"command"`
			DependsOn map[string]any `yaml:"depends_on"`
			Volumes   []string       `yaml:"volumes"`
			Deploy    struct {
				Replicas int `yaml:"replicas"`
			} `yaml:"deploy"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(readAll(t, "../../docs/deploy/cluster.compose.yaml"), &compose); err != nil {
		t.Fatal(err)
	}
	worker := compose.Services["worker"]
	if worker.Deploy.Replicas < 2 || worker.DependsOn["db"] == nil || compose.Services["db"].Image == "" {
		t.Errorf("the workers: %+v", worker)
	}
	if !slices.Contains(worker.Volumes, "/var/lib/billdrop") { // a volume without a name is each replica's own
		t.Errorf("the workers share a spool, or have none: %v", worker.Volumes)
	}
	parser, err := newParser(&cli{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(worker.Command); err != nil {
		t.Errorf("billdrop %v: %v", worker.Command, err)
	}
}
