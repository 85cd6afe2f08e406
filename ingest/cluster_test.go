package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
)

// One file is sent by four workers as by one: one POST a row, no look-up, each party once.
func TestClusterCleanRun(t *testing.T) {
	const rows, parties = 4000, 700
	content := manyBills(1, rows, parties)
	for name, arrange := range map[string]func(*cluster){
		"handed out":       func(*cluster) {},
		"each hint twice":  func(c *cluster) { c.hub.times = 2 },
		"found by looking": func(c *cluster) { c.hub = nil },
		"hints get lost":   func(c *cluster) { c.hub.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				arrange(c)
				defer c.stop()
				c.start(4)
				time.Sleep(5 * time.Second)
				c.world.files.put("/inbox/a.csv", []byte(content))
				began := time.Now()
				got := c.finished("a.csv", content, 2*time.Minute)
				c.check(got, rows, parties)
				if posts, gets := c.requests(); posts != rows || gets != 0 {
					t.Errorf("%d POSTs and %d GETs for %d rows", posts, gets, rows)
				}
				t.Logf("%s", time.Since(began))
				shares := make(map[string]int)
				for _, w := range c.workers {
					shares[w.Member.Name] = w.p.count("post ")
				}
				t.Logf("%v", shares)
				for name, n := range shares {
					if n < rows/10 {
						t.Errorf("%s sent %d of %d rows", name, n, rows)
					}
				}
			})
		})
	}
}

// Single rounds of several machines at once do each file once, and import leaves a file
// to its machine.
func TestClusterSingleRounds(t *testing.T) {
	const rows = 2200
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		var contents []string
		for i := range 3 {
			contents = append(contents, manyBills(1+i*rows, rows-1100*(i%2), 50))
			c.world.files.put(fmt.Sprintf("/inbox/%c.csv", 'a'+i), []byte(contents[i]))
		}
		var mu sync.Mutex
		var reported []string
		for range 3 {
			c.add(func(w *clusterWorker, ctx context.Context) error {
				summaries, err := w.Poll(ctx)
				mu.Lock()
				defer mu.Unlock()
				for _, s := range summaries {
					reported = append(reported, s.File)
				}
				return err
			})
		}
		for _, w := range c.workers {
			if <-w.ended; w.err != nil {
				t.Errorf("%s: %v", w.Member.Name, w.err)
			}
		}
		slices.Sort(reported)
		if got := strings.Join(reported, " "); got != "a.csv b.csv c.csv" {
			t.Errorf("reported: %s", got)
		}
		for i, content := range contents {
			c.finished(fmt.Sprintf("%c.csv", 'a'+i), content, time.Second)
		}
		want := rows + rows - 1100 + rows
		if posts, gets := c.requests(); posts != want || gets != 0 {
			t.Errorf("%d POSTs and %d GETs for %d rows", posts, gets, want)
		}
	})
}

// Rows that wait for a look-up do not keep a worker from other parts.
func TestClusterIdleParts(t *testing.T) {
	const rows = 3000
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		c.world.script = func(call emulator.Call) emulator.Fault {
			if strings.HasSuffix(call.Reference, "50") && call.Method == "POST" && call.NthRef == 1 {
				return emulator.Fault{Garbage: true} // unreadable, so the bill is looked up twice, a minute apart
			}
			return emulator.Fault{}
		}
		c.start(1)
		c.world.files.put("/inbox/a.csv", []byte(content))
		began := time.Now()
		c.check(c.finished("a.csv", content, time.Hour), rows, rows)
		if took := time.Since(began); took > 4*c.policy.LookupSettle {
			t.Errorf("%s: parts have waited for each other", took)
		}
	})
}
