package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
)

// TestRestoreSteps types the commands of "After a restore" in docs/running.md, as they stand
// there, after a disk was lost on which the ledger was newer than its backup: november.csv was
// under way and is finished since, december.csv was taken up since, and extra.csv came and went.
func TestRestoreSteps(t *testing.T) {
	box := startSite(t, emulator.Config{Latency: 20 * time.Millisecond, Seed: 3})
	backups := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(box.Path("inbox/"+name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int) string {
		t.Helper()
		return sessionLine(t, box, "billdrop run --once --no-progress", want)
	}
	bill := func(reference string) string {
		return "bill_reference,amount_due,customer_reference\n" + reference + ",100,C\n"
	}

	put("october.csv", bill("OCT-1"))
	run(0)
	put("november.csv", string(numberedBills(300)))
	killWhileSending(t, box, 40)
	sessionLine(t, box, "billdrop backup "+filepath.Join(backups, "ledger-2026-11-23.db"), 0)
	run(0)
	put("extra.csv", bill("EXTRA-1"))
	run(0)
	put("december.csv", bill("DEC-1"))
	if err := os.Rename(box.Path("inbox/december.csv"), box.Path("processing/december.csv")); err != nil { // as a claim that is cut off
		t.Fatal(err)
	}
	truth := reportsOf(t, box)
	if len(truth) == 0 {
		t.Fatal("there are no reports")
	}

	stem := regexp.MustCompile(`november-[0-9a-f]{8}`).FindString(strings.Join(keysOf(truth), " "))
	page := string(readAll(t, "../../docs/running.md"))
	_, section, found := strings.Cut(page, "\n## After a restore\n")
	if section, _, _ = strings.Cut(section, "\n## "); !found {
		t.Fatal("the page has no such section")
	}
	section = strings.NewReplacer("/var/lib/billdrop", box.Path("."), "/var/backups", backups, "november-1f2e3d4c", stem).Replace(section)
	blocks := sessions.FindAllString(section, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d sessions, want 2", len(blocks))
	}

	codes := map[string][]int{"billdrop run --once": {3, 0}}
	var said strings.Builder
	for _, block := range blocks {
		var sftp []string
		for _, line := range strings.Split(block, "\n") {
			switch command, typed := strings.CutPrefix(line, "$ "); {
			case strings.HasPrefix(line, "sftp> "):
				sftp = append(sftp, strings.TrimPrefix(line, "sftp> "))
			case typed && strings.HasPrefix(command, "sftp "):
			case typed:
				if len(sftp) > 0 {
					serverSession(t, box, sftp)
					sftp = nil
				}
				want := 0
				if c := codes[command]; len(c) > 0 {
					want, codes[command] = c[0], c[1:]
				}
				said.WriteString(sessionLine(t, box, command, want))
			}
		}
	}
	if n := len(codes["billdrop run --once"]); n > 0 {
		t.Errorf("run --once is to be typed %d times more", n)
	}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllStringSubmatch(section, -1)[2:] {
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(quoted[1]), "…", ".*")
			if !regexp.MustCompile(pattern).MatchString(said.String()) {
				t.Errorf("nothing said %q:\n%s", quoted[1], &said)
			}
		}
	}

	state, err := apiState(box.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	// What the ledger does not know is found at the API.
	put("extra.csv", bill("EXTRA-1"))
	run(0)
	again, err := apiState(box.APIURL)
	if err != nil || len(again.Bills) != len(state.Bills) {
		t.Errorf("a file that came after the backup, delivered again: %d bills, and before %d: %v", len(again.Bills), len(state.Bills), err)
	}
	references := make(map[string]int)
	for _, b := range state.Bills {
		references[b.ExternalReference]++
	}
	if len(references) != len(state.Bills) || len(references) != 303 {
		t.Errorf("%d bills of %d references, want 303 of each", len(state.Bills), len(references))
	}
	after := reportsOf(t, box)
	for name, content := range truth {
		kept := after[name]
		if strings.Contains(name, stem) && !strings.HasSuffix(name, ".ack.json") {
			kept = after[strings.Replace(name, stem, stem+".before", 1)]
		}
		if kept != content {
			t.Errorf("%s was changed:\n%s\nand before\n%s", name, kept, content)
		}
	}
	for _, dir := range []string{"inbox", "processing"} {
		if left, err := os.ReadDir(box.Path(dir)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	if s := sessionLine(t, box, "billdrop why DEC-1", 0); !strings.HasPrefix(s, "DEC-1: created") {
		t.Errorf("why DEC-1: %s", s)
	}
}

// sessionLine types a command in the directory of a site, whose configuration billdrop finds
// there, and returns all that it printed.
func sessionLine(t *testing.T, box *sandbox.Sandbox, line string, want int) string {
	t.Helper()
	cmd := shell(t, line)
	cmd.Dir = box.Path(".")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != want {
		t.Fatalf("%s: exit code %d, want %d: %v\n%s", line, cmd.ProcessState.ExitCode(), want, err, out)
	}
	return string(out)
}

// serverSession types commands into OpenSSH's sftp.
func serverSession(t *testing.T, box *sandbox.Sandbox, lines []string) {
	t.Helper()
	host, port, err := net.SplitHostPort(box.SFTP.Addr())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), needs(t, "sftp"), "-b", "-", "-P", port, "-i", box.Path("id_ed25519"), "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile="+box.Path("known_hosts"), sandbox.User+"@"+host)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sftp: %v\n%s", err, out)
	}
}

// killWhileSending kills a run once the API has so many bills.
func killWhileSending(t *testing.T, box *sandbox.Sandbox, bills int) {
	t.Helper()
	cmd := billdrop(t, "run", "--once", "--no-progress")
	cmd.Dir = box.Path(".")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		state, err := apiState(box.APIURL)
		return err == nil && len(state.Bills) >= bills
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the run ended before it was killed")
	}
}

// reportsOf are the files in results/: name → content.
func reportsOf(t *testing.T, box *sandbox.Sandbox) map[string]string {
	t.Helper()
	names, err := filepath.Glob(box.Path("results/*"))
	if err != nil {
		t.Fatal(err)
	}
	reports := make(map[string]string, len(names))
	for _, name := range names {
		reports[name] = string(readAll(t, name))
	}
	return reports
}

func keysOf(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
