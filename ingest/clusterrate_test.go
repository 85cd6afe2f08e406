package ingest

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"billdrop/client/emulator"
	"billdrop/ingest/ledger/ledgertest"
)

// The limit of the rate holds for all workers together, and so does a pause that the API asks for.
func TestClusterRate(t *testing.T) {
	const rows, limit = 3000, 50
	content := manyBills(1, rows, rows)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.policy.RateLimit = limit
		var mu sync.Mutex
		var at []time.Time
		throttled := false
		var pausedAt time.Time
		c.world.script = func(emulator.Call) emulator.Fault {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			if len(at) > rows/2 && !throttled {
				throttled, pausedAt = true, time.Now()
				return emulator.Fault{Status: 429, RetryAfter: "7"}
			}
			return emulator.Fault{}
		}
		defer c.stop()
		c.start(4)
		for i, w := range c.workers { // each as far from the database as another network is
			w.handle.Network(func(string) ledgertest.Trouble {
				return ledgertest.Trouble{Late: time.Duration(1+3*i) * time.Millisecond}
			})
		}
		time.Sleep(5 * time.Second)
		c.world.files.put("/inbox/a.csv", []byte(content))
		c.check(c.finished("a.csv", content, 5*time.Minute), rows, rows)
		most, first := 0, 0
		for last := range at {
			for at[last].Sub(at[first]) >= time.Second {
				first++
			}
			most = max(most, last-first+1)
		}
		if took := at[len(at)-1].Sub(at[0]); most > limit*110/100 || took > (rows/limit*12/10+8)*time.Second {
			t.Errorf("at most %d requests in a second, and %s for all", most, took)
		} else {
			t.Logf("at most %d requests in a second, and %s for all", most, took)
		}
		for _, a := range at {
			if d := a.Sub(pausedAt); d > time.Second && d < 7*time.Second {
				t.Fatalf("a request %s after the API asked for a pause of 7s", d)
			}
		}
	})
}
