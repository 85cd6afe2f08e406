package main

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"billdrop/client/emulator"
)

// TestPaymentsKillLoop kills `receive` and `run --once` with SIGKILL at random moments, while
// events are delivered and reported. None is lost and none stands in two reports.
func TestPaymentsKillLoop(t *testing.T) {
	t.Parallel()
	box, conf, address := payingSite(t, emulator.HookConfig{Twice: true, Backoff: 20 * time.Millisecond})
	if out, err := billdrop(t, "run", "--once", "--config", conf).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	drop(t, box, "bills.csv", string(numberedBills(200)))
	if out, err := billdrop(t, "run", "--once", "--config", conf).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sent := map[string]int64{}
	deadline := func(cmd *exec.Cmd, within time.Duration) (end func() (killed bool)) {
		timer := time.AfterFunc(time.Duration(rand.Int64N(int64(within))), func() { _ = cmd.Process.Kill() })
		return func() bool { _ = cmd.Wait(); return timer.Stop() == false && cmd.ProcessState.ExitCode() == -1 }
	}
	killed := 0
	for round := 0; killed < *kills; round++ {
		receiver, _ := background(t, "receive", "--config", conf)
		endReceiver := deadline(receiver, 600*time.Millisecond)
		runner, _ := background(t, "run", "--once", "--no-progress", "--config", conf)
		endRunner := deadline(runner, 600*time.Millisecond)
		for range 5 {
			amount := 1 + rand.Int64N(5)
			as := []string{emulator.AsBill, emulator.AsAccount}[rand.IntN(2)]
			if p, err := box.API.Pay(fmt.Sprintf("INV-%05d", rand.IntN(200)), amount, as); err == nil {
				sent[p.EventID] = amount
			}
		}
		for _, end := range []func() bool{endReceiver, endRunner} {
			if end() {
				killed++
			}
		}
	}
	receiver, stderr := background(t, "receive", "--config", conf)
	listens(t, address)
	await(t, func() bool { return box.Acknowledged() == int64(len(sent)) })
	await(t, func() bool { // a report a second at most
		if out, err := billdrop(t, "run", "--once", "--config", conf).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		lines := 0
		for _, records := range paymentLines(t, box) {
			lines += len(records)
		}
		return lines >= len(sent)
	})
	terminate(t, receiver)
	reports := paymentLines(t, box)
	eachOnce(t, sent, reports)
	if t.Failed() {
		t.Logf("the receiver said: %s", stderr)
	}
	if left, _ := filepath.Glob(box.Path("payments/.*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Logf("%d kills, %d events, %d reports", killed, len(sent), len(reports))
}
