package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"billdrop/client/emulator"
)

// TestCollectedReports: another program takes every report away the moment it appears, as
// transfer products do. The run is a success, and so is the next one.
func TestCollectedReports(t *testing.T) {
	t.Parallel()
	box := startSite(t, emulator.Config{Seed: 1})
	var collected []string
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			names, _ := filepath.Glob(box.Path("results/[^.]*")) // the pattern is good
			for _, name := range names {
				if os.Remove(name) == nil {
					collected = append(collected, filepath.Base(name))
				}
			}
		}
	}()
	for _, name := range []string{"november", "december"} {
		drop(t, box, name+".csv", string(numberedBills(20)))
		if out, err := billdrop(t, "run", "--once", "--config", box.Path("config.yaml")).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	await(t, func() bool { left, err := os.ReadDir(box.Path("results")); return err == nil && len(left) == 0 })
	close(stop)
	<-done
	for _, kind := range []string{"ack.json", "results.csv", "summary.json"} {
		n := 0
		for _, name := range slices.Compact(collected) {
			if ok, _ := filepath.Match("*."+kind, name); ok {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d × %s, want 2: %q", n, kind, collected)
		}
	}
}
