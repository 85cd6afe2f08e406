package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"billdrop/client/emulator"
	"billdrop/cmd/billdrop/sandbox"
	"billdrop/ingest/report"
)

var kills = flag.Int("kills", 15, "how often TestKillLoop kills a run")

// TestKillLoop kills the real program again and again at random moments, with real
// sockets and a real disk, and restarts it until all is done. The API loses answers,
// fails, and would not refuse a duplicate. At the end, every row of every file is one
// bill and one line of one report.
func TestKillLoop(t *testing.T) {
	box := startSite(t, emulator.Config{
		Latency: 2 * time.Millisecond, Seed: 7, FaultRate: 0.03, Weak: true,
	})
	conf := killConfig(t, box)
	const rows = 150
	want := map[string]string{} // bill reference → file
	files := 0
	drop := func() {
		files++
		var b bytes.Buffer
		b.WriteString("bill_reference,amount_due,account_reference,customer_reference,customer_name\n")
		for i := range rows {
			ref := fmt.Sprintf("K%d-%d", files, i)
			want[ref] = fmt.Sprintf("kill-%d.csv", files)
			// New parties, parties of the same file, and parties of files before.
			party := (files/3)*40 + i%60
			fmt.Fprintf(&b, "%s,%d,ACC-%d,CUS-%d,Name %d\n", ref, 100+i, party, party, party)
		}
		part := box.Path("inbox/kill.part")
		if err := os.WriteFile(part, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(part, box.Path(fmt.Sprintf("inbox/kill-%d.csv", files))); err != nil {
			t.Fatal(err)
		}
	}

	killed, runs := 0, 0
	for killed < *kills {
		if waiting, _ := filepath.Glob(box.Path("inbox/*.csv")); len(waiting) == 0 {
			drop()
			drop()
		}
		runs++
		cmd := billdrop(t, "run", "--once", "--no-progress", "--config", conf)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rand.Int64N(int64(killWindow))), func() { cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.ExitCode() == -1:
			killed++
		case err != nil:
			t.Fatalf("run %d ended with %v:\n%s", runs, err, &stderr)
		}
	}
	for tries := 0; ; tries++ {
		out, err := billdrop(t, "run", "--once", "--no-progress", "--config", conf).CombinedOutput()
		if err == nil {
			break
		}
		if tries == 5 {
			t.Fatalf("the last run ended with %v:\n%s", err, out)
		}
	}
	t.Logf("%d kills in %d runs over %d files of %d rows", killed, runs, files, rows)
	checkKilled(t, box, want, files, rows)
}

// killWindow is how long a run may live: about as long as two files take.
const killWindow = 700 * time.Millisecond

// killConfig is the sandbox's configuration, made impatient.
func killConfig(t *testing.T, box *sandbox.Sandbox) string {
	b, err := os.ReadFile(box.Path("config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("backoff_min: 50ms", "backoff_min: 5ms", "backoff_max: 2s", "backoff_max: 50ms",
		"lookup_settle: 1s", "lookup_settle: 300ms").Replace(string(b))
	name := box.Path("kill.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func checkKilled(t *testing.T, box *sandbox.Sandbox, want map[string]string, files, rows int) {
	state, err := apiState(box.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	bills := map[string]int{}
	amounts := map[string]int64{}
	for _, b := range state.Bills {
		bills[b.ExternalReference]++
		amounts[b.ExternalReference] = b.AmountDue
	}
	duplicates, lost := 0, 0
	for ref := range want {
		switch n := bills[ref]; {
		case n > 1:
			duplicates++
		case n == 0:
			lost++
		}
	}
	if duplicates > 0 || lost > 0 || len(state.Bills) != len(want) {
		t.Errorf("%d duplicates, %d lost; %d bills for %d rows", duplicates, lost, len(state.Bills), len(want))
	}
	parties := map[string]int{}
	for _, c := range state.Customers {
		parties[c.ExternalReference]++
	}
	for ref, n := range parties {
		if n > 1 {
			t.Errorf("customer %s was created %d times", ref, n)
		}
	}
	reports, err := filepath.Glob(box.Path("results/*.results.csv"))
	if err != nil || len(reports) != files {
		t.Errorf("%d results files for %d files (%v)", len(reports), files, err)
	}
	for _, name := range reports {
		checkResults(t, name, rows, want, amounts)
	}
	for _, dir := range []string{"inbox/*.csv", "processing/*", "rejected/*", "spool/*.*", "spool/orders/*", "results/*.part", "results/.*"} {
		if left, _ := filepath.Glob(box.Path(dir)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// checkResults checks one report against the API, row by row and in its summary.
func checkResults(t *testing.T, name string, rows int, want map[string]string, amounts map[string]int64) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil || len(records) != rows+1 {
		t.Fatalf("%s: %d lines (%v)", name, len(records), err)
	}
	var sum int64
	for i, r := range records[1:] {
		if r[0] != fmt.Sprint(i+2) || r[2] != "created" || want[r[1]] == "" || fmt.Sprint(amounts[r[1]]) != r[9] {
			t.Errorf("%s: %v", filepath.Base(name), r)
		}
		sum += amounts[r[1]]
	}
	b, err := os.ReadFile(strings.TrimSuffix(name, ".results.csv") + ".summary.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := report.Parse(b)
	if err != nil || s.Rows.By["created"] != rows || s.Amounts["ZAR"]["created"] != sum {
		t.Errorf("%s: summary says %v, %v (%v)", filepath.Base(name), s.Rows.By, s.Amounts, err)
	}
}
